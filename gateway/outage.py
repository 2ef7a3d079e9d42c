"""What of a recording no engine has denoised, by a fault, and why: told at the end by the `file` command."""

from collections import Counter
from dataclasses import dataclass, field

SHOWN = 5
TOUCH_S = 1e-6
"""Stretches closer than this are one."""


@dataclass(slots=True)
class Outage:
    """Grows packet by packet, in the order of the recording."""

    stretches: list[tuple[float, float]] = field(default_factory=list)
    """Begin and end in seconds of the recording, ascending, with something denoised between them."""
    _reasons: Counter[str] = field(default_factory=Counter)
    _last: str = ""

    def note(self, begin_s: float, end_s: float, why: str) -> None:
        """One more packet; why: empty where it is the reason of the one before."""
        if end_s <= begin_s:
            return
        self._last = why or self._last
        self._reasons[self._last] += 1
        if self.stretches and begin_s - self.stretches[-1][1] < TOUCH_S:
            begin_s, _ = self.stretches.pop()
        self.stretches.append((begin_s, end_s))

    def text(self, seconds: float) -> str:
        """For a person; seconds: length of the recording."""
        dry_s = sum(end_s - begin_s for begin_s, end_s in self.stretches)
        places = [f"{begin_s:.2f} to {end_s:.2f}" for begin_s, end_s in self.stretches[:SHOWN]]
        more = f" and {len(self.stretches) - SHOWN} more" if len(self.stretches) > SHOWN else ""
        ((why, _),) = self._reasons.most_common(1)
        return f"{dry_s:.2f} of {seconds:.2f} s are not denoised ({', '.join(places)} s{more}): {why}"
