"""What the standard models must reach, and how far they are: `python -m models.evaluate --targets`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from models.evaluation.figures import Difference, Results, at_snr, of_part
from models.evaluation.testset import SNRS_DB

STREAMS = {8000: 1000.0, 16000: 600.0}
CLEAN_PESQ = {8000: 4.2, 16000: 4.0}
NOT_BELOW = {8000: ("GTCRN", "DTLN"), 16000: ("GTCRN",)}
STANDARD = ("standard", "standard (level 100)")
"""At the level a call has unless it asks for another, and as unlimited as the others always are."""


@dataclass(frozen=True, slots=True)
class Target:
    """One goal. measured and goal in the same unit; interval: of the measured difference where it is one."""

    what: str
    measured: float
    goal: float
    at_least: bool = True
    interval: Difference | None = None
    wish: bool = False

    @property
    def reached(self) -> bool:
        return self.measured >= self.goal if self.at_least else self.measured <= self.goal

    @property
    def verdict(self) -> str:
        margin = abs(self.measured - self.goal)
        short = f"{margin:,.0f}" if margin >= 10 else f"{margin:.2f}" if margin >= 0.005 else f"{margin:.4f}"
        return f"yes, by {short}" if self.reached else f"{'not yet' if self.wish else 'NO'}, by {short}"


def targets(results: Results, system: str = "standard") -> Iterator[Target]:
    """Every goal of a rate that the measured systems allow to check."""
    r, rate = results, results.rate
    if system in r.streams:
        yield Target("streams a core, batch 64, whole graph", r.streams[system], STREAMS[rate])
    yield from against(r, system, "PESQ", "pesq", "RNNoise", 0.20)
    for other in NOT_BELOW[rate]:
        yield from against(r, system, "PESQ", "pesq", other, 0.0)
    yield from against(r, system, "DNSMOS OVRL", "ovrl", "RNNoise", 0.10)
    yield from against(r, system, "DNSMOS OVRL", "ovrl", "DeepFilterNet 3", 0.0, wish=True)
    for snr in SNRS_DB:
        change = r.difference(system, "noisy", "stoi", at_snr(snr))
        yield Target(f"STOI above noisy at {snr} dB", change.value, 0.0, interval=change)
    yield Target("clean speech in: PESQ", r.mean(system, "pesq", of_part("clean")), CLEAN_PESQ[rate])
    level = r.mean(system, "speech_gain_db", of_part("clean"))
    yield Target("clean speech in: change of level, dB", abs(level), 0.5, at_least=False)
    loud, soft = r.word_error_difference(system, "noisy", 10, 15, 20), r.word_error_difference(system, "noisy", 0, 5)
    yield Target("word errors at 10 to 20 dB, points against noisy", loud.value, 0.0, False, loud)
    yield Target("word errors at 0 and 5 dB, points against noisy", soft.value, 0.0, False, soft)


def against(
    r: Results, system: str, label: str, key: str, other: str, more: float, wish: bool = False
) -> Iterator[Target]:
    if other in r.rows:
        change = r.difference(system, other, key)
        name = f"{label} against {other}" + (" (aim)" if wish else "")
        yield Target(name, change.value, more, interval=change, wish=wish)


def tables(results: Results) -> str:
    """A table for each of STANDARD that was measured."""
    return "\n\n".join(table(results, system) for system in STANDARD if system in results.rows)


def table(results: Results, system: str) -> str:
    lines = [f"| {system}, {results.rate // 1000} kHz | measured | 95 % interval | goal | reached |", "|---" * 5 + "|"]
    for t in targets(results, system):
        interval = f"{t.interval.low:+.3f} … {t.interval.high:+.3f}" if t.interval else ""
        measured = (
            f"{t.measured:,.0f}" if t.measured >= 100 else f"{t.measured:+.3f}" if t.interval else f"{t.measured:.2f}"
        )
        goal = (
            f"{'≥' if t.at_least else '≤'} {t.goal:,.0f}"
            if t.goal >= 10
            else f"{'≥' if t.at_least else '≤'} {t.goal:.2f}"
        )
        lines.append(f"| {t.what} | {measured} | {interval} | {goal} | {t.verdict} |")
    return "\n".join(lines)
