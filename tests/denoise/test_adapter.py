"""Other rates and hops behind the engine contract: constant delay, exact levels, rows apart."""

from math import gcd

import numpy as np
import pytest

from gateway.denoise.adapter import AdaptedEngine
from gateway.denoise.resample import REACH
from tests.denoise.tools import noise, run, stream

SLOTS = 12


class Late:
    """Gives its input back after `delay` samples, times a gain; notes what it was asked."""

    def __init__(self, rate: int, hop: int, delay: int, gain: float = 1.0) -> None:
        self.rate, self.hop, self.delay, self._gain = rate, hop, delay, gain
        self._past = np.zeros((SLOTS, delay), np.float32)
        self.batches: list[int] = []

    def reset(self, slots) -> None:
        self._past[slots] = 0.0

    def run(self, slots, blocks):
        self.batches.append(len(slots))
        assert blocks.shape == (len(slots), self.hop)
        stream = np.concatenate([self._past[slots], blocks], axis=1)
        self._past[slots] = stream[:, self.hop :]
        return stream[:, : self.hop] * np.float32(self._gain), np.abs(blocks).max(axis=1)


HOPS = [(8000, 80), (8000, 64), (8000, 128), (16000, 160), (16000, 128), (16000, 256), (16000, 100), (16000, 513)]


@pytest.mark.parametrize(("rate", "hop"), HOPS)
def test_a_hop_that_meets_no_frame_adds_what_the_design_says(rate, hop):
    engine = AdaptedEngine(Late(rate, hop, 40), rate, SLOTS)
    expected = 40 + hop - gcd(hop, rate // 100)
    assert engine.delay == expected + expected % 2 * (rate == 16000)


@pytest.mark.parametrize(("rate", "hop"), HOPS)
def test_audio_is_late_by_exactly_the_delay(rate, hop):
    engine = AdaptedEngine(Late(rate, hop, 30), rate, SLOTS)
    frames = noise(1, 60, engine.hop)[0]
    out = stream(engine, 3, frames)
    np.testing.assert_array_equal(out[engine.delay :], frames.reshape(-1)[: -engine.delay])
    assert not out[: engine.delay].any()


@pytest.mark.parametrize(("rate", "inner"), [(8000, 16000), (8000, 48000), (16000, 48000), (8000, 32000)])
@pytest.mark.parametrize("hop_ms", [8, 10, 16])
def test_another_rate_adds_its_filters_delay(rate, inner, hop_ms):
    engine = AdaptedEngine(Late(inner, inner * hop_ms // 1000, 7), rate, SLOTS)
    t = np.arange(60 * engine.hop)
    tone = np.sin(2 * np.pi * 440 / rate * t).astype(np.float32)
    out = stream(engine, 0, tone.reshape(-1, engine.hop))
    error = out[engine.delay + 200 :] - tone[200 : -engine.delay]
    assert 10 * np.log10(np.mean(error**2) / 0.5) < -40
    assert engine.delay >= 2 * REACH


def test_packets_of_any_length_make_the_same_stream():
    whole, pieces = (AdaptedEngine(Late(16000, 256, 10), 16000, SLOTS) for _ in range(2))
    frames = noise(1, 30, 160)
    at_once = run(whole, [1], frames)
    parts = [run(pieces, [1], frames[:, at : at + 3]) for at in range(0, 30, 3)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), at_once)


def test_slots_at_different_places_of_a_hop_do_not_meet():
    crowded, alone = (AdaptedEngine(Late(16000, 256, 10), 16000, SLOTS) for _ in range(2))
    frames = noise(SLOTS, 12, 160)
    for slot in range(SLOTS):
        run(crowded, [slot], frames[slot : slot + 1, :slot])
    counts = 12 - np.arange(SLOTS)
    rest = np.stack([np.roll(frames[slot], -slot, axis=0) for slot in range(SLOTS)])
    together = run(crowded, np.arange(SLOTS), rest, counts)
    for slot in range(SLOTS):
        expected = run(alone, [slot], frames[slot : slot + 1])[0, slot:]
        np.testing.assert_array_equal(together[slot, : counts[slot]], expected)


def test_a_reset_slot_is_a_fresh_stream():
    used, fresh = (AdaptedEngine(Late(48000, 480, 960), 8000, SLOTS) for _ in range(2))
    run(used, [4, 5], noise(2, 7, 80))
    used.reset(np.array([4]))
    frames = noise(1, 9, 80, seed=1)
    np.testing.assert_array_equal(run(used, [4], frames), run(fresh, [4], frames))


def test_the_smallest_gain_is_a_share_of_the_input_equally_late():
    engine = AdaptedEngine(Late(16000, 256, 10, gain=0.0), 16000, SLOTS)
    frames = noise(1, 30, 160)[0]
    out = stream(engine, 0, frames, gain=0.25)
    np.testing.assert_allclose(out[engine.delay :], 0.25 * frames.reshape(-1)[: -engine.delay], rtol=1e-6)


def test_a_gain_of_one_is_the_input_to_the_bit_at_any_rate():
    engine = AdaptedEngine(Late(48000, 480, 960, gain=0.3), 16000, SLOTS)
    frames = noise(1, 30, 160)[0]
    out = stream(engine, 0, frames, gain=1.0)
    np.testing.assert_array_equal(out[engine.delay :], frames.reshape(-1)[: -engine.delay])


def test_a_changed_gain_glides_through_one_frame():
    engine = AdaptedEngine(Late(8000, 80, 0, gain=0.0), 8000, SLOTS)
    steady = np.ones((4, 80), np.float32)
    assert not stream(engine, 0, steady, gain=0.0).any()
    rising = stream(engine, 0, steady, gain=1.0)
    assert np.diff(rising[:80]).max() < 0.02 and np.all(np.diff(rising[:80]) > 0)
    np.testing.assert_array_equal(rising[80:], 1.0)


def test_the_suppressors_speech_is_reported_for_each_frame():
    engine = AdaptedEngine(Late(8000, 80, 0), 8000, SLOTS)
    frames = np.full((1, 2, 80), 0.5, np.float32)
    frames[0, 1] = 0.25
    ticket = engine.submit(np.array([0]), frames, np.array([2]), np.zeros((1, 2), np.float32))
    np.testing.assert_array_equal(engine.collect(ticket, 0.0).probabilities[0], [[0.5, 0, 0, 0], [0.25, 0, 0, 0]])
