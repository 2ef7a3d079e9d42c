"""Faxes, modems and text telephones on the line: once one is certain, nobody may touch the call any more.

Two answers a slot. `holds`: what is heard may be such a signal, leave it alone while it lasts; 40 to 60 ms are enough,
and being wrong costs little. `latched`: it is one; the call's audio passes bit for bit to its end, so that only what
nothing else says counts: the rhythm of CNG; 1.5 s of an unmoving 2100 Hz, its reversals or its modulation; keying on
the grid of its bits; characters. Heard by `ear` on the input of the denoiser.
"""

import numpy as np

from gateway.detect.bands import NONE, bands_of
from gateway.detect.carriers import SURE_FRAMES, Carriers
from gateway.detect.detection import Detection
from gateway.detect.keying import SEEMS, Keying
from gateway.detect.sines import Floats, Ints, Sight


class Fax:
    """Steady tones and keyed ones of every slot."""

    def __init__(self, slots: int) -> None:
        self.active = np.zeros(slots, np.bool_)
        """Wants the next chunk, whatever it holds."""
        self.holds = np.zeros(slots, np.bool_)
        """A signal that may be one is heard now."""
        self.latched = np.zeros(slots, np.bool_)
        """One was heard for certain, some time since the reset."""
        self._carriers, self._keying = Carriers(slots), Keying(slots)

    def reset(self, slots: Ints) -> None:
        """Forget all that these slots have heard."""
        for column in (self.active, self.holds, self.latched):
            column[slots] = False
        self._carriers.reset(slots)
        self._keying.reset(slots)

    def hear(self, slots: Ints, stream: Floats, sight: Sight, begin: Ints) -> list[Detection]:
        """Take a chunk of each slot; returns what has become certain, or is over.

        slots: int64 [m], unique; stream: float32 [m, 176 + 80 * k], the chunk after what came before it; sight: of
        these rows; begin: int64 [m], sample of the slot at which the chunk begins. A slot is passed when its sight
        is tonal or keyed and whenever it is `active`; what lies between is taken for silence.
        """
        band, keyed = bands_of(sight), sight.keyed > SEEMS
        rows = np.flatnonzero(self.active[slots] | (band != NONE) | keyed.any(axis=1))
        if not len(rows):
            return []
        slots, stream, begin = slots[rows], stream[rows], begin[rows]
        with np.errstate(all="ignore"):
            found = self._carriers.hear(slots, stream, band[rows], begin)
            found += self._keying.hear(slots, stream, keyed[rows], sight.hz[rows, 0], begin)
        for detection in found:
            self.latched[detection.slot] = True
        carriers, keying = self._carriers, self._keying
        self.active[slots] = (carriers.band[slots] != NONE) | keying.is_active(slots)
        self.holds[slots] = (carriers.frames[slots] >= SURE_FRAMES) | keying.is_likely(slots)
        return found
