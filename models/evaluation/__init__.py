"""Test clips, engines to compare, measures, and tables of them."""
