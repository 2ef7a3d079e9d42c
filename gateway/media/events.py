"""Digits and tones that come as packets of their own (RFC 4733): reported once each, whatever is lost of them."""

import numpy as np

from gateway.detect.detection import Detection
from gateway.protocol import telephone_event

DIGITS = "0123456789*#ABCD"


class Events:
    """The last event of every slot."""

    def __init__(self, slots: int) -> None:
        self._timestamp = np.full(slots, -1, np.int64)
        self.malformed = 0

    def open_leg(self, slot: int) -> None:
        """A new leg."""
        self._timestamp[slot] = -1

    def hear(self, slot: int, timestamp: int, payload: bytes, at: int) -> Detection | None:
        """One packet. All packets of an event bear the timestamp of its beginning (section 2.5.1.2).

        at: the leg's time in samples at 8 kHz. Returns what is new.
        """
        try:
            event = telephone_event.parse(payload)
        except telephone_event.TelephoneEventError:
            self.malformed += 1
            return None
        if timestamp == self._timestamp[slot]:
            return None
        self._timestamp[slot] = timestamp
        value = DIGITS[event.event] if event.event < len(DIGITS) else str(event.event)
        return Detection(slot, "event", value, at, level_dbm0=-float(event.volume))
