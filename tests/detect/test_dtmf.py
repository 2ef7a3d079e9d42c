"""DTMF against ITU-T Q.24: what must be heard, what must not, and that streams in a batch do not hear each other."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.detect.detection import Detection
from gateway.detect.dtmf import Dtmf, measure
from gateway.detect.sines import HOP, Floats
from tests.detect.talkoff import count, hear
from tests.tonelab import levels, signals

ALL = "123A456B789C*0#D"
GARBAGE = np.array([np.nan, np.inf, -np.inf, 1e-42, 3e38, -3e38, 1e15, 7.0, 0.0], np.float32)


def line(pcm: Floats, before_ms: float = 200.0, law: levels.Law = "PCMU") -> Floats:
    """The signal between silences, as the far side of a G.711 line hears it."""
    return signals.through_g711(signals.around(pcm, before_ms, 200.0), law)


def digits(pcm: Floats) -> str:
    return "".join(found.value for found in hear(Dtmf(1), pcm))


@pytest.mark.parametrize("before_ms", [200.0, 203.1, 206.6, 209.9, 214.3, 219.0])
def test_every_digit_of_40_ms_with_pauses_of_40_ms_is_heard_wherever_it_begins(before_ms: float):
    assert digits(line(signals.dtmf(ALL, 40, 40), before_ms)) == ALL


@pytest.mark.parametrize("law", ["PCMU", "PCMA"])
@pytest.mark.parametrize("dbm0", [0.0, -10.0, -25.0, -36.0, -40.0])
def test_levels_down_to_minus_40_dbm0_are_heard(dbm0: float, law: levels.Law):
    assert digits(line(signals.dtmf(ALL, 40, 40, dbm0), 205.0, law)) == ALL


@pytest.mark.parametrize("twist_db", [-11.0, -8.0, 4.0, 8.0])
def test_twist_of_q24_and_beyond_is_heard_and_reported(twist_db: float):
    found = hear(Dtmf(1), line(signals.dtmf(ALL, 40, 40, -14, twist_db), 203.0))
    assert "".join(one.value for one in found) == ALL
    assert np.allclose([one.twist_db for one in found], twist_db, atol=0.5)


@pytest.mark.parametrize("error", [1.5, -1.5, (1.5, -1.5), (-1.5, 1.5)])
@pytest.mark.parametrize("dbm0", [-10.0, -36.0])
def test_frequencies_off_by_one_and_a_half_percent_are_heard(error: float | tuple[float, float], dbm0: float):
    assert digits(line(signals.dtmf(ALL, 40, 40, dbm0, error_percent=error), 207.0)) == ALL


@pytest.mark.parametrize("error", [3.5, -3.5, (0.0, 3.5), (-3.5, 0.0), (3.5, -3.5), 5.0])
def test_frequencies_off_by_three_and_a_half_percent_are_no_digit(error: float | tuple[float, float]):
    assert digits(line(signals.dtmf(ALL, 100, 40, error_percent=error))) == ""


def test_two_tones_that_glide_together_as_a_voice_does_are_no_digit():
    """From 2 % below a digit to 3 % above it in 50 ms: each frame alone and their mean would do."""
    size = round(50e-3 * 8000)
    phase = np.cumsum(1 + np.linspace(-0.02, 0.03, size)) * (2 * np.pi / 8000)
    voice = (0.1 * (np.sin(941 * phase) + np.sin(1209 * phase))).astype(np.float32)
    assert digits(line(np.concatenate([voice, signals.silence(60), voice]), 203.0)) == ""


@pytest.mark.parametrize("before_ms", [200.0, 203.1, 207.5, 215.0])
def test_23_ms_are_no_digit(before_ms: float):
    assert digits(line(signals.dtmf(ALL, 23, 60), before_ms)) == ""


def test_a_tone_of_one_group_alone_is_no_digit():
    assert digits(line(signals.sine(770.0, 300.0))) == "" == digits(line(signals.sine(1336.0, 300.0)))


@pytest.mark.parametrize("hole_ms", [4.0, 9.0])
def test_a_dropout_below_10_ms_does_not_make_two_digits(hole_ms: float):
    pcm = line(signals.dtmf("5", 100, 100))
    hole = signals.samples(245.0)
    pcm[hole : hole + signals.samples(hole_ms)] = 0
    assert digits(pcm) == "5"


def test_a_lost_packet_does_not_make_two_digits():
    pcm = line(signals.dtmf("59", 120, 80))
    frames = [frame for frame in range(len(pcm) // 160) if frame != 12]
    detector, found = Dtmf(1), []
    for frame in frames:
        found += _chunk(detector, pcm, frame)
    assert [one.value for one in found] == ["5", "9"]


def _chunk(detector: Dtmf, pcm: Floats, frame: int) -> list[Detection]:
    """A packet with what lies before it, as the screen gives it."""
    from gateway.detect.sines import Screen

    zero, begin = np.zeros(1, np.int64), frame * 160
    stream = np.pad(pcm, (176, 0))[None, begin : begin + 336]
    return detector.hear(zero, stream, Screen().see(stream), zero + begin)


def test_digits_are_heard_12_db_over_noise():
    assert digits(line(signals.with_noise(signals.dtmf(ALL, 50, 50), 12.0), 203.0)) == ALL


def test_a_long_digit_is_one_and_its_times_and_level_are_right():
    (found,) = hear(Dtmf(1), line(signals.dtmf("7", 700, 100, -20.0), 205.0))
    assert (found.kind, found.value) == ("dtmf", "7")
    assert abs(found.begin - 1640) <= HOP and abs(found.end - 1640 - 5600) <= HOP
    assert found.level_dbm0 == pytest.approx(-17.0, abs=0.3)


def test_the_stream_is_held_while_a_digit_lasts_and_no_longer():
    pcm, detector = line(signals.dtmf("3", 100, 100), 200.0), Dtmf(1)
    held = []
    for frame in range(len(pcm) // 160):
        _chunk(detector, pcm, frame)
        held.append(bool(detector.holds[0]))
    assert not any(held[:10]) and held[11:14] == [True] * 3 and not any(held[17:])


def test_a_reset_forgets_half_a_digit():
    pcm, detector = line(signals.dtmf("3", 100, 100), 200.0), Dtmf(1)
    for frame in range(13):
        _chunk(detector, pcm, frame)
    assert detector.active[0]
    detector.reset(np.array([0]))
    assert not detector.active[0] and not detector.holds[0]
    assert [one for frame in range(16, 20) for one in _chunk(detector, pcm, frame)] == []


@pytest.mark.parametrize("snr_db", [20.0, 15.0])
def test_a_frame_gives_frequencies_to_within_a_percent_in_noise(snr_db: float):
    pcm = signals.with_noise(signals.dtmf("8", 1000, 0, error_percent=(1.0, -1.0)), snr_db)
    errors = measure(pcm.reshape(-1, HOP)).errors
    assert np.allclose(errors.mean(axis=0), [0.01, -0.01], atol=0.001)
    assert np.abs(errors - [0.01, -0.01]).max() < 0.01


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1))
def test_garbage_never_raises_and_never_reaches_a_neighbour(seed: int):
    rng = np.random.default_rng(seed)
    good = line(signals.dtmf("1470", 40, 40))
    bad = rng.uniform(-1, 1, (3, len(good))).astype(np.float32)
    bad[1] = np.resize(signals.dtmf("258", 45, 35), len(good))
    spots = rng.integers(0, len(good), (3, 40))
    np.put_along_axis(bad, spots, rng.choice(GARBAGE, spots.shape), axis=1)
    rows = np.insert(bad, rng.integers(0, 4), good, axis=0)
    with np.errstate(all="ignore"):
        found = count([Dtmf(4)], rows).detections
    where = int(np.flatnonzero((rows == good).all(axis=1))[0])
    assert [one._replace(slot=0) for one in found if one.slot == where] == hear(Dtmf(1), good)


def test_who_shares_the_batch_changes_nothing():
    lines = [line(signals.dtmf(digit * 6, 40, 40, -9 - n), 200 + n) for n, digit in enumerate("159D")]
    rows = np.stack([one[:6000] for one in lines])
    together = count([Dtmf(4)], rows).detections
    for slot, row in enumerate(rows):
        alone = [one._replace(slot=slot) for one in hear(Dtmf(1), row)]
        mine = [one for one in together if one.slot == slot]
        assert [one[:5] for one in mine] == [one[:5] for one in alone]
        assert np.allclose([one[5:] for one in mine], [one[5:] for one in alone], atol=1e-3)
