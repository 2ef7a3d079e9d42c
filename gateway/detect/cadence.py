"""What a tone means: its bursts and pauses against the plans of all countries.

`Episode` is one tone on one slot, from its first burst until it is over. It is told of every edge, and answers how
long to wait for the next one. It costs something only at edges.
"""

from dataclasses import dataclass, field

import numpy as np

from gateway.detect import plans
from gateway.detect.detection import Detection
from gateway.detect.sines import RATE, dbm0

Fitting = list[tuple[float, plans.Tone]]
"""Tones and how badly they fit."""
FOREVER = int(np.iinfo(np.int64).max)
REPORTED_MS = 80.0
"""Shorter sounds are held, not told."""
LONGEST_WAITING_MS = 1000.0
"""Pause that is waited for in a call-waiting tone: in the longer ones two people talk."""
MARGIN_MS = 100.0
"""What a pause may last beyond the plan's, besides E.180's tolerance of 10 %."""


@dataclass
class Episode:
    """One tone, as heard so far. Times in samples at 8 kHz of its leg."""

    slot: int
    hz: tuple[float, ...]
    sounds: tuple[plans.Sound, ...]
    """What of the plans it may be, the nearest first; none for another steady tone."""
    begin: int
    power: float
    part: int = -1
    """Which of the three tones of special information this is; -1: none."""
    bursts: list[tuple[float, float]] = field(default_factory=list)
    """Milliseconds of sound and pause, complete."""
    named: bool = False
    _since: int = 0
    _burst_ms: float = 0.0
    _resting: bool = False

    def __post_init__(self) -> None:
        self._since = self.begin
        self._near = {sound.text for sound in self.sounds}
        self._tones = [tone for tone in plans.TONES if tone.sounds & self._near]
        self._longest_ms = max((on for tone in self._tones for on, _ in tone.bursts if on < np.inf), default=0.0)

    @property
    def deadline(self) -> int:
        """When a tone that goes on is longer than any burst."""
        if self.named or not any(tone.bursts[0][0] == np.inf for tone in self._tones):
            return FOREVER
        return self._since + _samples(self._longest_ms * (1 + plans.TOLERANCE) + plans.TOLERANCE_MS)

    def is_part(self, at: int) -> bool:
        """Was what ended at this sample a tone of special information that is followed by another?"""
        return 0 <= self.part < 2 and plans.SIT_MS[0] <= (at - self._since) * 1000 / RATE <= plans.SIT_MS[1]

    def goes_on(self, hz: tuple[float, ...], at: int, found: list[Detection]) -> None:
        """The next tone of special information began at this sample; the third one tells."""
        self.part += 1
        self.hz, self._since = hz, at
        if self.part == 2:
            self.named = True
            self._report("progress", "sit", found, -1)

    def lasts(self, found: list[Detection]) -> int:
        """The tone goes on beyond its deadline."""
        endless = [(0.0, tone) for tone in self._tones if tone.bursts[0][0] == np.inf]
        if endless:
            self._tell(endless, found)
        return FOREVER

    def pauses(self, at: int) -> int:
        """The tone has ended at this sample; until when may it come back?"""
        self._burst_ms, self._since, self._resting = (at - self._since) * 1000 / RATE, at, True
        pauses = [self._pause_ms(tone) for tone in self._tones]
        longest = max(pauses, default=0.0)
        return at + _samples(longest * (1 + plans.TOLERANCE) + MARGIN_MS) if longest else at

    def resumes(self, at: int, found: list[Detection]) -> int:
        """It has come back at this sample."""
        self.bursts.append((self._burst_ms, (at - self._since) * 1000 / RATE))
        self._since, self._resting = at, False
        del self.bursts[:-6]
        fitting = self._fitting(self.bursts)
        if fitting and not self.named and all(len(tone.bursts) <= len(self.bursts) for _, tone in fitting):
            self._tell(fitting, found)
        return self.deadline

    def ends(self, at: int, found: list[Detection]) -> None:
        """It is over: the tone that was sounding ended at this sample, or the wait for the next burst did."""
        end = self._since if self._resting else at
        if self.named or (end - self.begin) * 1000 / RATE < REPORTED_MS:
            return
        fitting = self._fitting_rest(at) if self._resting else []
        fitting = fitting or self._fitting_part(end)
        if fitting:
            self._tell(fitting, found, end)
        else:
            self._report("tone", "+".join(f"{hz:.0f}" for hz in self.hz), found, end)

    def _fitting_rest(self, at: int) -> Fitting:
        """Tones whose pause is as long as the one that was waited for, at least."""
        pause_ms = (at - self._since) * 1000 / RATE - MARGIN_MS
        fitting = self._fitting(self.bursts, self._burst_ms)
        return [(misfit, tone) for misfit, tone in fitting if max(off for _, off in tone.bursts) >= pause_ms]

    def _fitting_part(self, at: int) -> Fitting:
        """Tones that were cut off."""
        burst_ms = self._burst_ms if self._resting else (at - self._since) * 1000 / RATE
        cut = not self._resting and not self.bursts
        endless = [(0.0, tone) for tone in self._tones if cut and tone.bursts[0][0] == np.inf]
        return endless or [
            (misfit, tone)
            for misfit, tone in (self._fitting(self.bursts) if self.bursts or cut else [])
            if burst_ms <= max(on for on, _ in tone.bursts) * (1 + plans.TOLERANCE) + plans.TOLERANCE_MS
        ]

    def _pause_ms(self, tone: plans.Tone) -> float:
        """The longest pause of this tone that may have begun now."""
        if tone.kind == "sit" or plans.misfit(tone, self.bursts, self._burst_ms) is None:
            return 0.0
        longest = LONGEST_WAITING_MS if tone.kind == "call-waiting" else np.inf
        return max((off for _, off in tone.bursts if off <= longest), default=0.0)

    def _fitting(self, bursts: list[tuple[float, float]], sounding_ms: float | None = None) -> Fitting:
        misfits = ((plans.misfit(tone, bursts, sounding_ms), tone) for tone in self._tones)
        return [(misfit, tone) for misfit, tone in misfits if misfit is not None]

    def _tell(self, tones: Fitting, found: list[Detection], end: int = -1) -> None:
        self.named = True
        nearest = next(s.text for s in self.sounds if any(s.text in tone.sounds for _, tone in tones))
        near = [(misfit, tone) for misfit, tone in tones if nearest in tone.sounds]
        self._report("progress", plans.name(near), found, end)

    def _report(self, kind: str, value: str, found: list[Detection], end: int) -> None:
        level = float(dbm0(np.array(self.power)))
        found.append(Detection(self.slot, kind, value, self.begin, end, level))


def _samples(ms: float) -> int:
    return round(ms * RATE / 1000)
