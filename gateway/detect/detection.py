"""What the detectors report: one sound that was heard, and when."""

from typing import NamedTuple

CLOCK_HZ = 8000
"""Of the times in detections, whatever the codec."""


class Detection(NamedTuple):
    """A tone, a digit, a modem signal or a stretch of music on one leg."""

    slot: int
    kind: str
    """`dtmf`, `progress`, `tone`, `fax`, `music` or `event` (RFC 4733)."""
    value: str
    """The digit, the progress tone or fax signal by name, or the frequencies of another tone."""
    begin: int
    """In samples of `CLOCK_HZ`, counted from the leg's first."""
    end: int = -1
    """Likewise; -1 while it lasts."""
    level_dbm0: float = float("nan")
    """Of the whole sound."""
    twist_db: float = float("nan")
    """Higher tone's level over the lower one's (ITU-T Q.23)."""
