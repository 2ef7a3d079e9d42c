"""The remote engine: batches of a worker go to NVIDIA Triton, which keeps the state of all its calls on the device."""
