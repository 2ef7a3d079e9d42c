"""System shared memory between a client and the Triton server of its machine, to measure whether it pays."""

from multiprocessing.shared_memory import SharedMemory
from typing import Any

from tritonclient.grpc import service_pb2

ALIGNMENT = 64


class Region:
    """Memory that both ends map: inputs in its first half, outputs in its second. For one request at a time."""

    def __init__(self, stub: Any, size: int) -> None:
        """stub: of the server, which maps it too; size: bytes."""
        self._memory = SharedMemory(create=True, size=size)
        self._name, self._half = self._memory.name, size // 2
        stub.SystemSharedMemoryRegister(
            service_pb2.SystemSharedMemoryRegisterRequest(name=self._name, key=f"/{self._name}", byte_size=size)
        )

    def moved(self, message: Any, outputs: dict[str, int]) -> Any:
        """The ModelInferRequest with its content in the region. outputs: bytes that each will have at most."""
        at = 0
        for tensor, content in zip(message.inputs, message.raw_input_contents, strict=True):
            self._memory.buf[at : at + len(content)] = content
            at = self._place(tensor, at, len(content))
        at = self._half
        for tensor in message.outputs:
            at = self._place(tensor, at, outputs[tensor.name])
        del message.raw_input_contents[:]
        return message

    def _place(self, tensor: Any, at: int, size: int) -> int:
        tensor.parameters["shared_memory_region"].string_param = self._name
        tensor.parameters["shared_memory_offset"].int64_param = at
        tensor.parameters["shared_memory_byte_size"].int64_param = size
        return at + -(-size // ALIGNMENT) * ALIGNMENT

    def close(self) -> None:
        """Let go. A server keeps what it has mapped until it ends: it refuses to let go for a while after an answer."""
        self._memory.close()
        self._memory.unlink()
