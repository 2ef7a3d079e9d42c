"""Training examples: aligned, in range, repeatable, and honest about what should come out."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from models.data import Pools
from models.sound import augment, mixing

RATES = (8000, 16000)


@pytest.fixture(scope="module", params=RATES)
def mixer(request: pytest.FixtureRequest, training_cache: Path) -> mixing.Mixer:
    return mixing.Mixer(Pools(training_cache, wide_only=False), request.param, 2 * request.param)


def lag(x: np.ndarray, y: np.ndarray) -> int:
    size = 4 * len(x)
    likeness = np.fft.irfft(np.fft.rfft(np.diff(y), size) * np.conj(np.fft.rfft(np.diff(x), size)), size)
    at = int(np.argmax(likeness))
    return at - size if at > size // 2 else at


@pytest.mark.parametrize("rate", RATES)
def test_batches_have_the_shapes_they_promise(training_cache: Path, rate: int):
    shapes = ((3, 2.0, 0.5), (2, 4.0, 0.5))
    seen = set()
    for mixture, target, keep, labels in islice(mixing.batches(training_cache, rate, shapes, seed=0), 8):
        rows, samples = mixture.shape
        seen.add((rows, samples / rate))
        assert target.shape == mixture.shape
        assert keep.shape == (rows,)
        assert labels.shape == (samples * 100 // rate, rows, 4)
        assert {a.dtype for a in (mixture, target, keep, labels)} == {np.dtype(np.float32)}
    assert seen == {(3, 2.0), (2, 4.0)}


def test_a_seed_gives_the_same_batches_and_another_seed_others(training_cache: Path):
    first, again, other = (next(mixing.batches(training_cache, 8000, ((6, 2.0, 1.0),), s)) for s in (5, 5, 6))
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    assert not np.array_equal(first[0], other[0])


def test_every_example_is_finite_and_in_range(mixer: mixing.Mixer):
    for seed in range(60):
        mixture, target, keep, labels = mixer.example(np.random.default_rng(seed))
        for x in (mixture, target):
            assert np.isfinite(x).all()
            assert np.abs(x).max() < 1.5  # low-rate codecs overshoot a little
        assert keep in (0, 1)
        assert set(np.unique(labels)) <= {0, 1}


def test_levels_span_what_telephones_carry(mixer: mixing.Mixer):
    examples = [mixer.example(np.random.default_rng(seed)) for seed in range(80)]
    levels, tones = np.array([
        (20 * np.log10(augment.active_rms(x, mixer.rate)), labels[:, 3].any()) for x, *_, labels in examples if x.any()
    ]).T  # fmt: skip
    assert np.quantile(levels, 0.1) < -28
    assert np.quantile(levels, 0.9) > -17
    assert np.quantile(levels, 0.02) > -42
    assert max(levels[tones == 0]) < -8
    assert max(levels) < -2


def test_a_channel_colours_all_that_came_through_it_alike(mixer: mixing.Mixer):
    rng, coloured = np.random.default_rng(0), 0
    voice, noise = rng.standard_normal((2, mixer.size)).astype(np.float32)
    for seed in range(40):
        both, alone = mixer.channel(np.random.default_rng(seed), voice + noise, voice)
        noise_alone, _ = mixer.channel(np.random.default_rng(seed), noise, noise)
        np.testing.assert_allclose(both - alone, noise_alone, atol=1e-4)
        coloured += not np.array_equal(alone, voice)
    assert 0 < coloured < 40


@pytest.mark.parametrize("kind", ["clean", "tone", "music"])
def test_what_has_nothing_unwanted_in_it_is_its_own_target(mixer: mixing.Mixer, kind: str):
    found = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        scene = mixer.scene(rng, kind)
        if scene.undisturbed:
            mixture, target = mixer.line(rng, scene.source * 0.1, scene.target * 0.1, True)
            np.testing.assert_array_equal(mixture, target)
            found += 1
    assert found >= (30 if kind == "clean" else 8)


def test_noise_alone_has_silence_as_its_target(mixer: mixing.Mixer):
    for seed in range(10):
        scene = mixer.scene(np.random.default_rng(seed), "noise")
        assert scene.target is None
        assert not scene.undisturbed


def test_music_is_wanted_only_when_it_is_to_be_kept(mixer: mixing.Mixer):
    seen = set()
    for seed in range(30):
        scene = mixer.scene(np.random.default_rng(seed), "music")
        seen.add(scene.keep)
        if scene.keep:
            np.testing.assert_array_equal(scene.target, mixing.total(scene.wanted, scene.music))
        else:
            assert scene.target is scene.wanted
            assert not scene.undisturbed
    assert seen == {True, False}


def test_mixture_and_target_line_up_through_every_line(mixer: mixing.Mixer):
    checked = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        scene = mixer.scene(rng, "noisy")
        quiet = replace(scene, noise=None)
        mixture, target = mixer.line(rng, quiet.source * 0.1, quiet.target * 0.1, False)
        if augment.rms(target) > 0.01:
            assert abs(lag(target, mixture)) <= 1, f"seed {seed}"
            checked += 1
    assert checked > 40


def test_labels_name_the_parts_that_are_there(mixer: mixing.Mixer):
    for kind, column in (("clean", 0), ("noise", 1), ("music", 2), ("tone", 3)):
        scene = mixer.scene(np.random.default_rng(1), kind)
        labels = mixer.labels(scene, np.float32(1))
        assert labels[:, column].any()
        if kind == "clean":
            assert not labels[:, 1:].any()


def test_gaps_of_transmission_hold_no_target(mixer: mixing.Mixer):
    rng = np.random.default_rng(0)
    x = np.random.default_rng(1).standard_normal(mixer.size).astype(np.float32) * 0.1
    labels = np.zeros((200, 4), np.float32)
    labels[50:80, 0] = 1
    mixture, target = mixer.gaps(rng, x, x, labels)
    spoken, last = slice(mixer.size // 4, mixer.size * 2 // 5), slice(mixer.size * 3 // 4, None)
    np.testing.assert_array_equal(target[spoken], x[spoken])
    assert not target[last].any()
    assert augment.rms(mixture[last]) < 0.11
