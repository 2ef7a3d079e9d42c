"""The search for the most legs that are held: up a ladder to the first failure, then halving what is between."""

from collections import Counter
from collections.abc import Sequence

RESOLUTION = 0.04
"""The answer is known when the least that fails is so much more than the most that holds."""
STEP = 10
BEYOND = 1.2
"""How the ladder goes on where it ends."""
ATTEMPTS = 2
"""A stage has failed when it failed so often: a hiccup of the machine is not the gateway's limit."""


class Search:
    """Says what to try next; is told how it went."""

    def __init__(self, ladder: Sequence[int], resolution: float = RESOLUTION) -> None:
        """ladder: legs to try, ascending."""
        self._ladder = list(ladder)
        self._resolution = resolution
        self._failures: Counter[int] = Counter()
        self.best = 0
        """The most legs that held."""
        self.least_failed: int | None = None
        self.generator_limited = False
        """Whether the generator, not the gateway, gave up at `least_failed`."""

    def next(self) -> int | None:
        """Legs to try now, or None when the answer is known."""
        if self.least_failed is None:
            above = (legs for legs in self._ladder if legs > self.best)
            return next(above, _rounded(self.best * BEYOND))
        middle = _rounded((self.best + self.least_failed) / 2)
        close = self.least_failed - self.best <= max(self._resolution * self.least_failed, 2 * STEP)
        return None if close or not self.best < middle < self.least_failed else middle

    def note(self, legs: int, held: bool, valid: bool = True) -> None:
        """A stage has been run; it is valid when the generator was fit to measure."""
        if held and valid:
            self.best = max(self.best, legs)
            return
        self._failures[legs] += 1
        if self._failures[legs] >= ATTEMPTS:
            self.least_failed = legs
            self.generator_limited = not valid


def _rounded(legs: float) -> int:
    return int(legs / STEP) * STEP
