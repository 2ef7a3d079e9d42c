"""Effects are cut to their sound, and music among them is known by name."""

import numpy as np
import pytest

from models.files import RATE
from models.sound import effects


def pcm(sound: np.ndarray) -> np.ndarray:
    return np.round(sound * 8000).astype(np.int16)


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


@pytest.mark.parametrize("name", ["engine-prop", "Helicopter_engine_inside", "fan4", "flaps-motor", "SewingMachine"])
def test_machines_are_known_by_their_names(name):
    assert effects.is_machine(name)


@pytest.mark.parametrize(
    "name", ["machinegun", "firetruck", "tractor_beam", "attractor~", "fanfare", "drillgun", "harp"]
)
def test_other_names_are_no_machines(name):
    assert not effects.is_machine(name)


@pytest.mark.parametrize("name", [
    "noise/ambient/singing-bowl.opus",
    "packages/nexuiz-data/usr/share/games/nexuiz/data/sound/weapons/tuba_note-13.ogg",
    "packages/0ad-data/usr/share/games/0ad/mods/public/public.zip/audio/interface/ui/chat_alert.ogg",
])  # fmt: skip
def test_notes_and_beeps_are_known_by_their_names(name):
    assert effects.is_musical(name)


@pytest.mark.parametrize("name", [
    "noise/blanket/singing-bowl.opus", "packages/0ad-data/audio/rain_11.ogg", "packages/tuba_note1.ogg", "rain.ogg",
])  # fmt: skip
def test_the_same_name_elsewhere_and_other_sounds_are_not(name):
    assert not effects.is_musical(name)


def test_no_machine_is_listed_as_music():
    assert not [name for names in effects.musical().values() for name in names if effects.is_machine(name)]
