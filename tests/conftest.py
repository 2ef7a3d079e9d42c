"""For all tests."""

from hypothesis import settings

# No test fails because its machine is slow: speed is a matter of benchmarks.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
