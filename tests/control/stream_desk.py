"""A desk without a gateway: its clock stands until it is moved, and its media plane answers when it is asked to."""

from dataclasses import dataclass, field

from gateway._pb import denoise_pb2 as pb
from gateway.config import Config, GrpcConfig
from gateway.control.stream_pace import Credits
from gateway.control.stream_rows import Treatment
from gateway.control.stream_session import Desk, Session

BEGIN = pb.DenoiseRequest(configuration=pb.Configuration(sample_rate_hz=8000))
BAD = pb.DenoiseRequest(configuration=pb.Configuration(sample_rate_hz=8000, label="bad"))
SECOND = 16000
"""Bytes of it."""


def spoil(monkeypatch, method: str, label: str = "bad") -> None:
    """A fault of ours in this method of the sessions of this label."""
    right = getattr(Session, method)

    def wrong(self: Session, *given):
        if self._configuration.label == label:
            raise IndexError("list index out of range")
        return right(self, *given)

    monkeypatch.setattr(Session, method, wrong)


def audio(size: int) -> pb.DenoiseRequest:
    return pb.DenoiseRequest(audio=bytes(size))


@dataclass(eq=False)
class FakeLeg:
    call_id: str
    receive: object
    treatment: Treatment
    sent: list[bytes] = field(default_factory=list)

    def send(self, packet: bytes) -> None:
        self.sent.append(packet)


class FakeLegs:
    """Legs whose media plane is an echo."""

    def __init__(self) -> None:
        self.open_legs: list[FakeLeg] = []
        self._credits = Credits(lambda: 0.6, lambda: 1000, lambda *_: None)

    def open(self, label, coding, treatment, receive, refuse) -> FakeLeg:
        self.open_legs.append(FakeLeg(label, receive, treatment))
        return self.open_legs[-1]

    def close(self, leg: FakeLeg) -> None:
        self.open_legs.remove(leg)

    def credits(self, leg: FakeLeg) -> Credits:
        return self._credits

    def answer(self, now: float) -> None:
        for leg in list(self.open_legs):
            sent, leg.sent = leg.sent, []
            for packet in sent:
                leg.receive(packet, now)


class FakeDesk(Desk):
    """Time passes in `wait` alone."""

    def __init__(self, **grpc) -> None:
        self.now, self.fakes = 0.0, FakeLegs()
        super().__init__(Config(grpc=GrpcConfig(**grpc)), self.fakes, lambda: {8000: 80}, lambda: self.now)

    def wait(self, seconds: float) -> None:
        """Ticks, as the server does."""
        for _ in range(round(seconds * 10)):
            self.now += 0.1
            self.tick()
