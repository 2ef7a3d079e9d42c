"""Test clips: what they are made of is checked, what is in them is known, and training refuses all of it."""

import json
from pathlib import Path

import numpy as np
import pytest

from models import heldout
from models.evaluation import noises, testset
from models.evaluation.testset import LINES, SNRS_DB, Builder, Clip
from models.heldout import HeldOutError

RNG = np.random.default_rng(6)
SPEECH = (RNG.standard_normal(48000) * np.repeat(RNG.uniform(0.02, 0.2, 60), 800)).astype(np.float32)


class Nothing(heldout.Recordings):
    """No recordings, for noise that is synthetic."""

    def __init__(self) -> None:
        self.data, self.files = Path(), {}


@pytest.fixture
def recording(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    path = tmp_path / "noise" / "café.opus"
    path.parent.mkdir()
    path.write_bytes(b"sound")
    return tmp_path, {"noise/café.opus": heldout.sha256(path)}


def test_recordings_that_are_what_the_manifest_says_pass(recording):
    data, files = recording
    heldout.verify(files, data)


def test_a_changed_recording_stops_the_evaluation_and_is_named(recording):
    data, files = recording
    (data / "noise" / "café.opus").write_bytes(b"other sound")
    with pytest.raises(HeldOutError, match=r"noise/café\.opus.*sha256.*models\.heldout --write"):
        heldout.verify(files, data)


def test_a_missing_recording_is_named_with_what_brings_it(recording):
    data, files = recording
    with pytest.raises(HeldOutError, match=r"keys/no-such-key\.wav.*apt-get install bucklespring-data"):
        heldout.verify({**files, "keys/no-such-key.wav": "0" * 64}, data)


def test_training_refuses_every_recording_of_the_manifest():
    split = json.loads(heldout.MANIFEST.read_text())
    assert len(split["files"]) > 100
    assert [name for name in split["files"] if not name.startswith(tuple(split["held_out"]))] == []


def test_prompts_without_speech_are_no_test_speech():
    files = heldout.load_manifest()
    assert not [name for name in files if any(part in name for part in heldout.NO_SPEECH)]


def test_the_spread_of_clean_speech_is_that_between_its_pauses_and_its_loud_parts():
    gate = np.repeat([1.0, 0.01, 1.0, 0.0], 16000)
    assert heldout.spread_db(gate * np.where(RNG.random(64000) < 0.5, -0.1, 0.1)) == pytest.approx(40, abs=0.1)
    assert heldout.spread_db(np.zeros(16000)) == 0.0


@pytest.mark.parametrize("rate", [8000, 16000])
def test_every_noise_is_heard_at_every_ratio_and_every_clip_has_its_own_name(rate):
    clips = [plan for plan, _, _ in testset.plans(rate)]
    assert len({c.id for c in clips}) == len(clips)
    assert {(c.noise, c.snr_db) for c in clips if c.part == "noisy"} == {
        (k, s) for k in noises.CLASSES for s in SNRS_DB
    }
    assert {c.line for c in clips if c.part == "noisy"} == set(LINES[rate])
    assert {c.noise for c in clips if c.part == "noisy" and c.turn == 0} == set(noises.CLASSES)


@pytest.mark.parametrize("snr", SNRS_DB)
def test_noise_lies_under_the_speech_by_the_ratio_asked_for(snr):
    noise = noises.noise("wind", 0, np.random.default_rng(1), Nothing(), 3.0)
    mixture = testset.mixed(SPEECH, noise, snr, -26.0, 16000)
    speech = testset.leveled(SPEECH, -26.0, 16000)
    rms = np.sqrt(np.mean(np.square(mixture - speech)))
    assert 20 * np.log10(testset.active_rms(speech, 16000)) == pytest.approx(-26, abs=0.01)
    assert 20 * np.log10(testset.active_rms(speech, 16000) / rms) == pytest.approx(snr, abs=0.1)


@pytest.mark.parametrize("kind", [noises.wind, noises.motor, noises.room_fan, noises.bangs])
def test_synthetic_noise_is_the_same_for_the_same_seed_and_another_for_another(kind):
    first, again, other = (kind(np.random.default_rng(s), Nothing(), 1.5) for s in (1, 1, 2))
    assert len(first) == 24000
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)


def plan(part: str, line: str, condition: str = "", snr: int | None = 10) -> Clip:
    return Clip("a clip", part, "wind", snr, "fr", line, condition, 0)


@pytest.mark.parametrize("line", ["G.711 A-law", "G.711 µ-law"])
def test_the_reference_of_clean_speech_is_what_the_codec_made_of_it(line):
    clean, noisy = Builder(Nothing(), 8000).clip(plan("clean", line, snr=None), 0, np.random.default_rng(0), SPEECH)
    assert np.array_equal(clean, noisy)
    assert len(clean) == len(SPEECH) // 2


@pytest.mark.parametrize(("rate", "line"), [(8000, "G.711 µ-law"), (16000, "G.722"), (16000, "Opus 24 kbit/s")])
def test_a_clip_is_aligned_with_its_reference_and_has_the_ratio_of_its_name(rate, line):
    clean, noisy = Builder(Nothing(), rate).clip(plan("noisy", line, snr=20), 0, np.random.default_rng(0), SPEECH)
    lags = {lag: float(np.roll(noisy, -lag) @ clean) for lag in range(-40, 41)}
    assert abs(max(lags, key=lags.get)) <= 1
    assert 20 * np.log10(testset.active_rms(clean, rate)) == pytest.approx(-26, abs=0.1)


@pytest.mark.parametrize(("condition", "dbfs"), [("low level", -38), ("high level", -14)])
def test_quiet_and_loud_calls_have_their_level_and_keep_their_ratio(condition, dbfs):
    builder = Builder(Nothing(), 8000)
    clean, noisy = builder.clip(plan("conditions", "G.711 A-law", condition), 0, np.random.default_rng(0), SPEECH)
    assert 20 * np.log10(testset.active_rms(clean, 8000)) == pytest.approx(dbfs, abs=0.1)
    assert np.abs(noisy).max() <= 1


def test_lost_packets_are_filled_with_the_one_before_at_half_level():
    x = np.repeat(np.arange(1, 101, dtype=np.float32), 160)
    packets = testset.concealed(x, 8000, np.random.default_rng(3)).reshape(100, 160)[:, 0]
    lost = [i for i in range(100) if packets[i] != i + 1]
    assert 1 <= len(lost) <= 12
    assert all(packets[i] == packets[i - 1] / 2 for i in lost)
