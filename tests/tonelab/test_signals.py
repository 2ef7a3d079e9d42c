"""The generators: frequencies, levels, cadences and edges are those that the standards name."""

import numpy as np
import pytest

from tests.tonelab import compare, levels, signals
from tests.tonelab.plans import PLANS


def strongest_hz(pcm, count=1):
    """The highest peaks of the spectrum, to within a hertz, rising."""
    spectrum = np.abs(np.fft.rfft(pcm * np.hanning(len(pcm)), 8000))
    found = []
    for _ in range(count):
        found.append(int(spectrum.argmax()))
        spectrum[max(found[-1] - 15, 0) : found[-1] + 16] = 0
    return sorted(found)


def test_a_sine_of_full_scale_is_3_17_dbm0():
    assert levels.level_dbm0(signals.sine(1000, 1000, 3.17)) == pytest.approx(3.17, abs=0.01)
    assert np.abs(signals.sine(1004, 1000, 3.17)).max() == pytest.approx(1.0, abs=0.001)


@pytest.mark.parametrize("digit", signals.DIGITS)
def test_a_digit_has_its_two_frequencies(digit):
    low, high = strongest_hz(signals.dtmf(digit, on_ms=500, off_ms=0), 2)
    assert low == pytest.approx(signals.DIGITS[digit][0], abs=1)
    assert high == pytest.approx(signals.DIGITS[digit][1], abs=1)


@pytest.mark.parametrize("twist_db", [-8.0, 0.0, 4.0])
def test_twist_is_the_high_tone_over_the_low_one_and_the_stronger_keeps_the_level(twist_db):
    tone = signals.dtmf("5", on_ms=1000, off_ms=0, dbm0=-20, twist_db=twist_db)
    low, high = (
        20 * np.log10(2 * np.abs(np.mean(tone * np.exp(-2j * np.pi * hz / 8000 * np.arange(8000))))) + 3.17
        for hz in signals.DIGITS["5"]
    )
    assert high - low == pytest.approx(twist_db, abs=0.05)
    assert max(low, high) == pytest.approx(-20, abs=0.05)


def test_the_frequency_error_moves_both_tones():
    low, high = strongest_hz(signals.dtmf("1", on_ms=1000, off_ms=0, error_percent=(1.5, -1.5)), 2)
    assert (low, high) == (round(697 * 1.015), round(1209 * 0.985))


def test_a_cadence_sounds_and_rests_to_the_sample():
    pcm = signals.progress("440+480/2000,0/4000", 7.0)
    assert np.abs(pcm[:16000]).max() > 0.1
    assert not pcm[16000:48000].any()
    assert np.abs(pcm[48000:]).max() > 0.1


def test_steps_with_a_mark_are_played_once():
    pcm = signals.progress("!950/330,!1400/330,!1800/330,0", 2.0)
    assert [strongest_hz(pcm[at : at + 2600])[0] for at in (0, 2640, 5280)] == [950, 1400, 1800]
    assert not pcm[7920:].any()


@pytest.mark.parametrize("country", PLANS)
def test_every_tone_of_a_plan_lasts_as_asked_and_has_its_level_while_it_sounds(country):
    for plan in PLANS[country]:
        pcm = signals.progress(plan, 3.0, dbm0=-13)
        assert len(pcm) == 24000
        assert levels.active_dbm0(pcm) == pytest.approx(-13, abs=0.5)


def test_ansam_turns_its_phase_every_450_ms_and_swings_by_a_fifth():
    pcm = signals.ansam(4000)
    assert compare.reversals(pcm) == pytest.approx(np.arange(1, 9) * 450, abs=1)
    envelope = np.abs(
        np.convolve(pcm * np.exp(-2j * np.pi * 2100 / 8000 * np.arange(len(pcm))), np.ones(40) / 20, "same")
    )
    plain = envelope[400:3000]  # before the first reversal
    assert plain.max() / plain.min() == pytest.approx(1.2 / 0.8, rel=0.02)


def test_tones_without_reversals_have_none():
    for pcm in (signals.ced(), signals.ansam(reversed_phase=False)):
        assert len(compare.reversals(pcm)) == 0


def test_keying_is_continuous_and_on_its_two_frequencies():
    pcm = signals.v21_preamble(1000)
    assert np.abs(np.diff(pcm)).max() <= levels.amplitude(-13) * 2 * np.pi * 1850 / 8000
    spectrum = np.abs(np.fft.rfft(pcm, 8000)) ** 2
    assert spectrum[1500:2000].sum() > 0.95 * spectrum.sum()


def test_unscrambled_ones_of_v22_are_two_lines_600_hz_apart():
    assert strongest_hz(signals.v22_ones(1000), 2) == [2250, 2850]


def test_baudot_shifts_between_letters_and_figures():
    assert signals._baudot("A1") == [31, 3, 27, 23]
    with pytest.raises(ValueError, match="substring"):
        signals._baudot("ü")


def test_noise_stands_so_far_below_the_sounding_part():
    tone = signals.around(signals.sine(1000, 500, -10), 500, 500)
    noisy = signals.with_noise(tone, 15)
    assert levels.level_dbm0(noisy[:4000]) == pytest.approx(-25, abs=0.3)


@pytest.mark.parametrize("law", ["PCMU", "PCMA"])
def test_coding_and_decoding_again_changes_nothing(law):
    once = levels.through_g711(signals.dtmf("159D"), law)
    assert np.array_equal(levels.through_g711(once, law), once)


def test_lost_packets_come_in_bursts_and_never_first():
    gone = levels.lost(10_000, 0.1, seed=3, burst=3)
    assert not gone[0]
    assert gone.mean() == pytest.approx(0.1, abs=0.02)


def test_the_same_seed_gives_the_same_samples():
    assert np.array_equal(signals.with_noise(signals.ced(), 10, seed=5), signals.with_noise(signals.ced(), 10, seed=5))
