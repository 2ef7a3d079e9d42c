"""Whatever arrives: the pipeline does not raise, sends at most what came, and keeps to its own header."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.denoise.adapter import AdaptedEngine
from gateway.denoise.passthrough import PassthroughEngine
from gateway.protocol import rtp
from tests.media.test_pipeline import Bench, content, voice
from tests.media.test_voice import Blocks

garbage = st.binary(max_size=300)
near_rtp = st.builds(
    lambda first, rest: bytes([0x80 | first & 0x3F]) + rest, st.integers(0, 255), st.binary(min_size=11, max_size=200)
)
packets = st.builds(
    lambda number, ssrc, kind, size: voice(number, ssrc=ssrc, payload_type=kind, size=size),
    st.integers(0, 70000),
    st.sampled_from([7, 7, 7, 8]),
    st.sampled_from([0, 0, 0, 13, 101, 111]),
    st.sampled_from([0, 1, 80, 160, 160, 200]),
)
batches = st.lists(
    st.tuples(st.lists(st.one_of(garbage, near_rtp, packets), max_size=8), st.floats(0, 0.2)), max_size=12
)


@pytest.mark.parametrize("engine", [PassthroughEngine, lambda rate, slots: AdaptedEngine(Blocks(rate), rate, slots)])
@settings(max_examples=150)
@given(arrivals=batches)
def test_any_datagrams_in_any_order_do_no_harm(engine, arrivals):
    bench = Bench(engine)
    came = sent = 0
    ours = int(bench.pipeline.streams.out_ssrc[1])
    for datagrams, after_s in arrivals:
        came += len(datagrams)
        for datagram in bench.feed(*datagrams, after_s=after_s):
            sent += 1
            assert rtp.unpack(datagram).ssrc == ours
    assert sent <= came
    assert len(bench.pipeline.held) <= 16


@settings(max_examples=60)
@given(st.permutations(list(range(1, 9))), st.sets(st.integers(1, 8), max_size=3))
def test_packets_shuffled_within_the_hold_come_out_in_order_and_complete(order, lost):
    bench = Bench(bypass="on")
    bench.feed(voice(0))
    sent = []
    for number in order:
        if number not in lost:
            sent += bench.feed(voice(number), after_s=0.0005)
    sent += bench.feed(after_s=0.006)
    sequences = [rtp.unpack(datagram).sequence for datagram in sent]
    steps = np.diff([(number - sequences[0]) & 0xFFFF for number in sequences]) if sequences else np.zeros(0)
    assert len(sent) == 8 - len(lost)
    assert np.all(steps > 0)
    assert all(content(0) not in datagram for datagram in sent)
