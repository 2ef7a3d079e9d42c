"""Validation hears what training does not, and its clips are the same on every run."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from models import validate
from models.data import Pools
from models.files import RATE
from tests.models.conftest import voice


@pytest.fixture
def cache(training_cache: Path, tmp_path: Path) -> Path:
    """The training cache with one voice, one place and one event more, all for validation."""
    folder = tmp_path / "cache"
    shutil.copytree(training_cache, folder)
    index = json.loads((folder / "index.json").read_text())
    rng = np.random.default_rng(9)
    added = {
        "speech": [("cleaned_tuxpaint_bg", "packages/tuxpaint_bg_00", voice(9, 30, 160))],
        "noise": [
            ("effects_torcs-data", "packages/torcs-data/engine.wav", rng.integers(-3000, 3000, 5 * RATE)),
            ("effects_torcs-data", "packages/torcs-data/crash.wav", rng.integers(-3000, 3000, RATE // 2)),
        ],
    }
    for kind, entries in added.items():
        for group, name, samples in entries:
            start = (folder / f"{kind}.i16").stat().st_size // 2
            with (folder / f"{kind}.i16").open("ab") as file:
                samples.astype(np.int16).tofile(file)
            index[kind].append({"group": group, "name": name, "start": start, "size": len(samples)})
    (folder / "index.json").write_text(json.dumps(index))
    return folder


def test_training_and_validation_share_no_voice_and_no_noise(cache: Path):
    training, validation = Pools(cache, False), Pools(cache, False, part="validation")
    assert validation.groups == ["cleaned_tuxpaint_bg"]
    assert not set(training.groups) & set(validation.groups)
    for kind in ("noise", "event"):
        names = [{e["name"] for e in pools.entries[kind]} for pools in (training, validation)]
        assert names[1]
        assert not names[0] & names[1]


def test_clips_are_the_same_on_every_run(cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(validate, "CLIPS", 4)
    first, second = validate.clips(cache, 8000), validate.clips(cache, 8000)
    assert first[0].shape == first[1].shape == (4, validate.SECONDS * 8000)
    assert np.array_equal(first[0], second[0])
    noise = first[0] - first[1]
    assert 5 < 10 * np.log10(np.square(noise[0]).sum() / np.square(noise[3]).sum() + 1e-9) + 12 < 30
