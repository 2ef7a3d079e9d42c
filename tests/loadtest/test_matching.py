"""Matching of what came back to what went out."""

import numpy as np
import pytest

from loadtest.matching import PACKET_NS, Arrivals, match

MS = 1_000_000


def sent(legs: int, frames: int) -> np.ndarray:
    """int64 [legs, frames]: a packet each 20 ms, the legs 1 ms apart."""
    return (1 + np.arange(legs)[:, None]) * MS + (1 + np.arange(frames)) * PACKET_NS


def arrivals(packets: list[tuple[int, int, int]], offset: int = 1000, ssrc: int = 7) -> Arrivals:
    """From (leg, frame, time of arrival in ns); each leg has another offset of sequence numbers."""
    leg, frame, at_ns = (np.array(column) for column in zip(*packets, strict=True))
    sequence = ((offset * (leg + 1) + frame) & 0xFFFF).astype(np.uint16)
    return Arrivals(leg.astype(np.int32), sequence, np.full(len(leg), ssrc, np.uint32), at_ns.astype(np.int64))


def through(sent_ns: np.ndarray, delay_ns: int = 3 * MS) -> list[tuple[int, int, int]]:
    """All packets after one delay, in order of arrival."""
    frames = ((leg, frame) for frame in range(sent_ns.shape[1]) for leg in range(sent_ns.shape[0]))
    return [(leg, frame, int(sent_ns[leg, frame]) + delay_ns) for leg, frame in frames]


def test_every_packet_finds_its_own_with_its_delay():
    sent_ns = sent(3, 40)
    matched = match(sent_ns, arrivals(through(sent_ns)))
    assert matched.delivered.all()
    assert (matched.delay_ns == 3 * MS).all()
    assert (matched.duplicates, matched.reordered, matched.unknown, matched.ssrc_changes) == (0, 0, 0, 0)


def test_sequence_numbers_wrap_more_than_once():
    sent_ns = sent(1, 150_000)
    matched = match(sent_ns, arrivals(through(sent_ns), offset=65_000))
    assert matched.delivered.all()
    assert (matched.delay_ns == 3 * MS).all()


def test_a_lost_packet_is_lost_and_moves_no_other():
    sent_ns = sent(2, 30)
    came = [packet for packet in through(sent_ns) if packet[:2] != (1, 12)]
    matched = match(sent_ns, arrivals(came))
    assert np.argwhere(~matched.delivered).tolist() == [[1, 12]]
    assert (matched.delay_ns[matched.delivered] == 3 * MS).all()


@pytest.mark.parametrize("first", [1, 7])
def test_packets_dropped_before_the_source_was_learned_do_not_look_like_delay(first):
    sent_ns = sent(2, 30)
    came = [packet for packet in through(sent_ns) if packet[0] == 0 or packet[1] >= first]
    matched = match(sent_ns, arrivals(came))
    assert np.argwhere(~matched.delivered).tolist() == [[1, frame] for frame in range(first)]
    assert (matched.delay_ns[matched.delivered] == 3 * MS).all()


def test_packets_lost_at_the_end_are_lost_there():
    sent_ns = sent(1, 30)
    matched = match(sent_ns, arrivals(through(sent_ns)[:-3]))
    assert np.argwhere(~matched.delivered)[:, 1].tolist() == [27, 28, 29]
    assert (matched.delay_ns[matched.delivered] == 3 * MS).all()


def test_a_delay_longer_than_a_packet_is_told_when_nothing_is_missing():
    sent_ns = sent(1, 30)
    matched = match(sent_ns, arrivals(through(sent_ns, delay_ns=65 * MS)))
    assert (matched.delay_ns == 65 * MS).all()


def test_a_duplicate_counts_once_and_the_first_arrival_gives_the_delay():
    sent_ns = sent(1, 10)
    came = through(sent_ns)
    came.insert(5, (0, 4, came[4][2] + MS))
    matched = match(sent_ns, arrivals(came))
    assert matched.duplicates == 1
    assert matched.delivered.all()
    assert (matched.delay_ns == 3 * MS).all()


def test_packets_out_of_order_are_counted_and_keep_their_own_delay():
    sent_ns = sent(1, 10)
    came = through(sent_ns)
    came[0], came[1] = (0, 1, came[1][2]), (0, 0, came[1][2] + MS)
    matched = match(sent_ns, arrivals(came))
    assert matched.reordered == 1
    assert matched.delay_ns[0, 0] == 3 * MS + PACKET_NS + MS
    assert (matched.delay_ns[0, 1:] == 3 * MS).all()


def test_a_leg_that_hears_nothing_has_lost_everything():
    sent_ns = sent(2, 10)
    matched = match(sent_ns, arrivals([packet for packet in through(sent_ns) if packet[0] == 1]))
    assert not matched.delivered[0].any()
    assert matched.delivered[1].all()


def test_silence_of_all_legs_is_loss_not_an_error():
    nothing = Arrivals(*(np.zeros(0, kind) for kind in (np.int32, np.uint16, np.uint32, np.int64)))
    assert not match(sent(2, 10), nothing).delivered.any()


def test_packets_that_nobody_sent_are_unknown():
    sent_ns = sent(1, 10)
    came = [*through(sent_ns), (0, 10, int(sent_ns[0, 9]) + 25 * MS)]
    matched = match(sent_ns, arrivals(came))
    assert matched.unknown == 1
    assert matched.delivered.all()


def test_a_packet_the_kernel_did_not_take_is_neither_sent_nor_lost():
    sent_ns = sent(1, 10)
    sent_ns[0, 4] = 0
    came = [packet for packet in through(sent_ns) if packet[1] != 4]
    matched = match(sent_ns, arrivals(came))
    assert ((sent_ns > 0) == matched.delivered).all()


def test_a_change_of_ssrc_is_counted():
    sent_ns = sent(1, 10)
    came = arrivals(through(sent_ns))
    came.ssrc[6:] = 8
    assert match(sent_ns, came).ssrc_changes == 1


def test_each_arrival_knows_its_frame():
    sent_ns = sent(2, 5)
    came = through(sent_ns)
    assert match(sent_ns, arrivals(came)).frame.tolist() == [frame for _, frame, _ in came]


def test_legs_that_begin_late_are_matched_from_their_first_packet():
    sent_ns = sent(2, 30)
    sent_ns[1, :11] = 0
    came = [packet for packet in through(sent_ns) if packet[0] == 0 or packet[1] >= 13]
    matched = match(sent_ns, arrivals(came))
    assert np.argwhere((sent_ns > 0) & ~matched.delivered).tolist() == [[1, 11], [1, 12]]
    assert (matched.delay_ns[matched.delivered] == 3 * MS).all()
