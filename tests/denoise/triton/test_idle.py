"""The engine while nobody calls, against a server of a few lines and a clock that is moved by hand."""

from concurrent.futures import Future

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from gateway.denoise.triton import wire
from gateway.denoise.triton.engine import KEEP_S, TritonEngine
from gateway.denoise.triton.export import IDLE_MICROSECONDS

SLOTS, HOP = 4, 80
IDLE_S = IDLE_MICROSECONDS / 1e6


class RefusedError(Exception):
    """What a future of gRPC has for an exception."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self._code, self._text = code, text

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._text


class Server:
    """Link and server in one: gives audio back as it came, and ends sequences that are idle for too long."""

    endpoint = "10.0.0.9:8001"

    def __init__(self) -> None:
        self.now = 0.0
        self.ready, self.fault, self.dead = True, "", False
        self.epoch = self.started = 0
        self._used_s: dict[int, float] = {}

    def tend(self, now: float, serving: bool) -> None:
        """It stays as it is."""

    def opened(self) -> None:
        """It is glad."""

    def failed(self, reason: str, now: float, bad: bool = False, slow: bool = False) -> None:
        self.ready, self.fault = False, reason

    def send(self, message, timeout_s: float, done) -> Future:
        future: Future = Future()
        try:
            future.set_result(self._infer(message))
        except RefusedError as error:
            future.set_exception(error)
        done(future)
        return future

    def forget(self) -> None:
        """The sequence is gone, as after a restart."""
        self._used_s.clear()

    def _infer(self, message):
        if self.dead:
            raise RefusedError(grpc.StatusCode.UNAVAILABLE, "connection refused")
        sequence = message.parameters["sequence_id"].int64_param
        if message.parameters["sequence_start"].bool_param:
            self.epoch += 1
            self.started += 1
        elif self.now - self._used_s.get(sequence, -np.inf) > IDLE_S:
            raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, "must specify the START flag on the first request")
        self._used_s[sequence] = self.now
        batch, slots, _, pcm, *_ = (
            np.frombuffer(raw, kind) for raw, kind in zip(message.raw_input_contents, wire.DTYPES.values(), strict=True)
        )
        return answer(int(batch[0]), self.epoch, slots, pcm.reshape(-1, HOP))


def answer(batch_id: int, epoch: int, slots: np.ndarray, pcm: np.ndarray):
    """Of a batch of one frame a slot."""
    made = service_pb2.ModelInferResponse()
    values = {"BATCH": np.array([batch_id, epoch, *slots]), "PCM": pcm, "PROB": np.full((len(pcm), 4), 0.25)}
    for name, (type_name, dtype) in wire.OUTPUTS.items():
        value = values[name].astype(dtype)[None]
        made.outputs.add(name=name, datatype=type_name, shape=value.shape)
        made.raw_output_contents.append(value.tobytes())
    return made


class Bench:
    """An engine with one server, which has denoised a batch."""

    def __init__(self) -> None:
        self.server = Server()
        self.engine = TritonEngine(
            (self.server.endpoint,), ("light_8k", ""), 8000, SLOTS, 0.015, clock=lambda: self.server.now
        )
        self.engine._links = [self.server]
        self.wait(1.0)
        self.call()

    def wait(self, seconds: float) -> None:
        """Turns of the worker's loop without packets."""
        for _ in range(round(seconds / 0.5)):
            self.server.now += 0.5
            self.engine.tend(self.server.now)

    def call(self) -> np.ndarray:
        """A frame of one leg; EngineError where it leaves dry."""
        frames = np.full((1, 1, HOP), 0.5, np.float32)
        ticket = self.engine.submit(np.array([1]), frames, np.array([1]), np.array([[0.1, 1.0]], np.float32))
        return self.engine.collect(ticket, np.inf).frames


@pytest.fixture
def bench():
    return Bench()


def test_a_call_after_a_long_silence_is_denoised_at_once_and_no_row_was_lost(bench):
    epoch = bench.engine.epoch
    bench.wait(5 * IDLE_S)
    np.testing.assert_array_equal(bench.call(), 0.5)
    assert (bench.engine.epoch, bench.server.started, bench.engine.counters["failed"]) == (epoch, 1, 0)


def test_a_server_that_dies_while_nobody_calls_is_noticed(bench):
    bench.wait(3 * KEEP_S)
    bench.server.dead = True
    bench.wait(KEEP_S + 1.0)
    assert "UNAVAILABLE: connection refused" in bench.engine.fault and bench.engine.counters["failed"] == 1


def test_a_sequence_that_ended_while_nobody_called_begins_anew_and_is_no_failure(bench):
    epoch = bench.engine.epoch
    bench.server.forget()
    bench.wait(KEEP_S + 1.0)
    np.testing.assert_array_equal(bench.call(), 0.5)
    assert bench.engine.epoch > epoch and (bench.server.started, bench.engine.counters["failed"]) == (2, 0)


def test_while_calls_run_nothing_else_is_sent(bench):
    before = bench.engine._ids
    for _ in range(100):
        bench.wait(1.0)
        bench.call()
    assert bench.engine._ids == before + 200  # a part and its batch
