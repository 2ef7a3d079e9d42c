"""The remote engine: batches of a worker go to NVIDIA Triton, which keeps the state of all its calls on the device."""

WIRE = 2
"""Version of what requests and answers hold; `wire` and `model` must agree, and a server says which it speaks."""
