"""The client side of a stream measurement, in a process of its own: real-time streams, and how long each frame takes.

`python -m loadtest.stream_client` reads its orders as JSON from stdin and prints its result as JSON.
"""

import json
import select
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import numpy as np

from gateway._pb import denoise_pb2 as pb
from loadtest.h2 import Connection
from loadtest.material import Material

PATH = "/denoise.v1.DenoiseService/"
START_S = 5.0
TAIL_S = 3.0
MATERIAL_FRAMES = 500
"""Of 20 ms: what each stream repeats."""


@dataclass(frozen=True, slots=True)
class Orders:
    """What to do."""

    host: str
    port: int
    streams: int
    frame_ms: int
    seconds: float
    warm_s: float
    mux: bool


@dataclass(slots=True)
class Result:
    """What came of it."""

    frames: int = 0
    lost: int = 0
    late_sends: int = 0
    """Frames that went out more than 5 ms after their time: the generator's own fault."""
    ended: int = 0
    """Streams that ended too early."""
    blocked: int = 0
    """Frames that flow control did not let out."""
    percentiles_ms: list[float] = field(default_factory=list)
    """50, 99, 99.9 of the round trip, beside the algorithmic delay."""
    cpu_s: float = 0.0
    seconds: float = 0.0


@dataclass(slots=True)
class Call:
    """One stream."""

    stream: int
    number: int
    audio: bytes
    due_s: float
    frames: int = 0
    sent_s: deque[float] = field(default_factory=deque)
    bytes_back: int = 0
    started: bool = False


class Run:
    """All streams of one connection."""

    def __init__(self, orders: Orders) -> None:
        self.orders, self.result = orders, Result()
        self._size = 8 * orders.frame_ms
        self._period_s = orders.frame_ms / 1000
        self._connection = Connection(orders.host, orders.port)
        self._latencies: list[float] = []
        self._measuring = False
        material = Material()
        shared = self._connection.open(PATH + "DenoiseMux") if orders.mux else 0
        self._calls = [
            Call(
                shared or self._connection.open(PATH + "DenoiseStream"),
                i,
                bytes(material.pcmu(i, MATERIAL_FRAMES)),
                0.0,
            )
            for i in range(orders.streams)
        ]
        self._by_key = {(call.number if orders.mux else call.stream): call for call in self._calls}
        self._epoll = select.epoll()
        self._epoll.register(self._connection.socket.fileno(), select.EPOLLIN)

    def run(self) -> Result:
        """Begin all streams, send in real time, and measure."""
        configuration = pb.Configuration(sample_rate_hz=8000, encoding=pb.ENCODING_MULAW)
        self._send([(call, pb.DenoiseRequest(configuration=configuration)) for call in self._calls])
        self._until(time.monotonic() + START_S, lambda: all(call.started for call in self._calls))
        begun = time.monotonic() + 0.05
        for i, call in enumerate(self._calls):
            call.due_s = begun + self._period_s * i / len(self._calls)
        self._talk(begun + self.orders.warm_s)
        self._measuring, self.result.frames = True, 0
        cpu_s, at_s = time.process_time(), time.monotonic()
        print(json.dumps({"measuring": True}), flush=True)
        self._talk(at_s + self.orders.seconds)
        self.result.cpu_s, self.result.seconds = time.process_time() - cpu_s, time.monotonic() - at_s
        print(json.dumps({"measuring": False}), flush=True)
        self._until(time.monotonic() + TAIL_S, lambda: not any(call.sent_s for call in self._calls))
        self.result.lost = sum(len(call.sent_s) for call in self._calls)
        self.result.ended = len(self._connection.ended)
        if self._latencies:
            self.result.percentiles_ms = np.percentile(np.array(self._latencies) * 1000, [50, 99, 99.9]).tolist()
        return self.result

    def _talk(self, until_s: float) -> None:
        """Send every frame when it is due, and read meanwhile."""
        while (now := time.monotonic()) < until_s:
            due = [call for call in self._calls if call.due_s <= now]
            if due:
                self._send([(call, pb.DenoiseRequest(audio=self._next(call, now))) for call in due])
            self._receive(0.0005)

    def _next(self, call: Call, now: float) -> bytes:
        at = call.frames * self._size % (len(call.audio) - self._size)
        call.frames += 1
        self.result.frames += 1
        self.result.late_sends += now - call.due_s > 0.005 and self._measuring
        call.sent_s.append(now)
        call.due_s += self._period_s
        return call.audio[at : at + self._size]

    def _send(self, requests: list[tuple[Call, pb.DenoiseRequest]]) -> None:
        if self.orders.mux:
            message = pb.DenoiseMuxRequest()
            for call, request in requests:
                message.requests.add(stream_id=call.number, request=request)
            bodies = [(requests[0][0].stream, message.SerializeToString())]
        else:
            bodies = [(call.stream, request.SerializeToString()) for call, request in requests]
        for stream, body in bodies:
            self.result.blocked += not self._connection.send(stream, body)
        self._connection.flush()

    def _receive(self, timeout_s: float) -> None:
        if not self._epoll.poll(timeout_s):
            return
        messages = self._connection.receive()
        now = time.monotonic()
        for stream, body in messages:
            if self.orders.mux:
                for each in pb.DenoiseMuxResponse.FromString(body).responses:
                    self._heard(self._by_key[each.stream_id], each.response, now)
            else:
                self._heard(self._by_key[stream], pb.DenoiseResponse.FromString(body), now)

    def _heard(self, call: Call, response: pb.DenoiseResponse, now: float) -> None:
        call.started = True
        call.bytes_back += len(response.audio)
        while call.bytes_back >= self._size and call.sent_s:
            call.bytes_back -= self._size
            sent_s = call.sent_s.popleft()
            if self._measuring:
                self._latencies.append(now - sent_s)

    def _until(self, deadline_s: float, done: Callable[[], object]) -> None:
        while time.monotonic() < deadline_s and not done():
            self._receive(0.01)


def main() -> None:
    """Follow the orders on stdin."""
    result = Run(Orders(**json.loads(sys.stdin.readline()))).run()
    print(json.dumps(asdict(result)), flush=True)


if __name__ == "__main__":
    main()
