"""One Triton server as a worker sees it: whether it is there and serves the right model, asked again with back-off.

Nothing here waits: questions go out as futures, and `tend` looks at what became of them.
"""

import queue
from collections.abc import Callable
from typing import Any

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from gateway.denoise.triton import wire

FIRST_RETRY_S, LAST_RETRY_S = 0.1, 1.0
SLOW_RETRY_S = 4.0
"""Longest between two questions to a server that is slow again and again: each trial may cost its calls dry audio."""
BAD_RETRY_S = 60.0
"""A server whose answers are wrong again and again is asked this seldom; one with another model as one that is away."""
BAD_ANSWERS = 3
PROBE_TIMEOUT_S = 1.0
IDLE_S = 2.0
"""How often the stream that carries nothing is opened anew."""
CALM_S = 10.0
"""A server that has been there for so long starts again with the shortest back-off, and its last fault is history;
longer than a worker takes to move back to it."""
STANDBY_S = 5.0
"""How often a server that is there and has no rows of ours is asked whether it still is."""
OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.use_local_subchannel_pool", 1),
]


class Link:
    """A server, from the first question to the last."""

    def __init__(self, endpoint: str, model: tuple[str, str], wanted: wire.Wanted) -> None:
        """endpoint: `host:port` of Triton's gRPC; model: name and version, which may be empty."""
        self.endpoint, self._model, self._wanted = endpoint, model, wanted
        self.ready = False
        """The server is there and its model is right."""
        self.fault = ""
        """Why it was of no use, until it has shown that it is: what fails at batches may well answer questions."""
        self._channel: Any = None
        self._stub: Any = None
        self._probe: Any = None
        self._idle: Any = None
        self._idle_ends: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._idle_until_s = 0.0
        self.ready_since = 0.0
        self._ask_s, self._backoff_s = 0.0, FIRST_RETRY_S
        self._bad = 0

    def tend(self, now: float, serving: bool) -> None:
        """Ask when it is time, and take the answer when it is there. serving: its batches say how it is."""
        if self.ready and now >= self._idle_until_s:
            self._stay_awake(now)
        if self.ready and now - self.ready_since >= CALM_S:
            self.fault = ""
        if self.ready and serving:
            self._probe = None
        elif self._probe is None and now >= self._ask_s:
            self._ask()
        elif self._probe is not None and self._probe.done():
            probe, self._probe = self._probe, None
            self._judge(probe, now)

    def _ask(self) -> None:
        if not self.ready:
            self._connect()
        question = service_pb2.ModelConfigRequest(name=self._model[0], version=self._model[1])
        self._probe = self._stub.ModelConfig.future(question, timeout=PROBE_TIMEOUT_S)

    def _judge(self, probe: Any, now: float) -> None:
        reason = refusal(probe) or wire.mismatch(probe.result().config, self._wanted)
        if reason:
            self.failed(reason, now)
            return
        self._ask_s = now + STANDBY_S
        if not self.ready:
            self.ready, self.ready_since = True, now
            self._stay_awake(now)

    def opened(self) -> None:
        """It has begun a sequence of ours as it should."""
        self.fault = ""

    def _stay_awake(self, now: float) -> None:
        """Open a stream that carries nothing: gRPC keeps the thread that takes answers as long as any call is under
        way, and would otherwise start a new one for each batch. A short one, for a server that is to end waits for it.
        """
        before, self._idle_ends = self._idle_ends, queue.SimpleQueue()
        self._idle = self._stub.ModelStreamInfer(iter(self._idle_ends.get, None), timeout=2 * IDLE_S)
        self._idle_until_s = now + IDLE_S
        before.put(None)  # ends the stream before, and the thread that would read its requests

    def send(self, message: Any, timeout_s: float, done: Callable[[Any], None]) -> Any:
        """Send a ModelInferRequest; done is called, on another thread, when the answer is there."""
        future = self._stub.ModelInfer.future(message, timeout=timeout_s)
        future.add_done_callback(done)
        return future

    def failed(self, reason: str, now: float, bad: bool = False, slow: bool = False) -> None:
        """Do not use it for a while. bad: what it answered was wrong, rather than nothing; slow: it came too late."""
        if self.ready and now - self.ready_since > CALM_S:
            self._backoff_s, self._bad = FIRST_RETRY_S, 0
        self._bad += bad
        self.ready, self.fault, self._probe = False, reason, None
        longest_s = SLOW_RETRY_S if slow else LAST_RETRY_S
        wait_s = min(self._backoff_s, longest_s)
        self._backoff_s = min(2 * wait_s, longest_s)
        if self._bad >= BAD_ANSWERS:
            self.fault += f" ({self._bad} times: its model is taken for broken and asked again every {BAD_RETRY_S:g} s)"
            wait_s = BAD_RETRY_S
        self._ask_s = now + wait_s

    def _connect(self) -> None:
        """A channel of its own each time: an old one may hang on a connection that nobody answers any more."""
        self._disconnect()
        self._channel = grpc.insecure_channel(self.endpoint, OPTIONS)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    def _disconnect(self) -> None:
        self._idle_ends.put(None)
        if self._channel is not None:
            self._channel.close()
        self._channel = self._idle = None

    def close(self) -> None:
        """Let go."""
        self._disconnect()
        self.ready = False


def refusal(future: Any) -> str:
    """Why a request that has ended brought no answer; empty when it did."""
    if future.cancelled():
        return "the connection was closed"
    error = future.exception()
    return explain(error) if error is not None else ""


def explain(error: Any) -> str:
    """A gRPC error in a line."""
    code, details = error.code(), (error.details() or "").strip()
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return "it does not answer"
    return " ".join(f"{code.name}: {details}".split())[:300]
