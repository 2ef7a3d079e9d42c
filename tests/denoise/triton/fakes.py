"""Servers and a clock for the engine that do what a test says, and nothing by themselves."""

import grpc
import numpy as np
from tritonclient.grpc import service_pb2

from gateway.denoise.triton import engine as engine_module
from gateway.denoise.triton.engine import TritonEngine
from gateway.denoise.triton.wire import DTYPES, OUTPUTS

HOP = 80


class Clock:
    """Seconds, monotonic."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Call:
    """A request on its way, as grpc's future."""

    def __init__(self, message, done) -> None:
        self._message, self._ended = message, done
        self._answer = self._error = None

    def tensor(self, name: str):
        """What was sent, flat."""
        names = [each.name for each in self._message.inputs]
        return np.frombuffer(self._message.raw_input_contents[names.index(name)], DTYPES[name])

    def answer(self, epoch: int, shift: int = 0, probability: float = 0.0) -> None:
        """With the audio as it was; shift: of the batch's number, which is wrong then."""
        batch_id, slots = self.tensor("BATCH")[0] + shift, np.repeat(self.tensor("SLOTS"), self.tensor("COUNTS"))
        pcm = self.tensor("PCM").reshape(-1, HOP)
        named = np.concatenate([[batch_id, epoch], slots])
        made = {"BATCH": named, "PCM": pcm, "PROB": np.full((len(pcm), 4), probability)}
        self._answer = service_pb2.ModelInferResponse()
        for name, (kind, dtype) in OUTPUTS.items():
            self._answer.outputs.add(name=name, datatype=kind, shape=[1, *made[name].shape])
            self._answer.raw_output_contents.append(made[name].astype(dtype).tobytes())
        self._ended(self)

    def fail(self, code=grpc.StatusCode.UNAVAILABLE) -> None:
        self._error = Refusal(code)
        self._ended(self)

    def done(self) -> bool:
        return self._answer is not None or self._error is not None

    def cancelled(self) -> bool:
        return False

    def exception(self, timeout=None):
        if not self.done():
            raise grpc.FutureTimeoutError
        return self._error

    def result(self):
        return self._answer


class Refusal(grpc.RpcError):
    """What grpc says of a request that failed."""

    def __init__(self, code) -> None:
        self._code = code

    def code(self):
        return self._code

    def details(self) -> str:
        return "gone"


class FakeLink:
    """A server that is there when `come` says so; what it is sent waits in `calls`."""

    def __init__(self, endpoint, model, wanted) -> None:
        self.endpoint = endpoint
        self.ready, self.ready_since, self.fault = False, 0.0, "away"
        self.calls: list[Call] = []
        self.failures: list[str] = []
        self.slow, self.serving = 0, False

    def come(self, now: float) -> None:
        self.ready, self.ready_since = True, now

    def tend(self, now: float, serving: bool) -> None:
        self.serving = serving

    def opened(self) -> None:
        self.fault = ""

    def send(self, message, timeout_s, done) -> Call:
        self.calls.append(Call(message, done))
        return self.calls[-1]

    def failed(self, reason: str, now: float, bad: bool = False, slow: bool = False) -> None:
        self.ready, self.fault = False, reason
        self.slow += slow
        self.failures.append(reason)


class Site:
    """An engine with servers that are away."""

    def __init__(self, monkeypatch, servers: int = 1, deadline_s: float = 0.015) -> None:
        monkeypatch.setattr(engine_module, "Link", FakeLink)
        self.clock = Clock()
        names = tuple(f"server{number}:8001" for number in range(servers))
        self.engine = TritonEngine(names, ("light_8k", ""), 8000, 8, deadline_s, self.clock)
        self.links = self.engine._links

    def tend(self, seconds: float = 0.03) -> None:
        """The loop's next look, so much later."""
        self.clock.now += seconds
        self.engine.tend(self.clock.now)

    def serve(self, number: int = 0, epoch: int = 1) -> FakeLink:
        """This server comes, and takes the rows at once."""
        link = self.links[number]
        link.come(self.clock.now)
        self.tend()
        link.calls[-1].answer(epoch)
        self.tend()
        assert self.engine._link is link
        return link

    def send(self, *slots: int):
        """A frame of each slot (0 when none is named) goes out; its ticket."""
        rows = np.array(slots or [0])
        frames, control = np.full((len(rows), 1, HOP), 0.25, np.float32), np.ones((len(rows), 2), np.float32)
        ticket = self.engine.submit(rows, frames, np.ones(len(rows), int), control)
        self.engine.flush()
        return ticket

    def collect(self, ticket):
        return self.engine.collect(ticket, np.inf)
