"""What the figures of single clips say together: means, word error rates, and differences with 95 % intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from models.evaluation.testset import SNRS_DB, Clip

RESAMPLES = 2000
REFERENCES = ("noisy", "RNNoise")
"""Systems that the others are compared with."""
Figures = dict[str, float]
Choice = Callable[[Clip], bool]


@dataclass(frozen=True, slots=True)
class Difference:
    """A mean difference and the 95 % interval of it."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return self.text(2)

    def text(self, digits: int) -> str:
        """The value and its interval in brackets; a dash where nothing was measured."""
        if self.value != self.value:
            return "–"
        return f"{self.value:+.{digits}f} ({self.low:+.{digits}f} … {self.high:+.{digits}f})"


def paired_interval(
    first: np.ndarray, second: np.ndarray, weights: np.ndarray | None = None, seed: int = 0
) -> Difference:
    """Mean of first - second over clips, or their sum over the sum of weights; percentile bootstrap over clips.

    first, second, weights: float [clips], the same clips in the same order.
    """
    if not len(first):
        return Difference(*[float("nan")] * 3)
    change = np.asarray(first, float) - np.asarray(second, float)
    share = np.ones_like(change) if weights is None else np.asarray(weights, float)
    draws = np.random.default_rng(seed).integers(len(change), size=(RESAMPLES, len(change)))
    means = change[draws].sum(axis=1) / share[draws].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Difference(float(change.sum() / share.sum()), float(low), float(high))


def noisy(clip: Clip) -> bool:
    return clip.part == "noisy"


def at_snr(*snrs_db: int | None, part: str = "noisy") -> Choice:
    return lambda clip: clip.part == part and clip.snr_db in snrs_db


def of_part(part: str) -> Choice:
    return lambda clip: clip.part == part


def of_class(kind: str) -> Choice:
    return lambda clip: clip.part == "noisy" and clip.noise == kind


def of_condition(condition: str) -> Choice:
    return lambda clip: clip.part == "conditions" and clip.condition == condition


@dataclass(frozen=True, slots=True)
class Results:
    """All figures of one rate. rows: system -> clip id -> figures; streams: system -> streams a core."""

    rate: int
    clips: list[Clip]
    rows: dict[str, dict[str, Figures]]
    streams: dict[str, float] = field(default_factory=dict)

    def values(self, system: str, key: str, choice: Choice) -> np.ndarray:
        """float [clips]: one figure of every chosen clip that every system was measured on."""
        return np.array([self.rows[system][c.id][key] for c in self.clips if choice(c) and c.id in self.rows[system]])

    def mean(self, system: str, key: str, choice: Choice = noisy) -> float:
        values = self.values(system, key, choice)
        return float(values.mean()) if len(values) else float("nan")

    def difference(self, system: str, other: str, key: str, choice: Choice = noisy) -> Difference:
        return paired_interval(self.values(system, key, choice), self.values(other, key, choice))

    def word_errors(self, system: str, *snrs_db: int | None) -> float:
        """Word error rate in percent at some ratios of speech to noise; None is clean speech."""
        chosen = at_snr(*(snrs_db or SNRS_DB), part="words")
        words = self.values(system, "words", chosen).sum()
        return float(100 * self.values(system, "errors", chosen).sum() / words) if words else float("nan")

    def word_error_difference(self, system: str, other: str, *snrs_db: int | None) -> Difference:
        """In percentage points."""
        chosen = at_snr(*(snrs_db or SNRS_DB), part="words")
        errors = (100 * self.values(name, "errors", chosen) for name in (system, other))
        return paired_interval(*errors, self.values(system, "words", chosen))
