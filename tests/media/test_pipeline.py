"""The way of a packet without sockets: bytes and a fake clock in, bytes out."""

from itertools import pairwise

import numpy as np
import pytest

from gateway.denoise.passthrough import PassthroughEngine
from gateway.errors import EngineError
from gateway.media.pipeline import Pipeline
from gateway.messages import Kind, LegSpec, Payload
from gateway.protocol import rtp

MU_SILENCE = 0xFF
PCMU = Payload(0, "PCMU", 8000, 1, 0)
EVENT = Payload(101, "TELEPHONE-EVENT", 8000, 1, 96)
NOISE = Payload(13, "CN", 8000, 1, 13)


def spec(slot: int, peer: int, **changes: object) -> LegSpec:
    defaults = {"generation": 1, "call_id": "call", "payloads": (PCMU, EVENT, NOISE), "bypass": "off"}
    return LegSpec(slot=slot, peer=peer, **{**defaults, **changes})


class Bench:
    """A pipeline with two legs of one call, fed packet by packet."""

    def __init__(self, engine=PassthroughEngine, **changes: object) -> None:
        self.engines = {8000: engine(8000, 8), 16000: engine(16000, 8)}
        self.pipeline = Pipeline(8, self.engines, hold_s=0.005, rows=64, seed=1)
        self.pipeline.open(spec(0, 1, **changes))
        self.pipeline.open(spec(1, 0, **changes))
        self.now = 100.0

    def feed(self, *datagrams: bytes, slot: int = 0, after_s: float = 0.02) -> list[bytes]:
        """What leaves for datagrams that arrive together."""
        self.now += after_s
        for row, datagram in enumerate(datagrams):
            self.pipeline.slab[row, : len(datagram)] = np.frombuffer(datagram, np.uint8)
            self.pipeline.lengths[row], self.pipeline.slots[row] = len(datagram), slot
        outgoing = self.pipeline.step(len(datagrams), self.now)
        return [self.pipeline.slab[row, : self.pipeline.lengths[row]].tobytes() for row in outgoing.rows]

    def talk(self, numbers, **fields) -> list[rtp.Packet]:
        """Feed voice packets one by one."""
        return [rtp.unpack(sent) for number in numbers for sent in self.feed(voice(number, **fields))]


def content(number: int, size: int = 160) -> bytes:
    return np.random.default_rng(number).integers(0, 127, size, np.uint8).tobytes()


def voice(number: int, *, ssrc: int = 7, payload_type: int = 0, size: int = 160, **changes: int) -> bytes:
    fields = {"sequence": number & 0xFFFF, "timestamp": number * size & 0xFFFFFFFF, "ssrc": ssrc} | changes
    return rtp.pack(content(number, size), payload_type=payload_type, **fields)


def payloads(packets) -> bytes:
    return b"".join(packet.payload for packet in packets)


def test_a_bypassed_stream_is_the_senders_bytes_delayed_by_exactly_the_engines_delay():
    sent = Bench(bypass="on").talk(range(20))
    original = b"".join(content(number) for number in range(20))
    assert payloads(sent) == bytes([MU_SILENCE]) * 80 + original[:-80]


def test_level_zero_is_the_senders_bytes_delayed():
    sent = Bench(level=0).talk(range(20))
    original = b"".join(content(number) for number in range(20))
    assert payloads(sent) == bytes([MU_SILENCE]) * 80 + original[:-80]


def test_a_leg_that_is_off_from_the_start_keeps_every_byte_undelayed():
    sent = Bench(denoise=False).talk(range(20))
    assert payloads(sent) == b"".join(content(number) for number in range(20))


def test_denoised_audio_has_the_same_delay_as_dry_audio():
    sent = Bench().talk(range(20))
    original = b"".join(content(number) for number in range(20))
    assert payloads(sent)[480:] == (bytes([MU_SILENCE]) * 80 + original[:-80])[480:]


def test_switching_bypass_in_mid_call_neither_loses_nor_repeats_a_sample():
    bench = Bench()
    sent = bench.talk(range(10))
    for state, numbers in (("on", range(10, 30)), ("off", range(30, 60))):
        for slot, peer in ((0, 1), (1, 0)):
            bench.pipeline.update(spec(slot, peer, bypass=state))
        sent += bench.talk(numbers)
    original = b"".join(content(number) for number in range(60))
    assert payloads(sent)[480:] == (bytes([MU_SILENCE]) * 80 + original[:-80])[480:]


def test_the_header_is_ours_and_counts_on():
    sent = Bench().talk(range(65530, 65545))
    ours = {packet.ssrc for packet in sent}
    assert len(ours) == 1 and ours != {7}
    assert {(b.sequence - a.sequence) & 0xFFFF for a, b in pairwise(sent)} == {1}
    assert {(b.timestamp - a.timestamp) & 0xFFFFFFFF for a, b in pairwise(sent)} == {160}
    assert [packet.marker for packet in sent] == [True] + [False] * 14


def test_a_lost_packet_leaves_its_gap_to_the_far_end():
    sent = Bench().talk([1, 2, 3, 5, 6])
    first = sent[0].sequence
    assert [(packet.sequence - first) & 0xFFFF for packet in sent] == [0, 1, 2, 4, 5]


def test_a_gap_holds_later_packets_at_most_its_hold():
    bench = Bench()
    bench.talk([1, 2])
    assert bench.feed(voice(4)) == []
    assert bench.feed(after_s=0.004) == []
    released = bench.feed(after_s=0.0011)
    assert [packet[12:] != b"" for packet in released] == [True]
    assert bench.pipeline.streams.lost[0] == 1


def test_reordered_packets_leave_in_order():
    bench = Bench()
    first = bench.talk([1])[0].sequence
    assert bench.feed(voice(3)) == []
    sent = [rtp.unpack(datagram) for datagram in bench.feed(voice(2), after_s=0.002)]
    assert [(packet.sequence - first) & 0xFFFF for packet in sent] == [1, 2]
    assert bench.pipeline.streams.lost[0] == 0


def test_a_burst_of_one_stream_in_one_batch_keeps_its_order():
    bench = Bench(bypass="on")
    sent = [rtp.unpack(datagram) for datagram in bench.feed(voice(1), voice(3), voice(4), voice(2))]
    assert payloads(sent) == payloads(Bench(bypass="on").talk([1, 2, 3, 4]))


def test_duplicates_are_dropped_and_counted():
    bench = Bench()
    bench.talk([1, 2, 3])
    assert bench.feed(voice(3)) == [] and bench.feed(voice(2), voice(2)) == []
    assert bench.pipeline.streams.errors[0] == 3


def test_a_packet_later_than_its_hold_leaves_with_its_own_number():
    bench = Bench()
    first = bench.talk([1, 2])[0].sequence
    bench.feed(voice(4))
    bench.feed(after_s=0.006)
    late = [rtp.unpack(datagram) for datagram in bench.feed(voice(3))]
    assert [(packet.sequence - first) & 0xFFFF for packet in late] == [2]
    assert late[0].payload[80:] == content(3)[:80]


def test_a_second_ssrc_waits_for_silence_and_then_continues_the_numbers():
    bench = Bench()
    before = bench.talk(range(5))[-1]
    assert bench.feed(voice(900, ssrc=8), after_s=0.05) == []
    assert bench.pipeline.streams.counters["dropped_ssrc"] == 1
    after = rtp.unpack(bench.feed(voice(901, ssrc=8), after_s=0.06)[0])
    assert after.ssrc == before.ssrc and after.marker
    assert (after.sequence - before.sequence) & 0xFFFF == 1
    assert (after.timestamp - before.timestamp) & 0xFFFFFFFF == pytest.approx(0.11 * 8000, abs=2)


def test_a_new_ssrc_is_taken_at_once_after_a_reinvite():
    bench = Bench()
    bench.talk(range(5))
    bench.pipeline.update(spec(0, 1, epoch=1))
    assert len(bench.feed(voice(900, ssrc=8))) == 1


def test_a_sequence_that_begins_again_further_back_is_believed_at_its_second_packet():
    bench = Bench()
    bench.talk(range(40000, 40010))
    sent = bench.talk(range(10000, 10020))
    assert len(sent) == 19
    assert {(b.sequence - a.sequence) & 0xFFFF for a, b in pairwise(sent)} == {1}


@pytest.mark.parametrize("restart", [10000, 50000])
def test_a_sequence_that_begins_again_within_one_batch_goes_on_in_order(restart):
    bench = Bench()
    bench.talk(range(40000, 40010))
    assert len(bench.feed(voice(restart), voice(restart + 1), voice(restart + 2))) == 2
    assert len(bench.talk(range(restart + 3, restart + 10))) == 7


def test_only_the_first_packet_after_a_restart_is_marked():
    sent = [rtp.unpack(datagram) for datagram in Bench().feed(voice(1), voice(2), voice(3))]
    assert [packet.marker for packet in sent] == [True, False, False]


def test_after_silence_suppression_the_old_tail_never_opens_the_talkspurt():
    bench = Bench(bypass="on")
    bench.talk(range(5))
    sent = bench.talk([5], timestamp=90000)
    assert sent[0].payload == bytes([MU_SILENCE]) * 80 + content(5)[:80]


def test_telephone_events_pass_with_their_payload_type_mapped():
    bench = Bench()
    bench.talk([1])
    event = rtp.pack(b"\x05\x0a\x00\xa0", payload_type=101, sequence=2, timestamp=320, ssrc=7, marker=True)
    sent = rtp.unpack(bench.feed(event)[0])
    assert (sent.payload_type, sent.payload, sent.marker) == (96, b"\x05\x0a\x00\xa0", True)


def test_an_unknown_codec_is_relayed_untouched_and_counted():
    bench = Bench()
    sent = [rtp.unpack(d) for n in range(3) for d in bench.feed(voice(n, payload_type=111, size=77))]
    assert payloads(sent) == b"".join(content(n, 77) for n in range(3))
    assert bench.pipeline.streams.counters["relayed_other_codec"] == 3


def test_odd_payload_sizes_leave_delayed_and_dry():
    sent = Bench().talk(range(6), size=100)
    original = b"".join(content(number, 100) for number in range(6))
    assert payloads(sent) == bytes([MU_SILENCE]) * 80 + original[:-80]


def test_header_extensions_and_csrcs_survive():
    bench = Bench()
    bench.talk([1])
    extras = {"csrcs": (5,), "extension": (1, b"abcd")}
    datagram = rtp.pack(content(2), payload_type=0, sequence=2, timestamp=320, ssrc=7, **extras)
    sent = rtp.unpack(bench.feed(datagram)[0])
    assert sent.csrcs == (5,) and sent.extension == (1, b"abcd") and len(sent.payload) == 160


def test_raw_legs_relay_any_datagram():
    bench = Bench()
    for slot, peer in ((2, 3), (3, 2)):
        bench.pipeline.open(spec(slot, peer, kind=Kind.RAW))
    assert bench.feed(b"\x00not rtp", slot=2) == [b"\x00not rtp"]


@pytest.mark.parametrize("muxed", [True, False])
def test_rtcp_of_a_raw_leg_goes_its_own_way_where_the_party_muxes(muxed):
    bench = Bench()
    for slot, peer in ((2, 3), (3, 2)):
        bench.pipeline.open(spec(slot, peer, kind=Kind.RAW, rtcp_mux=muxed and slot == 2))
    report, video = b"\x81\xce\x00\x02" + bytes(8), rtp.pack(b"x", payload_type=99, sequence=1, timestamp=1, ssrc=1)
    assert bench.feed(video, report, b"\x00stun", slot=2) == [video, *([] if muxed else [report]), b"\x00stun"]
    assert bench.pipeline.rtcp == ([(2, report)] if muxed else [])


def test_garbage_is_dropped_and_counted():
    bench = Bench()
    assert bench.feed(b"", b"\x80", b"\x00" * 40, b"\x9f" + b"\x00" * 20) == []
    assert bench.pipeline.streams.counters["dropped_garbage"] == 4


def test_an_engine_that_fails_leaves_the_audio_dry():
    class Broken(PassthroughEngine):
        def submit(self, *batch):
            raise EngineError("broken")

    bench = Bench(engine=Broken)
    sent = bench.talk(range(10))
    original = b"".join(content(number) for number in range(10))
    assert payloads(sent) == bytes([MU_SILENCE]) * 80 + original[:-80]
    assert bench.pipeline.voice.faulty == {8000: "broken"}


def test_a_fork_that_is_selected_takes_the_outgoing_stream_over():
    bench = Bench()
    bench.pipeline.open(spec(2, -1))
    before = bench.talk(range(5))[-1]
    assert bench.feed(voice(50, ssrc=9), slot=2) == []
    bench.pipeline.update(spec(0, -1))
    bench.pipeline.update(spec(2, 1))
    after = rtp.unpack(bench.feed(voice(51, ssrc=9), slot=2)[0])
    assert after.ssrc == before.ssrc and after.marker and (after.sequence - before.sequence) & 0xFFFF == 1


def test_a_closed_leg_leaves_nothing_to_the_next_lease():
    bench = Bench()
    bench.talk(range(5))
    bench.pipeline.close(0)
    bench.pipeline.open(spec(0, 1, generation=2, bypass="on"))
    sent = rtp.unpack(bench.feed(voice(9))[0])
    assert sent.payload[:80] == bytes([MU_SILENCE]) * 80
    assert bench.pipeline.streams.packets[0] == 1


def test_random_loss_and_reordering_never_repeat_or_swap_a_packet():
    rng = np.random.default_rng(3)
    bench, sent = Bench(), []
    for block in range(0, 400, 4):
        numbers = [n for n in rng.permutation(np.arange(block, block + 4)) if rng.random() > 0.1]
        sent += [rtp.unpack(d) for d in bench.feed(*(voice(int(n)) for n in numbers), after_s=0.08)]
    sequences = [packet.sequence for packet in sent]
    assert len(set(sequences)) == len(sequences)
    assert len(sent) + bench.pipeline.streams.lost[0] <= 400
