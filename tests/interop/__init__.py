"""A package, so that test modules here may have the same names as others."""
