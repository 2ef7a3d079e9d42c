"""Wet, dry or latched: what the detectors' findings mean for each leg.

A frame that looks like a tone goes dry at once, on trial; what no detector has confirmed within 40 ms is denoised
again, unless it is a line that stands steady and only has to last to be believed. So does the beginning of a stream
until it is no music. A fax or modem that was heard for
certain latches the leg: from then on its audio passes bit for bit.
"""

import numpy as np
import numpy.typing as npt

from gateway.messages import Reason

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.uint8]


TRIAL_FRAMES = 4
"""How long a tone is believed without proof."""


class Policy:
    """Trials and latches of every slot."""

    def __init__(self, slots: int) -> None:
        self.latched = np.zeros(slots, np.bool_)
        """To the end of the call: what the leg receives passes untouched."""
        self._tried = np.zeros(slots, np.int64)
        """Frames since something looked like a tone."""

    def open_leg(self, slot: int) -> None:
        """A new leg has no latch."""
        self.latched[slot] = False
        self._tried[slot] = 0

    def decide(
        self,
        slots: Ints,
        frames: int,
        toneish: Bools,
        steady: Bools,
        opening: Bools,
        *,
        music: Bools,
        progress: Bools,
        dtmf: Bools,
        fax: Bools,
    ) -> Codes:
        """The `Reason` of each row for the next `frames` frames, uint8 [n]; all arguments but `frames` are [n].

        toneish: the newest frames look like a tone; steady: so do those before, and it is the same one; opening: a
        stream has just begun that may be music; the others: what detectors hold to be heard now.
        """
        tried = np.where(toneish, self._tried[slots] + frames, 0)
        self._tried[slots] = tried
        trial = opening | (toneish & (steady | (tried <= TRIAL_FRAMES)))
        out = np.where(trial, np.uint8(Reason.TRIAL), np.uint8(Reason.NONE))
        for heard, reason in (
            (music, Reason.MUSIC),
            (progress, Reason.PROGRESS),
            (dtmf, Reason.DTMF),
            (fax | self.latched[slots], Reason.FAX),
        ):
            out[heard] = reason
        return out
