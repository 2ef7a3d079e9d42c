"""One stage of a measurement: so many legs for so many seconds through one peer, and everything that is known of it."""

import multiprocessing
import multiprocessing.connection
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from loadtest import calls as signalling
from loadtest import processes
from loadtest.calls import Call, Leg
from loadtest.generator import ENDPOINTS, Plan, Recording, run
from loadtest.matching import match
from loadtest.material import Material
from loadtest.mmsg import endpoint
from loadtest.ng import NgClient
from loadtest.peers import STAGES, Peer, Reading

GENERATOR_HOST = "127.0.0.2"
"""Not the gateway's, so that no port of one is in the way of the other."""
FRAMES_PER_S = 50
WARM_S = 4
RAMP_S = 3
"""Within the warm-up; a gateway's calls do not all begin in the same millisecond."""
LOOP_SECONDS = 6_000
"""Seconds of audio kept for all legs together (50 MB)."""
GENERATOR_CPU_LIMIT = 0.8
GENERATOR_LATE_LIMIT_MS = 2.0
DRY_LIMIT = 0.001
"""Share of frames that may go dry: a leg shed for lack of time is no denoised leg."""
LEFT_ALONE_LIMIT = 0.1
"""Share of frames that detectors may leave alone: the legs carry speech in noise, with few tones and no music."""
HEADSTART_NS = 500_000_000
COMPARED = 20

Capture = dict[int, tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.bool_]]]
"""By leg, from its first packet on: payloads sent [frames, 160], payloads that came back, and which of those did."""


@dataclass(frozen=True, slots=True)
class Media:
    """What the generator saw, over the measured seconds."""

    packets: int
    lost: int
    lost_warming: int
    duplicates: int
    reordered: int
    unknown: int
    ssrc_changes: int
    delay_ms: dict[str, float]
    """p50, p99 and p999 from sending to the kernel's receipt, algorithmic delay not included."""
    generator_cpu: float
    generator_late_ms: float
    """p99 of how long after its time a packet was sent."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything known of one stage."""

    legs: int
    media: Media
    algorithmic_ms: float
    media_cpu: float
    """Share of the media core."""
    cpu_share: dict[str, float]
    """Of the media process's time: receive, engine, arrays, send; empty where the peer does not say."""
    dry_share: float
    left_alone_share: float
    legs_shed: int
    rss_mb: tuple[float, float]
    """Media process, all processes."""
    alive: bool

    def added_delay_ms(self, name: str) -> float:
        """A percentile of the delay, the algorithmic one included."""
        return self.media.delay_ms[name] + self.algorithmic_ms

    def valid(self) -> bool:
        """Whether the generator was fit to measure."""
        media = self.media
        return media.generator_cpu <= GENERATOR_CPU_LIMIT and media.generator_late_ms <= GENERATOR_LATE_LIMIT_MS

    def faults(self, limit_ms: float) -> list[str]:
        """Why the peer does not hold this many legs; empty when it does."""
        media = self.media
        checks = {
            "media process died": not self.alive,
            f"{media.lost} packets lost": media.lost > 0,
            f"p99 {self.added_delay_ms('p99'):.1f} ms": self.added_delay_ms("p99") > limit_ms,
            f"{media.duplicates} duplicates": media.duplicates > 0,
            f"{media.unknown} packets nobody sent": media.unknown > 0,
            f"{self.dry_share:.1%} of the frames dry, {self.legs_shed} legs shed": self.dry_share > DRY_LIMIT,
            f"{self.left_alone_share:.1%} of the frames left alone": self.left_alone_share > LEFT_ALONE_LIMIT,
        }
        return [text for text, wrong in checks.items() if wrong]


@dataclass(frozen=True, slots=True)
class Bench:
    """What all stages of a run share."""

    material: Material
    generator_core: int
    seconds: int


def run_stage(
    peer: Peer,
    bench: Bench,
    legs: int,
    denoise: bool,
    algorithmic_ms: float,
    meanwhile: Callable[[NgClient], None] = lambda _: None,
) -> tuple[Stage, Capture]:
    """Place the calls, send, and measure; `meanwhile` runs during the measured seconds. Raises NgError."""
    sockets = [endpoint(GENERATOR_HOST) for _ in range(ENDPOINTS)]
    ng = NgClient(peer.ng)
    calls = _pair(legs, [sock.getsockname() for sock in sockets], denoise)
    try:
        placed = signalling.place(ng, calls)
        frames = (WARM_S + bench.seconds) * FRAMES_PER_S
        loops = bench.material.loops(legs, max(FRAMES_PER_S, min(frames, LOOP_SECONDS * FRAMES_PER_S // legs)))
        plan = _plan(placed, loops, frames, bench.generator_core)
        with Generator(plan, sockets) as generator:
            before, after = _watch(peer, plan, bench.seconds, lambda: meanwhile(ng))
            rss_mb = peer.rss_mb()
            media, capture = generator.result()
        return _stage(legs, media, algorithmic_ms, before, after, rss_mb, peer.alive()), capture
    finally:
        if peer.alive():
            signalling.hang_up(ng, calls)
        ng.close()
        for sock in sockets:
            sock.close()


def _pair(legs: int, addresses: Sequence[tuple[str, int]], denoise: bool) -> list[Call]:
    """Calls whose parties speak 10 ms apart, evenly over all endpoints."""
    half = ENDPOINTS // 2
    turns = [(call % ENDPOINTS, (call + half) % ENDPOINTS) for call in range(legs // 2)]
    return [Call.between((a, addresses[a]), (b, addresses[b]), denoise) for a, b in turns]


def _plan(legs: Sequence[Leg], loops: npt.NDArray[np.uint8], frames: int, core: int) -> Plan:
    captured = np.random.default_rng().choice(len(legs), min(COMPARED, len(legs)), replace=False)
    start_ns = time.monotonic_ns() + HEADSTART_NS
    warm_frames, ramp_frames = WARM_S * FRAMES_PER_S, RAMP_S * FRAMES_PER_S
    return Plan(legs, loops, start_ns, warm_frames, frames, ramp_frames, frozenset(map(int, captured)), core)


class Generator:
    """The generator in a process of its own."""

    def __init__(self, plan: Plan, sockets: Sequence[Any]) -> None:
        context = multiprocessing.get_context("fork")
        self._results, answer = context.Pipe(duplex=False)
        self._process = context.Process(target=_generate, args=(plan, sockets, answer), daemon=True)
        self._process.start()
        answer.close()

    def __enter__(self) -> "Generator":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()

    def result(self) -> tuple[Media, Capture]:
        """Wait for the end of the stage. Raises RuntimeError when the generator broke."""
        try:
            media, capture = self._results.recv()
        except EOFError:
            raise RuntimeError("the generator's process ended without a result") from None
        return media, capture


def _generate(plan: Plan, sockets: Sequence[Any], answer: multiprocessing.connection.Connection) -> None:
    processes.die_with_us()
    answer.send(evaluate(plan, run(plan, sockets)))


def evaluate(plan: Plan, recording: Recording) -> tuple[Media, Capture]:
    """From the generator's arrays to figures and captured audio."""
    matched = match(recording.sent_ns, recording.arrivals)
    sent = recording.sent_ns > 0
    measured = slice(plan.warm_frames, plan.frames)
    lost = sent & ~matched.delivered
    delay_ms = matched.delay_ns[:, measured][matched.delivered[:, measured]] / 1e6
    late_ms = (recording.sent_ns - recording.due_ns)[:, measured][sent[:, measured]] / 1e6
    media = Media(
        packets=int(sent[:, measured].sum()),
        lost=int(lost[:, measured].sum()),
        lost_warming=int(lost[:, : plan.warm_frames].sum()),
        duplicates=matched.duplicates,
        reordered=matched.reordered,
        unknown=matched.unknown + recording.foreign,
        ssrc_changes=matched.ssrc_changes,
        delay_ms=_percentiles(delay_ms),
        generator_cpu=recording.cpu_share,
        generator_late_ms=float(np.percentile(late_ms, 99)) if len(late_ms) else float("inf"),
    )
    return media, _captured(plan, recording, matched.frame)


def _percentiles(delay_ms: npt.NDArray[np.float64]) -> dict[str, float]:
    names = {"p50": 50.0, "p99": 99.0, "p999": 99.9}
    return {name: float(np.percentile(delay_ms, at)) if len(delay_ms) else float("inf") for name, at in names.items()}


def _captured(plan: Plan, recording: Recording, frame: npt.NDArray[np.int64]) -> Capture:
    capture: Capture = {}
    for leg, (arrivals, payloads) in recording.payloads.items():
        start = plan.starts()[leg]
        said = np.resize(plan.loops[leg], (plan.frames, plan.loops.shape[2]))
        heard = np.zeros_like(said)
        known = frame[arrivals] >= 0
        heard[frame[arrivals[known]]] = payloads[known]
        arrived = np.zeros(plan.frames, bool)
        arrived[frame[arrivals[known]]] = True
        capture[leg] = (said[start:], heard[start:], arrived[start:])
    return capture


def _watch(peer: Peer, plan: Plan, seconds: int, meanwhile: Callable[[], None]) -> tuple[Reading, Reading]:
    """Read the peer's counters at both ends of the measured seconds."""
    begin = plan.start_ns / 1e9 + WARM_S
    _sleep_until(begin)
    before = peer.read()
    meanwhile()
    _sleep_until(begin + seconds)
    return before, peer.read()


def _stage(
    legs: int,
    media: Media,
    algorithmic_ms: float,
    before: Reading,
    after: Reading,
    rss_mb: tuple[float, float],
    alive: bool,
) -> Stage:
    spent = {name: after.seconds[name] - before.seconds[name] for name in after.seconds if name in before.seconds}
    total_s = spent.get("busy", 0.0) + spent.get("idle", 0.0)
    wet, dry = after.frames_wet - before.frames_wet, after.frames_dry - before.frames_dry
    left_alone = after.frames_left_alone - before.frames_left_alone
    return Stage(
        legs=legs,
        media=media,
        algorithmic_ms=algorithmic_ms,
        media_cpu=(after.media_cpu_s - before.media_cpu_s) / (after.at_s - before.at_s),
        cpu_share={name: spent.get(name, 0.0) / total_s for name in STAGES} if total_s else {},
        dry_share=dry / (wet + dry) if algorithmic_ms and wet + dry else 0.0,
        left_alone_share=left_alone / (wet + dry + left_alone) if algorithmic_ms and wet + dry else 0.0,
        legs_shed=int(after.legs_shed),
        rss_mb=rss_mb,
        alive=alive,
    )


def _sleep_until(at_s: float) -> None:
    time.sleep(max(0.0, at_s - time.monotonic()))
