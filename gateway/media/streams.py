"""Admission of RTP: SSRC changes, duplicates, reordering and gaps, and the header each packet leaves with.

The way of a packet enters here with parsed headers and leaves with a verdict. All of it is arrays but for the streams
that something has happened to: those are walked packet by packet. Incoming state is indexed by the receiving slot,
outgoing state (our SSRC, the last sequence number and timestamp sent) by the slot of the leg that sends.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gateway.media.legs import Legs
from gateway.protocol import rtp

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

ACCEPT, DROP, HOLD, LATE = 0, 1, 2, 3

TAKEOVER_SILENCE_S = 0.1
"""How long an SSRC must have been silent before another may take its place."""
MAX_DROPOUT = 3000
"""A larger step forward is a restart, not a loss (RFC 3550 appendix A.1)."""
MAX_MISORDER = 100
"""A larger step back is one, too."""
HISTORY = 64
"""Packets back from the newest that a duplicate is still told from a late one."""


class Arrivals(NamedTuple):
    """RTP packets of audio legs, one an element."""

    rows: Ints
    slots: Ints
    sequence: Ints
    timestamp: Ints
    ssrc: Ints
    payload_type: Ints
    marker: Bools
    size: Ints
    offset: Ints
    arrived_s: npt.NDArray[np.float64]

    def take(self, which: npt.NDArray[np.intp] | Bools) -> "Arrivals":
        """The chosen packets, in the chosen order."""
        return Arrivals._make(column[which] for column in self)


class Admitted(NamedTuple):
    """Arrivals in the order of slot and sequence, with what is to become of each."""

    packets: Arrivals
    verdict: npt.NDArray[np.int8]
    gap: Ints
    """Packets missing right before this one."""


class Streams:
    """Sequence state of every leg of a worker."""

    def __init__(self, legs: Legs, hold_s: float, rng: np.random.Generator) -> None:
        n = legs.slots
        self._legs, self._hold_s, self._rng = legs, hold_s, rng
        self.ssrc = np.full(n, -1, np.int64)
        self.open = np.zeros(n, np.bool_)
        """A new SSRC may take over at once."""
        self.expected = np.zeros(n, np.int64)
        self.seen = np.zeros(n, np.uint64)
        """Bit b: the packet `expected - 1 - b` has come."""
        self.bad_sequence = np.full(n, -1, np.int64)
        self.last_s = np.zeros(n)
        self.sequence_offset = np.zeros(n, np.int64)
        self.timestamp_offset = np.zeros(n, np.int64)
        self.restarted = np.zeros(n, np.bool_)
        """The next packet is the first of a new run of numbers: it gets the marker."""
        self.fresh = np.zeros(n, np.bool_)
        """The next packet is the first of a new source: what its decoder and engine remember is another's."""
        self.out_ssrc = np.zeros(n, np.int64)
        self.out_sequence = np.full(n, -1, np.int64)
        self.out_timestamp = np.zeros(n, np.int64)
        self.out_s = np.zeros(n)
        self.fed_by = np.full(n, -1, np.int64)
        self.packets = np.zeros(n, np.int64)
        self.bytes = np.zeros(n, np.int64)
        self.errors = np.zeros(n, np.int64)
        self.lost = np.zeros(n, np.int64)
        self.jitter_s = np.zeros(n)
        self._transit_s = np.zeros(n)
        self.counters: dict[str, int] = {}

    def open_leg(self, slot: int) -> None:
        """Zero the row and draw an SSRC for what is sent to the leg's party."""
        for column in (self.expected, self.last_s, self.seen, self.out_s):
            column[slot] = 0
        for flag in (self.open, self.restarted, self.fresh):
            flag[slot] = False
        for column in (self.packets, self.bytes, self.errors, self.lost, self.jitter_s, self._transit_s):
            column[slot] = 0
        for column in (self.ssrc, self.bad_sequence, self.out_sequence, self.fed_by):
            column[slot] = -1
        self.out_ssrc[slot] = self._rng.integers(1, 1 << 32)

    def count(self, reason: str, n: int = 1) -> None:
        """Count something of the worker as a whole."""
        self.counters[reason] = self.counters.get(reason, 0) + n

    def admit(self, packets: Arrivals, now: float) -> Admitted:
        """Decide on each packet and advance the streams by those that go on."""
        packets = packets.take(self._take_over(packets, now))
        delta = rtp.delta_u16(packets.sequence, self.expected[packets.slots])
        verdict = np.zeros(len(delta), np.int8)
        gap = np.zeros(len(delta), np.int64)
        if not delta.any() and not repeats(packets.slots):
            self._advance(packets.slots, np.ones(len(delta), np.int64))
        elif len(delta):
            packets = self._sort_out(packets, delta, verdict, gap, now)
        self._account(packets, verdict, gap, now)
        return Admitted(packets, verdict, gap)

    def _sort_out(
        self, packets: Arrivals, delta: Ints, verdict: npt.NDArray[np.int8], gap: Ints, now: float
    ) -> Arrivals:
        """Order by slot and sequence number; whole runs go on as arrays, the others are walked."""
        order = np.lexsort((delta, packets.slots))
        packets, delta = packets.take(order), delta[order]
        begins = run_starts(packets.slots)
        lengths = np.diff(begins, append=len(delta))
        rank = np.arange(len(delta)) - np.repeat(begins, lengths)
        smooth = np.logical_and.reduceat(delta == rank, begins)
        for begin, length in zip(begins[~smooth].tolist(), lengths[~smooth].tolist(), strict=True):
            self._walk(packets, delta, slice(begin, begin + length), verdict, gap, now)
        self._advance(packets.slots[begins[smooth]], lengths[smooth])
        return packets

    def _take_over(self, packets: Arrivals, now: float) -> Bools:
        """Let new SSRCs in where the rules allow it; True for packets of their slot's current SSRC."""
        slots = packets.slots
        peer = self._legs.peer[slots]
        changed = (packets.ssrc != self.ssrc[slots]) | ((peer >= 0) & (self.fed_by[peer] != slots))
        for i in np.flatnonzero(changed).tolist():
            slot, ssrc = int(slots[i]), int(packets.ssrc[i])
            if ssrc == self.ssrc[slot]:
                if self.fed_by[peer[i]] != slot:
                    self._rebase(packets, i, now)
                continue
            silent = now - self.last_s[slot] >= TAKEOVER_SILENCE_S
            if self.ssrc[slot] < 0 or self.open[slot] or silent:
                self._begin(packets, i, now)
        keep: Bools = packets.ssrc == self.ssrc[slots]
        if not keep.all():
            np.add.at(self.errors, slots[~keep], 1)
            self.count("dropped_ssrc", int((~keep).sum()))
        return keep

    def _begin(self, packets: Arrivals, i: int, now: float) -> None:
        slot = int(packets.slots[i])
        self.ssrc[slot] = packets.ssrc[i]
        self.expected[slot] = packets.sequence[i]
        self.seen[slot] = 0
        self.open[slot] = False
        self.bad_sequence[slot] = -1
        self.last_s[slot] = now
        self._transit_s[slot] = 0.0
        self.fresh[slot] = True
        self._rebase(packets, i, now)

    def _rebase(self, packets: Arrivals, i: int, now: float) -> None:
        """Lay the packet's numbers onto the outgoing stream, right behind the last one sent."""
        slot = int(packets.slots[i])
        self.restarted[slot] = True
        out = int(self._legs.peer[slot])
        if out < 0:
            return
        if self.out_sequence[out] < 0:
            sequence, timestamp = (int(x) for x in self._rng.integers(0, (1 << 15, 1 << 32)))
        else:
            elapsed = (now - self.out_s[out]) * self._legs.clock_hz[slot, packets.payload_type[i]]
            sequence, timestamp = int(self.out_sequence[out]) + 1, int(self.out_timestamp[out] + max(elapsed, 1.0))
        self.sequence_offset[slot] = sequence - int(packets.sequence[i])
        self.timestamp_offset[slot] = timestamp - int(packets.timestamp[i])
        self.fed_by[out] = slot

    def _walk(
        self, packets: Arrivals, delta: Ints, group: slice, verdict: npt.NDArray[np.int8], gap: Ints, now: float
    ) -> None:
        """Decide on the packets of one slot, in order of their sequence numbers."""
        slot = int(packets.slots[group.start])
        base = int(self.expected[slot])
        oldest_s = np.minimum.accumulate(packets.arrived_s[group][::-1])[::-1]
        for i in range(group.start, group.stop):
            step = base + int(delta[i]) - int(self.expected[slot])
            if step > MAX_DROPOUT or step < -MAX_MISORDER:
                verdict[i] = self._resync(packets, i, now)
                if verdict[i] == ACCEPT:
                    base = int(self.expected[slot]) - int(delta[i]) - 1
            elif step < 0:
                verdict[i] = self._look_back(slot, -step)
            elif step > 0 and now < oldest_s[i - group.start] + self._hold_s:
                verdict[i] = HOLD  # neither it nor a packet behind it has waited long enough
            else:
                gap[i] = step
                self._accept(slot, step + 1)

    def _look_back(self, slot: int, back: int) -> int:
        """A packet behind the newest: late when it was missing, otherwise a duplicate."""
        bit = np.uint64(1) << np.uint64(back - 1) if back <= HISTORY else np.uint64(0)
        if not bit or self.seen[slot] & bit:
            self.errors[slot] += 1
            self.count("dropped_duplicate" if bit else "dropped_old")
            return DROP
        self.seen[slot] |= bit
        self.lost[slot] = max(0, self.lost[slot] - 1)
        self.count("late")
        return LATE

    def _resync(self, packets: Arrivals, i: int, now: float) -> int:
        """A great step is believed when the packet after it follows on (RFC 3550 A.1)."""
        slot, sequence = int(packets.slots[i]), int(packets.sequence[i])
        if sequence != self.bad_sequence[slot]:
            self.bad_sequence[slot] = (sequence + 1) & 0xFFFF
            self.errors[slot] += 1
            self.count("dropped_sequence")
            return DROP
        self._begin(packets, i, now)
        self._accept(slot, 1)
        return ACCEPT

    def _accept(self, slot: int, step: int) -> None:
        self.expected[slot] += step
        history = int(self.seen[slot]) << step | 1
        self.seen[slot] = np.uint64(history & ((1 << HISTORY) - 1))

    def _advance(self, slots: Ints, lengths: Ints) -> None:
        """Accept so many packets of each slot, without a gap. slots: unique."""
        self.expected[slots] += lengths
        shift = np.minimum(lengths, HISTORY - 1).astype(np.uint64)
        self.seen[slots] = self.seen[slots] << shift | (np.uint64(1) << shift) - np.uint64(1)

    def _account(self, packets: Arrivals, verdict: npt.NDArray[np.int8], gap: Ints, now: float) -> None:
        accepted = np.flatnonzero(verdict == ACCEPT)
        slots = packets.slots[accepted]
        np.add.at(self.packets, slots, 1)
        np.add.at(self.bytes, slots, packets.size[accepted] + packets.offset[accepted])
        if gap.any():
            np.add.at(self.lost, packets.slots, gap)
        self.last_s[slots] = now
        clock = self._legs.clock_hz[slots, packets.payload_type[accepted]]
        transit = now - packets.timestamp[accepted] / clock
        moved = np.abs(transit - self._transit_s[slots])
        known = (self._transit_s[slots] != 0.0) & (moved < 1.0)
        self.jitter_s[slots] += np.where(known, moved - self.jitter_s[slots], 0.0) / 16
        self._transit_s[slots] = transit

    def headers(self, packets: Arrivals, now: float) -> tuple[Ints, Ints, Ints, Bools]:
        """Sequence number, timestamp, SSRC and marker that the packets leave with; remembers the newest."""
        slots = packets.slots
        out = self._legs.peer[slots]
        sequence = packets.sequence + self.sequence_offset[slots]
        timestamp = packets.timestamp + self.timestamp_offset[slots]
        markable = (packets.payload_type < 64) | (packets.payload_type >= 96)  # others would look like RTCP (RFC 5761)
        marker = packets.marker
        restarted = np.flatnonzero(self.restarted[slots])
        if len(restarted):
            first = restarted[np.unique(slots[restarted], return_index=True)[1]]
            marker = marker.copy()
            marker[first] |= markable[first]
            self.restarted[slots] = False
        ahead = ((sequence - self.out_sequence[out] + 0x8000) & 0xFFFF) > 0x8000
        fresh = (out >= 0) & (ahead | (self.out_sequence[out] < 0))
        newest = out[fresh]
        self.out_sequence[newest] = sequence[fresh] & 0xFFFF
        self.out_timestamp[newest] = timestamp[fresh] & 0xFFFFFFFF
        self.out_s[newest] = now
        return sequence & 0xFFFF, timestamp & 0xFFFFFFFF, self.out_ssrc[out], marker


def repeats(slots: Ints) -> bool:
    """Whether a slot comes twice."""
    ordered = np.sort(slots)
    return bool((ordered[1:] == ordered[:-1]).any())


def run_starts(values: Ints) -> Ints:
    """Where runs of equal values begin."""
    starts = np.ones(len(values), np.bool_)
    np.not_equal(values[1:], values[:-1], out=starts[1:])
    return np.flatnonzero(starts)
