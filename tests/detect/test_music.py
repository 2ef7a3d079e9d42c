"""Which legs hear music: bands and chords do, people and noise do not, whoever else is in the batch."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from gateway.detect.music import FORGET_BLOCKS, FRAMES, LATER, ROWS, Music
from gateway.detect.sines import CHUNK, HOP, RATE
from gateway.detect.sound import Sound

AUDIO = Path(__file__).parents[1] / "audio"
CHORDS = ((262, 330, 392), (220, 262, 330), (175, 220, 262), (196, 247, 294))
"""Hertz: C, a, F, G."""


def band(seconds: float, seed: int = 0) -> np.ndarray:
    """Plucked chords over a bass, two a second, -1..1 at about -20 dBFS."""
    rng, out = np.random.default_rng(seed), np.zeros(int(seconds * RATE), np.float32)
    t = np.arange(RATE) / RATE
    for beat in range(int(2 * seconds)):
        chord = CHORDS[beat // 4 % len(CHORDS)]
        for hertz in (chord[0] / 2, *chord, 2 * chord[rng.integers(3)]):
            pluck = sum(np.sin(2 * np.pi * k * hertz * t + rng.uniform(0, 6)) / k for k in range(1, 9))
            part = out[beat * RATE // 2 :][:RATE]
            part += (pluck * np.exp(-3 * t))[: len(part)] * np.minimum(t * 200, 1)[: len(part)]
    return (out / np.abs(out).max() * 0.4).astype(np.float32)


def spoken(name: str) -> np.ndarray:
    return soundfile.read(AUDIO / name, dtype="float32")[0]


def hear(detector: Music, rows: list[np.ndarray], slots: np.ndarray | None = None) -> np.ndarray:
    """bool [rows, 10 ms frames]: verdicts on sounds of one length."""
    pcm = np.stack([row[: min(map(len, rows)) // CHUNK * CHUNK] for row in rows])
    slots = np.arange(len(rows)) if slots is None else slots
    sound, verdicts = Sound(len(detector.on)), []
    for at in range(0, pcm.shape[1], CHUNK):
        sound.add(slots, pcm[:, at : at + CHUNK])
        verdicts.append(detector.hear(slots, sound))
    return np.repeat(np.stack(verdicts, axis=1), CHUNK // HOP, axis=1)


@pytest.mark.parametrize("gain_db", [-20, 0, 6])
def test_a_band_is_music_within_a_second_and_stays_it(gain_db: int):
    verdicts = hear(Music(1), [band(12) * np.float32(10 ** (gain_db / 20))])[0]
    assert verdicts[100:].all()


@pytest.mark.parametrize("name", ["clean_8k.wav", "noisy_8k.wav"])
@pytest.mark.parametrize("gain_db", [-20, 0, 6])
def test_speech_is_never_music(name: str, gain_db: int):
    assert not hear(Music(1), [np.clip(spoken(name) * np.float32(10 ** (gain_db / 20)), -1, 1)]).any()


@pytest.mark.parametrize("colour", [0.0, 0.9])
def test_noise_is_never_music(colour: float):
    white = np.random.default_rng(1).normal(0, 0.05, 20 * RATE)
    noise = white - colour * np.concatenate([[0], white[:-1]])
    assert not hear(Music(1), [noise.astype(np.float32)]).any()


def test_speech_after_music_is_speech_within_two_seconds():
    verdicts = hear(Music(1), [np.concatenate([band(6), spoken("noisy_8k.wav")])])[0]
    assert verdicts[500:590].all()
    assert not verdicts[800:].any()


def test_silence_keeps_the_verdict_for_some_seconds_and_then_ends_it():
    rest = np.zeros((FORGET_BLOCKS + 5) * FRAMES * HOP, np.float32)
    verdicts = hear(Music(1), [np.concatenate([band(6), rest])])[0]
    end = 600 + (FORGET_BLOCKS - 2) * FRAMES
    assert verdicts[500:end].all()
    assert not verdicts[-FRAMES:].any()


def test_a_verdict_does_not_depend_on_the_batch():
    sounds = [np.resize(sound, 12 * RATE) for sound in (band(12), spoken("noisy_8k.wav"), band(12, seed=3))]
    together = hear(Music(32), sounds, slots=np.array([3, 16, 30]))
    assert together.any(axis=1).tolist() == [True, False, True]
    for row, slot in enumerate((3, 16, 30)):
        assert (hear(Music(32), [sounds[row]], np.array([slot])) == together[row]).all()


def test_a_verdict_does_not_depend_on_the_batch_when_legs_are_many():
    many = hear(Music(ROWS + 40), [band(3)] * (ROWS + 40))
    assert many.any()
    assert (many == hear(Music(1), [band(3)])).all()


def test_a_verdict_counts_40_ms_after_the_end_of_its_block():
    verdicts = hear(Music(1), [np.concatenate([band(6), spoken("noisy_8k.wav"), band(6)])])[0][1::2]
    changes = 2 * (np.flatnonzero(np.diff(verdicts)) + 2)
    assert len(changes) >= 3
    assert (changes % FRAMES == LATER).all()


def test_a_reset_slot_knows_nothing_of_the_leg_before():
    detector = Music(2)
    hear(detector, [band(6), band(6)])
    detector.reset(np.array([1]))
    assert detector.on.tolist() == [True, False]
    speech = spoken("noisy_8k.wav")
    assert (hear(detector, [speech], slots=np.array([1])) == hear(Music(2), [speech], slots=np.array([1]))).all()


def test_a_block_that_waits_is_not_judged_after_a_reset():
    detector, judged = Music(3), []
    features = detector._features.of
    detector._features.of = lambda slots, *rest: judged.append(slots.tolist()) or features(slots, *rest)  # type: ignore[method-assign]
    hear(detector, [band(1)[: FRAMES * HOP]] * 3)
    detector.reset(np.array([1]))
    hear(detector, [band(1)[: LATER * HOP]] * 3)
    assert judged == [[0, 2]]


def test_a_verdict_does_not_depend_on_the_slot():
    sound = [np.concatenate([band(3), spoken("noisy_8k.wav")[: 3 * RATE], band(3, seed=3)])]
    first = hear(Music(8), sound, np.array([0]))
    assert all((hear(Music(8), sound, np.array([slot])) == first).all() for slot in range(1, 8))


def test_what_no_microphone_records_does_no_lasting_harm():
    square = np.sign(np.sin(np.arange(2 * RATE) * 0.3)).astype(np.float32)
    click = np.zeros(2 * RATE, np.float32)
    click[:: 8 * HOP] = 1
    verdicts = hear(Music(1), [np.concatenate([square, click, np.ones(2 * RATE, np.float32), band(16)])])[0]
    assert verdicts[-400:].all()
