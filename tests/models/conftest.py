"""A small training cache made of synthetic voices, noise and music, in the format that `models.data` writes."""

import json
from pathlib import Path

import numpy as np
import pytest

RATE = 16000


def voice(seed: int, seconds: float, hertz: float) -> np.ndarray:
    """Harmonic syllables with faint noise between; int16 at 16 kHz."""
    rng, t = np.random.default_rng(seed), np.arange(int(seconds * RATE)) / RATE
    pitch = 2 * np.pi * np.cumsum(hertz * (1 + 0.1 * np.sin(2 * np.pi * 0.7 * t))) / RATE
    tone = sum(np.sin(k * pitch + rng.uniform(0, 6)) / k**0.5 for k in range(1, int(3800 / hertz)))
    syllables = np.clip(np.sin(2 * np.pi * 2.3 * t), 0, None) * (np.sin(2 * np.pi * 0.4 * t) > -0.5)
    sound = 3000 * syllables * (tone + 0.1 * rng.standard_normal(len(t))) + rng.normal(0, 3, len(t))
    return np.round(sound).clip(-32000, 32000).astype(np.int16)


@pytest.fixture(scope="session")
def training_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("cache"), np.random.default_rng(0)
    pools = {
        "speech": [voice(0, 30, 110), voice(1, 30, 210)],
        "noise": [np.round(rng.normal(0, 2000, size)).astype(np.int16) for size in (20 * RATE, RATE // 3, RATE // 5)],
        "music": [np.round(8000 * np.sin(2 * np.pi * 440 * np.arange(20 * RATE) / RATE)).astype(np.int16)],
    }
    index: dict[str, list[dict]] = {}
    for kind, sounds in pools.items():
        np.concatenate(sounds).tofile(folder / f"{kind}.i16")
        starts = np.cumsum([0, *map(len, sounds)])
        index[kind] = [
            {"group": f"{kind}{i}", "name": f"{kind}/{i}.wav", "start": int(starts[i]), "size": len(sound)}
            for i, sound in enumerate(sounds)
        ]
    (folder / "index.json").write_text(json.dumps(index))
    return folder
