"""Generated from proto/denoise.proto by `make proto`; see there."""
