"""The training cache: what evaluation owns stays out, and only clean speech becomes a target."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from models import clean, data
from models.data import DataError, Pools, Source


@pytest.mark.parametrize(
    "name", ["asterisk/fr_CA_f_June/hello.g722", "speech/nathalie_nl_f_03.opus", "noise/ambient/cafe.opus"]
)
def test_a_cache_with_a_held_out_file_is_refused(training_cache: Path, tmp_path: Path, name: str):
    shutil.copytree(training_cache, tmp_path / "cache")
    index = json.loads((tmp_path / "cache" / "index.json").read_text())
    index["speech"][1]["name"] = name
    (tmp_path / "cache" / "index.json").write_text(json.dumps(index))
    with pytest.raises(DataError, match=r"evaluation only"):
        Pools(tmp_path / "cache", wide_only=False)


def test_a_held_out_recording_is_known_under_another_name(tmp_path: Path):
    path = tmp_path / "innocent.wav"
    path.write_bytes(b"the same bytes")
    source = Source("speech", "someone", "speech/innocent.wav", (path,))
    split = {"held_out": ["asterisk/fr"], "files": {"asterisk/fr/x.wav": ""}}
    assert not data.held_out(source, split)
    split["files"]["asterisk/fr/x.wav"] = hashlib.sha256(path.read_bytes()).hexdigest()
    assert data.held_out(source, split)


def test_missing_recordings_are_named(tmp_path: Path):
    with pytest.raises(DataError, match="--data"):
        list(data.sources(tmp_path, tmp_path))
    (tmp_path / "speech").mkdir()
    (tmp_path / "noise").mkdir()
    before = data.PACKAGES.copy()
    data.PACKAGES["a-package-of-voices"] = tmp_path / "nowhere"
    try:
        with pytest.raises(DataError, match=r"apt-get install .*a-package-of-voices"):
            list(data.sources(tmp_path, tmp_path))
    finally:
        data.PACKAGES.clear()
        data.PACKAGES.update(before)


def test_only_windows_with_quiet_pauses_are_clean():
    rng, rate = np.random.default_rng(0), data.RATE
    syllables = np.repeat(np.tile([1, 1, 0.001], 20), rate // 4)[: 6 * rate]
    speech = 6000 * syllables * rng.standard_normal(6 * rate)
    hiss = 300 * rng.standard_normal(6 * rate)
    assert len(data.clean_windows(speech.astype(np.int16), 30)) == 7
    assert len(data.clean_windows((speech + hiss).astype(np.int16), 30)) == 0
    assert len(data.clean_windows(np.zeros(6 * rate, np.int16), 30)) == 0
    assert len(data.clean_windows(speech.astype(np.int16)[:rate], 30)) == 0


def test_speech_of_any_length_comes_from_one_group(training_cache: Path):
    pools = Pools(training_cache, wide_only=False)
    assert pools.groups == ["speech0", "speech1"]
    for size in (1000, 3 * data.RATE, 7 * data.RATE + 1):
        assert pools.speech(np.random.default_rng(0), size).shape == (size,)
        assert pools.stretch(np.random.default_rng(0), "noise", size * 5).shape == (size * 5,)


def test_a_recording_left_out_is_never_drawn_again(training_cache: Path):
    pools, rng = Pools(training_cache, wide_only=False), np.random.default_rng(0)
    pools.leave_out("event", ("noise/1",))
    kept = pools.entries["event"]
    assert [e["name"] for e in kept] == ["noise/2.wav"]
    for _ in range(5):
        assert (pools.stretch(rng, "event", kept[0]["size"]) == pools.events(rng, 1)[0]).all()


def test_clips_are_found_between_silences():
    rng, rate = np.random.default_rng(0), data.RATE
    sound = [rng.integers(-2000, 2000, int(s * rate)).astype(np.int16) for s in (1.0, 0.1, 2.0)]
    gap = np.zeros(rate // 4, np.int16)
    found = list(clean.clips(np.concatenate([sound[0], gap, sound[1], gap, sound[2], gap])))
    assert [round(len(clip) / rate, 1) for clip in found] == [1.0, 2.0]
    assert not list(clean.clips(gap))


def test_a_clip_is_usable_only_if_cleaning_changed_little():
    rng, rate = np.random.default_rng(0), data.RATE
    speech = (rng.standard_normal(rate) * np.repeat([1, 0.0001], rate // 2) * 0.1).astype(np.float32)
    hiss = (rng.standard_normal(rate) * 0.03).astype(np.float32)
    assert clean.usable(speech + hiss * 0.1, speech)
    assert not clean.usable(speech + hiss, speech)
    assert not clean.usable(speech + hiss * 0.1, speech + hiss * 0.1)


def test_tightening_keeps_every_sound_and_only_short_silences():
    sound, silence = np.full(8000, 500, np.int16), np.zeros(32000, np.int16)
    tight = clean.tightened(np.concatenate([silence, sound, silence, sound, silence]))
    margin = int(clean.MARGIN_S * data.RATE)
    assert len(tight) == 2 * len(sound) + 4 * margin
    assert (tight != 0).sum() == 2 * len(sound)
    np.testing.assert_array_equal(clean.tightened(tight), tight)


def test_what_was_cleaned_once_is_not_cleaned_again(tmp_path: Path):
    kept = np.arange(1000, dtype=np.int16)
    np.save(tmp_path / "many_en_x_00.opus.npy", kept)
    np.testing.assert_array_equal(clean.clean("speech/many_en_x_00.opus", np.zeros(16000, np.int16), tmp_path), kept)


def test_a_machine_runs_on_where_another_short_noise_is_an_event():
    size = int(data.EVENT_S * data.RATE) - 1
    assert data.is_event({"group": "effects_lugaru-data", "size": size})
    assert not data.is_event({"group": data.MACHINES, "size": size})
    assert not data.is_event({"group": "effects_lugaru-data", "size": size + 1})
