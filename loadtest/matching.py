"""Which packet that came back is which packet that went out: losses, duplicates and delays, from arrays alone.

The gateway sends each stream on with an SSRC of its own and with a constant offset of sequence numbers, so the offset
is learned from the stream itself.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

PACKET_NS = 20_000_000

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Packets that came back, in order of arrival within each leg."""

    leg: npt.NDArray[np.int32]
    """The leg whose audio it carries, by the gateway's port."""
    sequence: npt.NDArray[np.uint16]
    ssrc: npt.NDArray[np.uint32]
    at_ns: Ints


@dataclass(frozen=True, slots=True)
class Matched:
    """Every packet sent, [legs, frames], and what became of it."""

    delivered: Bools
    delay_ns: Ints
    """Time from sending to the first arrival; 0 where nothing arrived."""
    frame: Ints
    """For each arrival, which frame of its leg it is; -1: none that was sent."""
    duplicates: int
    reordered: int
    unknown: int
    """Arrivals that are no packet of ours."""
    ssrc_changes: int


def match(sent_ns: Ints, arrivals: Arrivals) -> Matched:
    """Find the packet behind each arrival.

    sent_ns: int64 [legs, frames], when each packet went out, 0 where it did not; a leg may begin late. Its offset is
    fixed by its first and last packet; where packets at an end are missing it is ambiguous, and the smallest delay
    that is not negative is taken: at the begin of a stream a gateway that has not yet learned its source may drop
    some.
    """
    frame = np.full(len(arrivals.leg), -1, np.int64)
    if not len(frame):
        return Matched(np.zeros(sent_ns.shape, bool), np.zeros_like(sent_ns), frame, 0, 0, 0, 0)
    order = np.argsort(arrivals.leg, kind="stable")
    leg, at_ns = arrivals.leg[order].astype(np.int64), arrivals.at_ns[order]
    position, reordered = _positions(leg, arrivals.sequence[order])
    frame[order] = _aligned(leg, position, at_ns, sent_ns)
    changes = (np.diff(leg) == 0) & (np.diff(arrivals.ssrc[order].astype(np.int64)) != 0)
    return _settle(sent_ns, arrivals, frame, reordered, int(changes.sum()))


def _positions(leg: Ints, sequence: npt.NDArray[np.uint16]) -> tuple[Ints, int]:
    """Place of each packet in its leg's stream, from 0 for the lowest; and how many came after a later one."""
    step = np.zeros(len(leg), np.int64)
    step[1:] = np.diff(sequence).view(np.int16)
    starts = _starts(leg)
    step[starts] = 0
    walked = np.cumsum(step)
    lowest = np.minimum.reduceat(walked, starts)
    return walked - np.repeat(lowest, _counts(starts, len(leg))), int((step < 0).sum())


def _aligned(leg: Ints, position: Ints, at_ns: Ints, sent_ns: Ints) -> Ints:
    """Frame of each arrival, by the offset of its leg; -1 for what lies outside the stream that was sent."""
    frames = sent_ns.shape[1]
    starts = _starts(leg)
    counts = _counts(starts, len(leg))
    position = position + np.argmax(sent_ns > 0, axis=1)[leg]
    missing = np.maximum(frames - 1 - np.maximum.reduceat(position, starts), 0)

    def least_delay(skipped: Ints) -> Ints:
        index = np.minimum(position + np.repeat(skipped, counts), frames - 1)
        return np.minimum.reduceat(at_ns - sent_ns[leg, index], starts)

    none = np.zeros(len(starts), np.int64)
    skipped = np.clip((least_delay(none) + PACKET_NS // 10) // PACKET_NS, 0, missing)
    skipped -= (least_delay(skipped) < 0) & (skipped > 0)
    frame = position + np.repeat(skipped, counts)
    return np.where(frame < frames, frame, -1)


def _settle(sent_ns: Ints, arrivals: Arrivals, frame: Ints, reordered: int, ssrc_changes: int) -> Matched:
    known = frame >= 0
    known[known] &= sent_ns[arrivals.leg[known], frame[known]] > 0
    leg, index = arrivals.leg[known], frame[known]
    first_ns = np.full(sent_ns.shape, np.iinfo(np.int64).max)
    np.minimum.at(first_ns, (leg, index), arrivals.at_ns[known])
    delivered = first_ns != np.iinfo(np.int64).max
    delay_ns = np.where(delivered, first_ns - sent_ns, 0)
    duplicates = int(known.sum() - delivered.sum())
    return Matched(delivered, delay_ns, frame, duplicates, reordered, int((~known).sum()), ssrc_changes)


def _starts(leg: Ints) -> Ints:
    """Where each leg begins in an array sorted by leg."""
    return np.flatnonzero(np.diff(leg, prepend=leg[0] - 1))


def _counts(starts: Ints, total: int) -> Ints:
    return np.diff(starts, append=total)
