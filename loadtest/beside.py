"""Do uploads hold up who is live? The same stage without and with uploads in turn, of streams or of calls over RTP.

One machine is never as quiet twice: only what alternates can be compared.
"""

import socket
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from loadtest import processes, streams
from loadtest.capacity import ALGORITHMIC_MS
from loadtest.material import Material
from loadtest.peers import HOST, Gateway
from loadtest.stage import Bench, Stage, run_stage

HEAD = "legs   round trip p50 / p99 / p99.9 ms    lost  dry    media  verdict"


class Measured(Protocol):
    """A stage."""

    uploads: int

    @property
    def p99_ms(self) -> float: ...
    def line(self) -> str: ...


@dataclass(frozen=True, slots=True)
class CallStage:
    """One measurement of calls over RTP."""

    stage: Stage
    uploads: int
    uploaded: streams.Uploaded = field(default_factory=streams.Uploaded)

    @property
    def p99_ms(self) -> float:
        """Of the delay beside the algorithmic one."""
        return self.stage.media.delay_ms["p99"]

    def line(self) -> str:
        """For a person to read."""
        media = self.stage.media
        trip = " / ".join(f"{media.delay_ms[name]:.1f}" for name in ("p50", "p99", "p999"))
        verdict = "holds" if not media.lost else "does not hold"
        if not self.stage.valid():
            verdict += "; doubtful: the generator was held up"
        return (
            f"{self.stage.legs:4}   {trip:>34}  {media.lost:6}  {self.stage.dry_share:4.1%}  "
            f"{self.stage.media_cpu:5.0%}  {verdict}{streams.beside(self.uploads, self.uploaded)}"
        )


def calls(legs: int, seconds: float, uploads: int) -> CallStage:
    """So many legs of real-time G.711. Raises PeerError, NgError, RuntimeError."""
    media_core, generator_core, _ = processes.cores()
    port = processes.free_port(socket.SOCK_STREAM)
    gateway = Gateway(media_core, legs + uploads + 8, {"grpc": {"listen": f"{HOST}:{port}"}})
    gateway.leave_media_core()
    sender = streams.start_uploads(port, uploads) if uploads else None
    try:
        stage, _ = run_stage(gateway, Bench(Material(), generator_core, round(seconds)), legs, True, ALGORITHMIC_MS)
    finally:
        uploaded = streams.end_uploads(sender) if sender is not None else streams.Uploaded()
        gateway.stop()
    return CallStage(stage, uploads, uploaded)


def alternate(measure: Callable[[int], Measured], uploads: int, rounds: int) -> Iterator[Measured]:
    """Without, with, without, with ..."""
    for _ in range(rounds):
        yield measure(0)
        yield measure(uploads)


def verdict(found: list[Measured], limit_ms: float) -> str:
    """How far uploads move the 99th percentile: the median of the rounds' differences."""
    moved = [after.p99_ms - before.p99_ms for before, after in zip(found[::2], found[1::2], strict=True)]
    middle = statistics.median(moved)
    each = ", ".join(f"{ms:+.1f}" for ms in moved)
    return (
        f"uploads move the p99 by {middle:+.1f} ms (median of {each}); at most {limit_ms:g} are wanted: "
        f"{'holds' if middle <= limit_ms else 'does not hold'}"
    )
