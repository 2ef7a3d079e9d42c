"""Audio for training: finds it, leaves the held-out files alone, and decodes the rest once into a cache on disk.

The cache is one int16 file of 16 kHz mono samples a kind (speech, noise, music) and an index. Speech is
kept only where it is clean enough to serve as a target: windows whose pauses lie well below their loud parts.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from tqdm import tqdm

RATE = 16000
ASTERISK, MUSIC = Path("/usr/share/asterisk"), Path("/usr/share/games/wesnoth/1.16/data/core/music")
SPLIT = Path(__file__).with_name("split.json")
CACHE = Path("/tmp/denoise-cache")
WINDOW_S = 3
CLEAN_DB = {"many_en": 38.0, "many_mycroft": 38.0, "digits_8k": 30.0}
"""Least distance between pauses and loud parts; other speech is studio speech."""
STUDIO_DB = 30.0
NARROW = ("digits_8k", "macroform", "manolo", "reno")
"""Sources recorded at 8 kHz."""
WEIGHTS = {"flemishguy_nl_m": 1.8, "many_en": 0.25, "many_mycroft": 0.8, "digits_8k": 0.4, "es": 0.8, "ru": 0.8}
"""How often a group is drawn, by the beginning of its name; one phrase is one group in `many_en`."""


@dataclass(frozen=True, slots=True)
class Source:
    """One audio file: its kind, its group (a speaker, a collection), and its name in the split."""

    kind: str
    group: str
    name: str
    path: Path


def sources(data: Path) -> Iterator[Source]:
    """Every known file, held out or not."""
    for path in sorted((data / "speech").rglob("*.*")):
        yield Source("speech", path.stem.rsplit("_", 1)[0], f"speech/{path.name}", path)
    for path in sorted((data / "noise").rglob("*.*")):
        if path.is_file():
            yield Source("noise", path.parent.name, f"noise/{path.parent.name}/{path.name}", path)
    for path in sorted((ASTERISK / "sounds").rglob("*.g722")):
        language = path.relative_to(ASTERISK / "sounds").parts[0].split("_")[0]
        yield Source("speech", language, f"asterisk/{path.relative_to(ASTERISK / 'sounds')}", path)
    for path in sorted([*(ASTERISK / "moh").glob("*.wav"), *MUSIC.glob("*.ogg")]):
        yield Source("music", path.stem, f"music/{path.name}", path)


def held_out(source: Source, split: dict[str, list[str]]) -> bool:
    return any(source.name.startswith(prefix) for prefix in split["held_out"])


def load_split() -> dict[str, list[str]]:
    split: dict[str, list[str]] = json.loads(SPLIT.read_text())
    return split


def decode(path: Path, rate: int = RATE) -> np.ndarray:
    """Any audio file as int16 mono samples at `rate`."""
    options = {"format": "g722"} if path.suffix == ".g722" else {}
    resampler = av.AudioResampler(format="s16", layout="mono", rate=rate)
    with av.open(str(path), **options) as container:
        frames = [f for frame in container.decode(audio=0) for f in resampler.resample(frame)]
        frames += resampler.resample(None)
    return np.concatenate([f.to_ndarray().reshape(-1) for f in frames]) if frames else np.zeros(0, np.int16)


def clean_windows(samples: np.ndarray, least_db: float) -> np.ndarray:
    """Starts (int64, in samples) of the WINDOW_S long windows, every half second, that are clean enough.

    A window's pauses are its 10th percentile of 20 ms frames; digital silence between clips does not count as a pause.
    """
    frames = samples[: len(samples) // 320 * 320].reshape(-1, 320).astype(np.float32)
    db = 10 * np.log10(np.square(frames).mean(axis=1) + 1e-3)
    starts = []
    for first in range(0, len(db) - 50 * WINDOW_S, 25):
        part = db[first : first + 50 * WINDOW_S]
        part = part[part > 4]
        if len(part) > 50 and np.quantile(part, 0.95) > 45 and np.ptp(np.quantile(part, [0.08, 0.95])) > least_db:
            starts.append(first * 320)
    return np.array(starts, np.int64)


def build_cache(data: Path, cache: Path) -> None:
    """Decodes every file that is not held out. Written under temporary names, so that half a cache is never used."""
    cache.mkdir(parents=True, exist_ok=True)
    split, index = load_split(), {"speech": [], "noise": [], "music": []}
    found = [s for s in sources(data) if not held_out(s, split)]
    for kind, entries in index.items():
        part, at = cache / f"{kind}.part", 0
        with part.open("wb") as file:
            for source in tqdm([s for s in found if s.kind == kind], desc=f"decoding {kind}", mininterval=5):
                samples = decode(source.path)
                samples.tofile(file)
                entries.append({"group": source.group, "name": source.name, "start": at, "size": len(samples)})
                at += len(samples)
        part.rename(cache / f"{kind}.i16")
    (cache / "index.json").write_text(json.dumps(index))


class Pools:
    """The cache, opened: random stretches of speech, noise and music. float32 -1..1 at 16 kHz."""

    def __init__(self, cache: Path, wide_only: bool) -> None:
        index = json.loads((cache / "index.json").read_text())
        self.samples = {k: np.memmap(cache / f"{k}.i16", np.int16, "r") for k in index}
        self.entries = {k: [e for e in v if not (wide_only and narrow(e))] for k, v in index.items()}
        self.starts = {g: self._speech_starts(g) for g in {e["group"] for e in self.entries["speech"]}}
        self.starts = {g: s for g, s in self.starts.items() if len(s)}
        self.groups = sorted(self.starts)
        weights = np.array([by_prefix(WEIGHTS, g, 1.0) for g in self.groups])
        self.group_shares = weights / weights.sum()

    def _speech_starts(self, group: str) -> np.ndarray:
        """Short prompts lie one after another in the cache, so a group is searched as one long recording."""
        parts = [e for e in self.entries["speech"] if e["group"] == group]
        first, last = parts[0]["start"], parts[-1]["start"] + parts[-1]["size"]
        return first + clean_windows(self.samples["speech"][first:last], by_prefix(CLEAN_DB, group, STUDIO_DB))

    def speech(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """Neighbouring clean windows of one speaker, as many as `size` samples take."""
        starts = self.starts[self.groups[rng.choice(len(self.groups), p=self.group_shares)]]
        parts = []
        while sum(map(len, parts)) < size:
            at = starts[rng.integers(len(starts))]
            parts.append(faded(self.samples["speech"][at : at + WINDOW_S * RATE]))
        return np.concatenate(parts)[:size]

    def stretch(self, rng: np.random.Generator, kind: str, size: int) -> np.ndarray:
        """A random stretch of a random file; a short file is repeated."""
        entry = self.entries[kind][rng.integers(len(self.entries[kind]))]
        at = int(rng.integers(max(1, entry["size"] - size)))
        part = self.samples[kind][entry["start"] + at : entry["start"] + min(at + size, entry["size"])]
        return np.resize(part, size).astype(np.float32) / 32768


def by_prefix(table: dict[str, float], name: str, otherwise: float) -> float:
    return next((value for prefix, value in table.items() if name.startswith(prefix)), otherwise)


def narrow(entry: dict[str, str]) -> bool:
    return entry["name"].split("/")[-1].startswith(NARROW)


def faded(samples: np.ndarray) -> np.ndarray:
    """float32 -1..1 with 5 ms ramps at both ends."""
    out = samples.astype(np.float32) / 32768
    ramp = np.linspace(0, 1, 80, dtype=np.float32)
    out[:80] *= ramp
    out[-80:] *= ramp[::-1]
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description="Decode the training audio into a cache.")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cache", type=Path, default=CACHE)
    args = parser.parse_args()
    build_cache(args.data, args.cache)


if __name__ == "__main__":
    main()
