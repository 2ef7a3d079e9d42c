"""One channel of frequency shift keying: its two correlators, and what their lead has been in one slot. For `keying`.

A change is where one frequency gives way to the other. Intervals between changes are whole bits of a modem, or they
are not: after a dozen of them there is no doubt. Frequencies are checked over the whole signal.
"""

from collections import deque
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gateway.detect.bands import WEAKEST
from gateway.detect.sines import HOP, RATE, Doubles
from gateway.detect.teletype import Change

Complexes = npt.NDArray[np.complex128]


class Channel(NamedTuple):
    """A modem's sending half."""

    name: str
    one_hz: float
    zero_hz: float
    window: int
    """Samples of a correlator."""
    within_hz: float
    """How far off both frequencies may be in the mean."""
    baud: float
    """Of synchronous bits, or 0."""
    typists: tuple[tuple[str, float, int], ...]
    """Name, baud and data bits of characters that may be sent here."""


CHANNELS = (
    Channel("v21-channel-1", 980.0, 1180.0, 27, 24.0, 300.0, (("edt", 110.0, 8),)),
    Channel("v21", 1650.0, 1850.0, 27, 24.0, 300.0, ()),
    Channel("tty", 1400.0, 1800.0, 80, 30.0, 0.0, (("tty", 1000 / 22, 5), ("tty", 50.0, 5))),
    Channel("bell-103", 1270.0, 1070.0, 27, 24.0, 300.0, ()),
    Channel("bell-103", 2225.0, 2025.0, 27, 24.0, 300.0, ()),
)
"""In the order of `sines.FSK_BANDS_HZ`. ITU-T V.21 (± 6 Hz sent, ± 12 Hz received); V.18 annexes A, C and D."""
PURE = 0.7
"""Share of the power that the better correlator explains, in the mean; it is lower where bits change often."""
CLEAR = 0.4
"""Difference over sum of both powers where only one frequency sounds: there its offset is measured."""
APART_HZ = 45.0
"""Each may lie so far from that mean: bits that change often pull the two apart."""
LEADS = 0.2
"""Likewise, to say that one of them leads: between, noise would make changes of its own."""
LAG = 8
"""Samples between which the phase's turn is taken."""
GRID = 0.2
"""How far off a whole number of bits an interval may be."""
LONGEST = 12
"""Bits between two changes; more is a pause of a sender that waits."""
INTERVALS = 12
"""So many on the grid without one that is not, and no other sound does that: 4 in 10 would be there by chance."""
SHORTEST = 2
"""Bits of the shortest interval; and not all are of one length: a trill is steady, and slower."""
SPAN = RATE // 5
"""They last at least 200 ms; flags hold 15 in this time (T.30 section 5.3.1: the preamble lasts 1 s ± 15 %)."""
LIKELY = 3
"""Intervals that make a signal likely enough to be left alone."""
CARRIER = 6 * HOP
"""So long must a text telephone's carrier stand to be left alone."""
IDLE = RATE
"""After so long without a change nobody listens any more, until the tone lies elsewhere: it is one, and not keyed."""


class Line:
    """What has been keyed on one channel of one slot without a gap."""

    def __init__(self, channel: Channel, begin: int) -> None:
        self.begin = begin
        self.until = begin
        self.turns = np.zeros(2, np.complex128)
        """Sums of the phase's turns in `LAG` samples: of 0 and of 1."""
        self.power = 0.0
        """Of the newest chunk."""
        self.sync_since = 0.0
        """First change of those on the grid."""
        self._channel = channel
        self._purity = 0.0, 0.0
        """Of the chunk before: explained, and all. One alone may hold nothing but a change."""
        self._lead, self._lead_at = 0.0, 0.0
        """The last clear lead of a frequency, as in `Keyed`, and its sample."""
        self._last: Change | None = None
        self._runs: deque[tuple[bool, int]] = deque(maxlen=INTERVALS)
        self._on_grid = 0
        self._changed = 0

    def goes_on(self, until: int, keyed: "Keyed") -> bool:
        """Take a chunk; keyed: of this row. False: there is something else in it, or nothing."""
        explained, energy = self._purity[0] + float(keyed.explained), self._purity[1] + float(keyed.energy)
        self._purity = float(keyed.explained), float(keyed.energy)
        self.until, self.power = until, float(keyed.power)
        self.turns += keyed.turns
        return explained > PURE * energy and self.power > WEAKEST

    def changes(self, lead: Doubles, begin: float) -> list[Change]:
        """Where one frequency gives way to the other: half way between the places where each leads beyond doubt."""
        at = np.flatnonzero(np.abs(lead) > LEADS)
        times, leads = at + begin, lead[at]
        if self._lead:
            times, leads = np.append(self._lead_at, times), np.append(self._lead, leads)
        if not len(leads):
            return []
        self._lead_at, self._lead = float(times[-1]), float(leads[-1])
        turns = np.flatnonzero((leads[1:] > 0) != (leads[:-1] > 0))
        before, after = leads[turns], leads[turns + 1]
        when = times[turns] + (times[turns + 1] - times[turns]) * before / (before - after)
        return [Change(*change) for change in zip(when.tolist(), (after > 0).tolist(), strict=True)]

    def is_idle(self) -> bool:
        """No change for long."""
        return self.until - (self.begin if self._last is None else self._last.at) > IDLE

    def take(self, change: Change) -> None:
        """The next change."""
        if self._last is not None and self._channel.baud:
            bits = (change.at - self._last.at) * self._channel.baud / RATE
            count = round(bits)
            if count > LONGEST:
                self._runs.append((self._last.one, count))
            elif count >= 1 and abs(bits - count) < GRID:
                self._runs.append((self._last.one, count))
                self.sync_since = self.sync_since if self._on_grid else self._last.at
                self._on_grid += 1
            else:
                self._runs.clear()
                self._on_grid = 0
        self._last = change
        self._changed += 1

    def is_sync(self) -> bool:
        """Enough bits for long enough."""
        if self._on_grid < INTERVALS or self._last is None or self._last.at - self.sync_since < SPAN:
            return False
        lengths = {bits for _, bits in self._runs}
        return len(lengths) > 1 and min(lengths) <= SHORTEST

    def is_likely(self) -> bool:
        """May be keying; of a text telephone, its carrier is enough, or a few changes."""
        if self._on_grid >= LIKELY or not self._channel.typists or self.until - self.begin < CARRIER:
            return self._on_grid >= LIKELY
        return not self._channel.baud or (self._changed >= LIKELY and self.is_tuned())

    def is_tuned(self) -> bool:
        """Both frequencies are the channel's."""
        zero, one = np.angle(self.turns) * (RATE / (2 * np.pi * LAG))
        both = np.abs(self.turns).min() > 0
        return bool(both and abs(zero + one) / 2 < self._channel.within_hz and abs(one - zero) / 2 < APART_HZ)

    def sync_name(self) -> str:
        """V.8 begins with ten ones, then nine zeros and a one (CI) or six zeros and four ones (CM and JM)."""
        runs = list(self._runs)
        for (one, ones), (_, zeros) in pairwise(runs):
            if one and ones >= 10 and zeros in (6, 9):
                return "v8-ci" if zeros == 9 else "v8-jm" if self._channel.name == "v21" else "v8-cm"
        return self._channel.name


class Keyed(NamedTuple):
    """What a chunk says of one channel; [m] or [m, samples + 1] each."""

    explained: Doubles
    """What the better correlator explains, summed over the chunk."""
    energy: Doubles
    """Likewise, of what there is."""
    lead: Doubles
    """-1..1: how much stronger the frequency of 1 is."""
    turns: Complexes
    """complex [m, 2]: of 0 and of 1, see `Line`."""
    power: Doubles


def demodulate(channel: Channel, sound: Doubles) -> Keyed:
    """sound: float64 [m, window + samples]."""
    width, samples = channel.window, sound.shape[1] - channel.window
    angles = 2 * np.pi / RATE * np.array([[channel.zero_hz], [channel.one_hz]]) * np.arange(sound.shape[1])
    mixed = np.cumsum(np.exp(-1j * angles)[:, None] * sound, axis=2)
    mixed = np.concatenate([mixed[..., width - 1 : width], mixed[..., width:] - mixed[..., :-width]], axis=2)
    zero, one = mixed.real**2 + mixed.imag**2
    energy = np.cumsum(sound**2, axis=1)
    energy = np.concatenate([energy[:, width - 1 : width], energy[:, width:] - energy[:, :-width]], axis=1)
    lead: Doubles = (one - zero) / (one + zero + 1e-12)
    clear = np.stack([lead < -CLEAR, lead > CLEAR])[..., LAG:] * (mixed[..., LAG:] * mixed[..., :-LAG].conj())
    return Keyed(
        2 / width * np.maximum(zero, one).sum(axis=1),
        energy.sum(axis=1),
        lead,
        clear.sum(axis=2).T,
        (sound[:, -samples:] ** 2).mean(axis=1),
    )
