"""Effects are cut to their sound, and what a caller would want to hear is none."""

import numpy as np
import pytest

from models.files import RATE
from models.sound import effects

TIME = np.arange(2 * RATE) / RATE


def pcm(sound: np.ndarray) -> np.ndarray:
    return np.round(sound * 8000).astype(np.int16)


def chord() -> np.ndarray:
    return sum(np.sin(2 * np.pi * f * k * TIME) / k for f in (262, 330, 392) for k in (1, 2, 3)) / 4


def door() -> np.ndarray:
    return np.random.default_rng(0).standard_normal(RATE // 2) * np.exp(-np.arange(RATE // 2) / 1500)


def test_silence_around_a_sound_is_cut_off():
    silence = np.zeros(RATE, np.int16)
    effect = effects.usable(np.concatenate([silence, pcm(door()), silence]))
    assert RATE / 8 < len(effect) <= RATE / 2
    assert abs(int(effect[0])) > effects.LEAST


@pytest.mark.parametrize("size", [0, 100, 301 * RATE])
def test_what_is_too_short_or_too_long_is_no_effect(size):
    noise = np.random.default_rng(1).integers(-9000, 9000, size).astype(np.int16)
    assert not len(effects.usable(noise))


def test_silence_is_no_effect():
    assert not len(effects.usable(np.full(RATE, 50, np.int16)))


@pytest.mark.parametrize("hertz", [(440.0,), (1000.0,), (350.0, 440.0)])
def test_a_tone_is_no_noise(hertz):
    tone = sum(np.sin(2 * np.pi * f * TIME) for f in hertz) / len(hertz)
    assert effects.wanted(pcm(tone))
    assert not len(effects.usable(pcm(tone)))


def test_a_held_chord_is_no_noise():
    assert effects.wanted(pcm(chord()))


def test_a_machine_is_noise_whatever_its_harmonics_sound_like():
    assert not len(effects.usable(pcm(chord())))
    assert len(effects.usable(pcm(chord()), machine=True)) > RATE
    assert not len(effects.usable(pcm(chord())[:50], machine=True))


@pytest.mark.parametrize("name", ["engine-prop", "Helicopter_engine_inside", "fan4", "flaps-motor", "SewingMachine"])
def test_machines_are_known_by_their_names(name):
    assert effects.is_machine(name)


@pytest.mark.parametrize(
    "name", ["machinegun", "firetruck", "tractor_beam", "attractor~", "fanfare", "drillgun", "harp"]
)
def test_other_names_are_no_machines(name):
    assert not effects.is_machine(name)


def test_music_late_in_a_long_recording_is_found():
    rain = pcm(np.random.default_rng(3).standard_normal(20 * RATE) / 3)
    assert len(effects.usable(rain)) > 19 * RATE
    rain[-6 * RATE :] = np.resize(pcm(chord()), 6 * RATE)
    assert not len(effects.usable(rain))


def test_noise_is():
    assert not effects.wanted(pcm(door()))
    assert not effects.wanted(pcm(np.random.default_rng(2).standard_normal(2 * RATE) / 3))
