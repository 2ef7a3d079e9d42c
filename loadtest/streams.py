"""How many real-time streams does the gateway carry over gRPC? The stages of `python -m loadtest grpc`.

The gateway runs as a black box with one control process and one media process; the client is a process of its own.
"""

import json
import socket
import subprocess
import sys
from dataclasses import asdict, dataclass

from loadtest import processes
from loadtest.peers import HOST, Gateway
from loadtest.stream_client import Orders

LIMIT_MS = 35.0
WARM_S = 2.0
STAGES = ((80, 10, False), (300, 60, False), (300, 20, True))
"""Streams, milliseconds a frame, multiplexed."""
HEAD = "streams  frame  mode    round trip p50 / p99 / p99.9 ms    lost  control  media  client  verdict"


@dataclass(frozen=True, slots=True)
class Uploaded:
    """What all uploads together got through."""

    rate: float = 0.0
    """Seconds of audio a second."""
    cpu: float = 0.0
    """Share of a core that their client took."""
    ended: int = 0
    """Uploads that the gateway ended."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One measurement."""

    streams: int
    frame_ms: int
    mux: bool
    seconds: float
    frames: int
    lost: int
    late_sends: int
    blocked: int
    ended: int
    percentiles_ms: list[float]
    control_cpu: float
    """Share of a core, as the next two."""
    media_cpu: float
    client_cpu: float
    uploads: int = 0
    uploaded: Uploaded = Uploaded()

    @property
    def p99_ms(self) -> float:
        """Of the round trip; of a stream that gave nothing back, all patience."""
        return self.percentiles_ms[1] if self.percentiles_ms else float("inf")

    @property
    def holds(self) -> bool:
        """Nothing lost, and within the limit."""
        whole = not (self.lost or self.ended or self.blocked) and bool(self.percentiles_ms)
        return whole and self.percentiles_ms[1] <= LIMIT_MS

    def line(self) -> str:
        """For a person to read."""
        trip = " / ".join(f"{value:.1f}" for value in self.percentiles_ms) or "none came back"
        verdict = "holds" if self.holds else "does not hold"
        if self.late_sends > self.frames / 100:
            verdict += f"; doubtful: {self.late_sends / self.frames:.0%} of the frames were sent more than 5 ms late"
        with_uploads = beside(self.uploads, self.uploaded)
        return (
            f"{self.streams:7}  {self.frame_ms:2} ms  {'mux' if self.mux else 'stream':6}  {trip:>33}  {self.lost:6}  "
            f"{self.control_cpu:6.0%}  {self.media_cpu:5.0%}  {self.client_cpu:5.0%}  {verdict}{with_uploads}"
        )


def beside(uploads: int, uploaded: Uploaded) -> str:
    """The end of a stage's line."""
    if not uploads:
        return ""
    ended = f", {uploaded.ended} of them ended" if uploaded.ended else ""
    return f"; beside {uploads} uploads at {uploaded.rate:.0f} x real time{ended}"


def measure(streams: int, frame_ms: int, mux: bool, seconds: float, uploads: int = 0, served_by: int = 1) -> Stage:
    """Start a gateway, run one stage, stop it. served_by: `grpc.processes`.

    Raises PeerError when it does not start, RuntimeError when it breaks.
    """
    media_core, _, others = processes.cores()
    port = processes.free_port(socket.SOCK_STREAM)
    gateway = Gateway(media_core, streams + uploads + 8, {"grpc": {"listen": f"{HOST}:{port}", "processes": served_by}})
    gateway.leave_media_core()
    sender = start_uploads(port, uploads) if uploads else None
    try:
        orders = Orders(HOST, port, streams, frame_ms, seconds, WARM_S, mux)
        client = subprocess.Popen(
            [sys.executable, "-m", "loadtest.stream_client"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            start_new_session=True, preexec_fn=processes.die_with_us,
        )  # fmt: skip
        processes.prefer(client.pid)
        processes.pin(client.pid, others)
        assert client.stdin is not None and client.stdout is not None
        client.stdin.write(json.dumps(asdict(orders)) + "\n")
        client.stdin.flush()
        client.stdout.readline()
        before = gateway.cpu_s()
        client.stdout.readline()
        after = gateway.cpu_s()
        text = client.stdout.readline()  # `communicate` would miss what has been read ahead
        if client.wait(60) or not text:
            raise RuntimeError(f"the client broke\n{gateway.log()}")
    finally:
        uploaded = end_uploads(sender) if sender is not None else Uploaded()
        gateway.stop()
    found = json.loads(text)
    span, cpu_s = found.pop("seconds"), found.pop("cpu_s")
    control, media = ((late - early) / span for early, late in zip(before, after, strict=True))
    return Stage(streams, frame_ms, mux, span, **found, control_cpu=control, media_cpu=media,
                 client_cpu=cpu_s / span, uploads=uploads, uploaded=uploaded)  # fmt: skip


def start_uploads(port: int, uploads: int) -> "subprocess.Popen[str]":
    """Clients that send as fast as they may, in a process of their own; returns when audio comes back."""
    sender = subprocess.Popen(
        [sys.executable, "-m", "loadtest.upload_client", HOST, str(port), str(uploads)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=processes.die_with_us,
    )  # fmt: skip
    assert sender.stdout is not None
    sender.stdout.readline()
    return sender


def end_uploads(sender: "subprocess.Popen[str]") -> Uploaded:
    """Stop them; returns what they have got through."""
    text, _ = sender.communicate("stop\n", timeout=30)
    return Uploaded(**json.loads(text))
