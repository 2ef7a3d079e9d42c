"""Shedding of load: when frames grow too old, the newest legs go dry, and come back when there is room.

A worker that cannot keep up would delay every call; dry audio costs a tenth of wet. The legs that were there first
keep their denoiser, and every switch is a cross-fade. A party that floods loses its own denoiser first.
"""

import numpy as np

from gateway.media.legs import AUDIO
from gateway.media.pipeline import Pipeline

SHED_SHARE = 0.1
"""Part of the wet legs that goes dry at once."""
RESTORE_SHARE = 0.05
CALM_BUSY = 0.85
"""Busy share below which legs come back."""
PATIENCE_S = 0.25
"""How long every batch must have been too old: a hiccup of the machine and catching up after it are no overload."""

FLOOD_FRAMES_A_S = 250
"""Of 100 in real time: who sends more is no telephone, and would cost the others their time."""


class Shedding:
    """Decides which legs of a worker are dry for want of time."""

    def __init__(self, pipeline: Pipeline, dry_after_s: float) -> None:
        self._pipeline, self._dry_after_s = pipeline, dry_after_s
        self._old_since_s: float | None = None
        self._busy_s = self._idle_s = 0.0
        self._strained = False
        self._frames = np.zeros(pipeline.legs.slots, np.int64)

    def observe(self, age_s: float, now: float) -> None:
        """Look at the oldest frame of a batch; age_s is without the time that a remote engine took."""
        if age_s <= self._dry_after_s:
            self._old_since_s = None
        elif self._old_since_s is None:
            self._old_since_s = now
        elif now - self._old_since_s >= PATIENCE_S:
            self._old_since_s = now
            self._strained = True
            self._move(wet=False, share=SHED_SHARE)

    def review(self, busy_s: float, idle_s: float) -> None:
        """Once a second, with the process's totals: bring legs back when there is room, and take those that flood."""
        busy, idle = busy_s - self._busy_s, idle_s - self._idle_s
        self._busy_s, self._idle_s = busy_s, idle_s
        calm = not self._strained and busy < CALM_BUSY * (busy + idle)
        self._strained = False
        if calm and self._pipeline.voice.shed.any():
            self._move(wet=True, share=RESTORE_SHARE)
        self._quench(max(busy + idle, 1.0))

    def _quench(self, seconds: float) -> None:
        """Leave legs dry that brought much more than real time; streams are paced by credits instead."""
        legs, voice = self._pipeline.legs, self._pipeline.voice
        frames = voice.frames_wet + voice.frames_dry
        flooding = (frames - self._frames > FLOOD_FRAMES_A_S * seconds) & (legs.kind == AUDIO) & ~legs.noted
        self._frames = frames
        self._pipeline.streams.count("legs_flooding", int((flooding & ~voice.shed).sum()))
        voice.shed |= flooding

    def _move(self, wet: bool, share: float) -> None:
        """Give the oldest shed legs back, or take the newest wet ones."""
        legs, shed = self._pipeline.legs, self._pipeline.voice.shed
        candidates = np.flatnonzero((legs.kind == AUDIO) & legs.wanted & (shed == wet))
        number = int(np.ceil(len(candidates) * share))
        by_age = candidates[np.argsort(legs.opened[candidates])]
        chosen = by_age[:number] if wet else by_age[len(by_age) - number :]
        shed[chosen] = not wet
        self._pipeline.streams.count("legs_restored" if wet else "legs_shed_total", number)
