"""What teaches the detector of music: honest labels, repeatable scenes, the same network in torch and in numpy."""

from pathlib import Path

import numpy as np
import pytest

from gateway.detect.music import BLOCK, FEATURES, LATER, Music
from gateway.detect.sines import HOP
from models.data import Pools
from models.evaluation import musictest
from models.sound import musicscenes
from models.sound.musicscenes import Director
from models.sound.musicset import Songs

BLOCKS = 60
SILENT = np.full(BLOCKS, -100.0)


def loud(db: float, first: int = 0, last: int = BLOCKS) -> np.ndarray:
    """Levels of a part that is heard from one block to another."""
    return np.where((np.arange(BLOCKS) >= first) & (np.arange(BLOCKS) < last), db, -100.0)


@pytest.fixture(scope="module")
def director(training_cache: Path) -> Director:
    t = np.arange(10 * 16000) / 16000
    chord = sum(np.sin(2 * np.pi * hertz * t) for hertz in (262, 330, 392)) * 3000
    return Director(Pools(training_cache, wide_only=False), Songs([chord.astype(np.int16)], [chord.astype(np.int16)]))


@pytest.mark.parametrize(
    ("speech_db", "music_db", "noise_db", "music", "counts"),
    [
        (-100, -26, -100, 1, 1),
        (-26, -100, -100, 0, 1),
        (-26, -30, -100, 1, 1),  # under an announcement
        (-26, -45, -100, 0, 1),  # in the background
        (-26, -38.5, -100, 0, 0),  # who would say
        (-100, -40, -26, 0, 1),  # from a café's loudspeaker
        (-100, -26, -40, 1, 1),
    ],
)
def test_a_block_is_what_its_loudest_parts_make_it(speech_db, music_db, noise_db, music, counts):
    truth, weight = musicscenes.verdicts(loud(speech_db), loud(music_db), loud(noise_db))
    assert (truth[10:] == music).all()
    assert (weight[10:] == counts).all()


def test_background_music_does_not_become_music_in_a_pause_of_speech():
    speech = np.maximum(loud(-26, 0, 20), loud(-26, 25))
    truth, _ = musicscenes.verdicts(speech, loud(-44), SILENT)
    assert not truth.any()


def test_turns_count_less_than_what_lies_between():
    speech = np.maximum(loud(-26, 0, 20), loud(-26, 40))
    truth, weight = musicscenes.verdicts(speech, loud(-26, 30, 40), SILENT)
    assert truth[30:40].all() and not truth[:30].any() and not truth[41:].any()
    assert weight[32:40].min() == 1 > weight[30]
    assert weight[45:].min() == 1 > weight[42]


@pytest.mark.parametrize("kind", list(musicscenes.KINDS))
def test_a_scene_of_every_kind_is_in_range_and_the_same_again(director: Director, kind: str):
    one, again = (director.scene(np.random.default_rng([3, 4]), kind) for _ in range(2))
    assert one.pcm.shape == (musicscenes.SIZE,)
    assert one.music.shape == one.weight.shape == (musicscenes.SIZE // BLOCK,)
    assert 0 < np.abs(one.pcm).max() <= 1
    assert (one.pcm == again.pcm).all()
    assert (
        kind in ("music", "vocal", "announcement", "on hold", "after a tone", "speech over music", "café")
        or not one.music.any()
    )


def test_rough_speech_is_what_volunteers_recorded_and_no_music(director: Director):
    hiss = (np.random.default_rng(0).standard_normal(20 * 16000) * 3000).astype(np.int16)
    scene = Director(director.pools, director.songs, [hiss]).scene(np.random.default_rng(1), "rough speech")
    assert not scene.music.any() and scene.weight.all()
    assert np.square(scene.pcm).reshape(20, -1).mean(axis=1).min() > 1e-6  # the volunteer's noise never rests


def test_one_word_comes_again_with_pauses():
    voice = np.zeros(musicscenes.SIZE, np.float32)
    voice[40000:60000] = np.sin(np.arange(20000) * 0.3)
    said = musicscenes.again_and_again(np.random.default_rng(2), voice)
    loud_ms = np.square(said).reshape(-1, 80).mean(axis=1) > 0.01
    assert said.shape == voice.shape and np.diff(loud_ms.astype(int)).clip(0).sum() > 8


def test_electric_sounds_stand_still():
    hum = musicscenes.electric(np.random.default_rng(3))
    first, last = (np.abs(np.fft.rfft(part * np.hanning(8000))) for part in (hum[:8000], hum[-8000:]))
    assert np.corrcoef(first, last)[0, 1] > 0.95


def test_scenes_do_not_depend_on_the_number_of_workers(director: Director):
    one, two = (musicscenes.scenes(director, 70, seed=2, workers=workers) for workers in (1, 2))
    assert one[0].shape == (70, musicscenes.SIZE // BLOCK, FEATURES)
    assert all((x == y).all() for x, y in zip(one, two, strict=True))


def test_the_detector_hears_what_training_heard(director: Director):
    """Block by block in a live slot, and all at once in training: the same features but for rounding."""
    pcm = director.scene(np.random.default_rng(8), "on hold").pcm
    offline = musicscenes.listen(pcm[None])[0]
    detector, live = Music(1), []
    features = detector._features.of
    detector._features.of = lambda *inputs: live.append(features(*inputs)) or live[-1]  # type: ignore[method-assign]
    musictest.heard([np.append(pcm, np.zeros(LATER * HOP, np.float32))], detector)
    assert offline.shape[1] == FEATURES
    assert np.abs(np.concatenate(live) - offline[np.abs(offline).sum(axis=1) > 0]).max() < 1e-4


def test_a_row_counts_wrong_frames_delays_and_runs():
    verdicts = np.zeros((2, 1000), bool)
    verdicts[0, 430:] = True
    verdicts[1, 450:] = True
    verdicts[1, 600:650] = False
    trials = np.zeros((2, 1000), bool)
    trials[0, :40] = trials[1, :20] = True
    row = musictest.row("music", verdicts, trials, onset=400, first=500)
    assert row.right == pytest.approx(1 - 50 / 1000)
    assert row.on_s == pytest.approx((0.4, 0.49))
    assert row.longest_s == pytest.approx(0.5)
    assert row.trial_s is None
    row = musictest.row("speech", verdicts, trials, onset=None, first=0)
    assert row.longest_s == pytest.approx(5.7)
    assert row.on_s is None
    assert row.trial_s == pytest.approx((0.3, 0.39))


def test_torch_and_numpy_give_the_same_odds():
    torch = pytest.importorskip("torch", reason="models/requirements-train.txt is not installed")
    from models.musicality import Student

    torch.manual_seed(0)
    student = Student()
    network = student.weights((1.0, -1.0))
    features = np.random.default_rng(0).normal(size=(3, 20, FEATURES)).astype(np.float32)
    with torch.no_grad():
        expected = student(torch.from_numpy(features)).numpy()
    state = np.zeros((3, network.size), np.float32)
    for at in range(20):
        odds, state = network.step(features[:, at], state)
        assert np.allclose(odds, expected[:, at], atol=1e-5)
