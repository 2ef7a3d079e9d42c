"""Audio for training: finds it, leaves the held-out files alone, and decodes the rest once into a cache on disk.

The cache is one int16 file of 16 kHz mono samples a kind (speech, noise, music) and an index. Speech is
kept only where it is clean enough to serve as a target: windows whose pauses lie well below their loud parts.
`python -m models.packages` and `python -m models.data --cache FOLDER` build it; noisy recordings of volunteers are
cleaned on the way (`clean.py`).
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from tqdm import tqdm

from models import clean, packages
from models.files import RATE, decode
from models.sound import effects

ASTERISK, MUSIC = Path("/usr/share/asterisk"), Path("/usr/share/games/wesnoth/1.16/data/core/music")
FILLETS = Path("/usr/share/games/fillets-ng/sound")
PACKAGES = {
    "asterisk-core-sounds-en-g722": ASTERISK / "sounds" / "en_US_f_Allison",
    "asterisk-core-sounds-es-g722": ASTERISK / "sounds" / "es_MX_f_Allison",
    "asterisk-core-sounds-ru-g722": ASTERISK / "sounds" / "ru_RU_f_IvrvoiceRU",
    "asterisk-moh-opsound-wav": ASTERISK / "moh",
    "wesnoth-1.16-music": MUSIC,
    "fillets-ng-data-cs": FILLETS / "gods" / "cs",
    "fillets-ng-data-nl": FILLETS / "keys" / "nl",
}
"""Debian packages with speech and music, and where each must lie."""
SPLIT = Path(__file__).with_name("split.json")
CACHE = Path("/tmp/denoise-cache")
CLEANED = "cleaned"
"""Folder of the cache that keeps what `models.clean` made."""
NOISY = ("many_", "tuxpaint_", "ktuberling_", "klettres_", "gcin_")
"""Groups, by their beginning, that are cleaned first."""
PACKAGES_NAME, EFFECTS, MACHINES = "packages/", "effects_", "machines"
EVENT_S = 2.5
"""A noise shorter than this is one event, unless a machine makes it: it is not repeated, but scattered among others of
its kind."""
WINDOW_S, FRAME = 3, 320
STUDIO_DB = 38.0
CLEAN_DB = {"cleaned_": 20.0, "es": 31.0, "fillets_cs": 33.0, "flemishguy": 34.0}
"""Least distance between pauses and loud parts, by the beginning of a group's name, where it is not that of a studio:
as high as leaves enough of a voice. Cleaned clips were chosen already."""
NARROW = ("digits_8k", "macroform", "manolo", "reno")
"""Sources recorded at 8 kHz."""
WEIGHTS = {
    "flemishguy_nl_m": 1.4, "digits_8k": 0.4, "es": 0.8, "ru": 0.8, "many_en": 0.25, "many_mycroft": 0.8,
    "fillets_cs_others": 0.4, "fillets_cs": 0.7, "fillets_nl_others": 0.6,
    "cleaned_many_en": 0.25, "cleaned_many_mycroft": 0.8,
    "cleaned_tuxpaint": 0.3, "cleaned_ktuberling": 0.2, "cleaned_klettres": 0.1, "cleaned_gcin": 0.2, "festvox": 1.4,
}  # fmt: skip
"""How often a group is drawn, by the beginning of its name; one phrase is one group in `many_en`."""

NOISE_WEIGHTS = {f"{EFFECTS}keyboardsounds": 0.8, EFFECTS: 0.15, MACHINES: 0.6}
"""Likewise of a noise, against recordings of places."""


class DataError(Exception):
    """Recordings are missing, or are where they must not be; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Source:
    """One recording: its kind, its group (a speaker, a collection), its name in the split, its files (mostly one)."""

    kind: str
    group: str
    name: str
    paths: tuple[Path, ...]

    def samples(self) -> np.ndarray:
        """int16 at RATE; the files of one speaker with the pause between them that `clean.clips` looks for."""
        pause = np.zeros(RATE // 4, np.int16)
        parts = [part for path in self.paths for part in (self.read(path), pause)]
        return np.concatenate(parts[:-1])

    def read(self, path: Path) -> np.ndarray:
        """One file; of a package's many, those that FFmpeg cannot read are left out."""
        try:
            return decode(path)
        except av.FFmpegError:
            if not self.name.startswith(PACKAGES_NAME):
                raise
            return np.zeros(0, np.int16)


def sources(data: Path, unpacked: Path) -> Iterator[Source]:
    """Every known recording, held out or not. Raises DataError or PackageError when some are missing."""
    check_there(data)
    yield from ours(data)
    yield from of_packages(unpacked)


def of_packages(unpacked: Path) -> Iterator[Source]:
    """Volunteers' voices, a hundred short files at a time, and effects."""
    spoken: dict[str, list[Path]] = {}
    for found in packages.recordings(unpacked):
        if found.voice:
            spoken.setdefault(found.voice, []).append(found.path)
        else:
            name = f"{PACKAGES_NAME}{found.path.relative_to(unpacked)}"
            group = MACHINES if effects.is_machine(found.path.stem) else f"{EFFECTS}{found.package}"
            yield Source("noise", group, name, (found.path,))
    for voice, paths in sorted(spoken.items()):
        for at in range(0, len(paths), 100):
            yield Source("speech", voice, f"{PACKAGES_NAME}{voice}_{at // 100:02d}", tuple(paths[at : at + 100]))


def ours(data: Path) -> Iterator[Source]:
    for path in sorted((data / "speech").rglob("*.*")):
        yield Source("speech", path.stem.rsplit("_", 1)[0], f"speech/{path.name}", (path,))
    for path in sorted((data / "noise").rglob("*.*")):
        if path.is_file():
            yield Source("noise", path.parent.name, f"noise/{path.parent.name}/{path.name}", (path,))
    for path in sorted((ASTERISK / "sounds").rglob("*.g722")):
        language = path.relative_to(ASTERISK / "sounds").parts[0].split("_")[0]
        yield Source("speech", language, f"asterisk/{path.relative_to(ASTERISK / 'sounds')}", (path,))
    for path in sorted(FILLETS.rglob("*.ogg"), key=lambda path: (fillets_group(path), path)):
        if path.parent.name in ("cs", "nl"):
            yield Source("speech", fillets_group(path), f"fillets/{path.relative_to(FILLETS)}", (path,))
    for path in sorted([*(ASTERISK / "moh").glob("*.wav"), *MUSIC.glob("*.ogg")]):
        yield Source("music", path.stem, f"music/{path.name}", (path,))


def check_there(data: Path) -> None:
    if not (data / "speech").is_dir() or not (data / "noise").is_dir():
        raise DataError(f"{data} has no folders speech and noise: name the folder of recordings with --data")
    missing = [package for package, place in PACKAGES.items() if not place.exists()]
    if missing:
        raise DataError(f"recordings of Debian packages are missing: apt-get install {' '.join(missing)}")


def fillets_group(path: Path) -> str:
    """The dialogues of the game Fish Fillets: its two heroes have -m- and -v- in their file names, the rest others."""
    hero = next((part for part in path.stem.split("-")[1:2] if part in ("m", "v")), "others")
    return f"fillets_{path.parent.name}_{hero}"


def held_out(source: Source, split: dict[str, Any]) -> bool:
    """Whether evaluation owns this file: by its name, or by what is in it."""
    if listed(source.name, split["held_out"]):
        return True
    owned = split.get("files", {}).values()
    return any(hashlib.sha256(path.read_bytes()).hexdigest() in owned for path in source.paths)


def listed(name: str, prefixes: list[str]) -> bool:
    """Whether a recording is one of those that a list of the split begins to name."""
    return name.startswith(tuple(prefixes))


def load_split() -> dict[str, Any]:
    split: dict[str, Any] = json.loads(SPLIT.read_text())
    return split


def prepared(source: Source, cache: Path) -> np.ndarray:
    """A source's samples, int16 at RATE, cleaned when they need it; none where a package's file is no usable effect.

    Raises RivalError without the cleaner's wheel.
    """
    samples = source.samples()
    if source.group.startswith((EFFECTS, MACHINES)):
        return effects.usable(samples)
    return clean.clean(source.name, samples, cache / CLEANED) if source.group.startswith(NOISY) else samples


def clean_windows(samples: np.ndarray, least_db: float) -> np.ndarray:
    """Starts (int64, in samples) of the WINDOW_S long windows, every half second, that are clean enough.

    A window's pauses are its 8th percentile of 20 ms frames; digital silence between clips does not count as a pause.
    """
    frames = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME).astype(np.float32)
    db = 10 * np.log10(np.einsum("ij,ij->i", frames, frames) / FRAME + 1e-3)
    if len(db) < 50 * WINDOW_S:
        return np.zeros(0, np.int64)
    windows = np.sort(np.lib.stride_tricks.sliding_window_view(db, 50 * WINDOW_S)[::25], axis=1)
    count = (windows > 4).sum(axis=1)
    quiet, loud = (at_quantile(windows, count, q) for q in (0.08, 0.95))
    return np.flatnonzero((count > 50) & (loud > 45) & (loud - quiet > least_db)) * 25 * FRAME


def at_quantile(rows: np.ndarray, count: np.ndarray, q: float) -> np.ndarray:
    """The q-quantile of the last `count` values of each sorted row."""
    first = rows.shape[1] - count
    at = np.minimum(first + np.rint(q * (count - 1)).astype(int), rows.shape[1] - 1)
    return rows[np.arange(len(rows)), at]


def build_cache(data: Path, unpacked: Path, cache: Path) -> None:
    """Decodes every file that is not held out. The index comes last, so that half a cache is never used.

    Raises DataError, PackageError or RivalError when recordings or the cleaner are missing.
    """
    cache.mkdir(parents=True, exist_ok=True)
    split, index = load_split(), {"speech": [], "noise": [], "music": []}
    known = [s for s in sources(data, unpacked) if s.kind != "noise" or not effects.is_musical(s.name)]
    found = [s for s in tqdm(known, desc="comparing with the split") if not held_out(s, split)]
    for kind, entries in index.items():
        part, at = cache / f"{kind}.part", 0
        with part.open("wb") as file:
            for source in tqdm([s for s in found if s.kind == kind], desc=f"decoding {kind}", mininterval=5):
                samples = prepared(source, cache)
                if not len(samples):
                    continue
                samples.tofile(file)
                group = f"cleaned_{source.group}" if source.group.startswith(NOISY) else source.group
                entries.append({"group": group, "name": source.name, "start": at, "size": len(samples)})
                at += len(samples)
        part.rename(cache / f"{kind}.i16")
    (cache / "index.json").write_text(json.dumps(index))


class Pools:
    """The cache, opened: random stretches of speech, noise and music. float32 -1..1 at 16 kHz.

    `part` is `training`, or `validation` for the voices and noises that training leaves out.
    Raises DataError when there is anything in the cache that evaluation owns.
    """

    def __init__(self, cache: Path, wide_only: bool, part: str = "training") -> None:
        index, split = json.loads((cache / "index.json").read_text()), load_split()
        for entry in (e for entries in index.values() for e in entries):
            if listed(entry["name"], split["held_out"]):
                raise DataError(f"{cache} holds {entry['name']}, which is for evaluation only: build the cache anew")
        self.samples = {k: np.memmap(cache / f"{k}.i16", np.int16, "r") for k in index}
        for kind in ("speech", "noise"):
            index[kind] = [e for e in index[kind] if listed(e["name"], split["validation"]) == (part == "validation")]
        self.entries = {k: [e for e in v if not (wide_only and narrow(e))] for k, v in index.items()}
        noises = self.entries["noise"]
        self.entries["event"] = [e for e in noises if is_event(e)]
        self.entries["noise"] = [e for e in noises if not is_event(e)]
        self.samples["event"] = self.samples["noise"]
        self.shares = {kind: even_shares(self.entries[kind]) for kind in ("noise", "event", "music")}
        self.starts = {g: self._speech_starts(g) for g in {e["group"] for e in self.entries["speech"]}}
        self.starts = {g: s for g, s in self.starts.items() if len(s)}
        self.groups = sorted(self.starts)
        if not self.groups or not self.entries["event"]:
            raise DataError(f"{cache} holds no clean speech, or no effects: build the cache anew")
        weights = np.array([by_prefix(WEIGHTS, g, 1.0) for g in self.groups])
        self.group_shares = weights / weights.sum()

    def _speech_starts(self, group: str) -> np.ndarray:
        """Short prompts lie one after another in the cache, so a group is searched as one long recording."""
        parts = [e for e in self.entries["speech"] if e["group"] == group]
        first, last = parts[0]["start"], parts[-1]["start"] + parts[-1]["size"]
        return first + clean_windows(self.samples["speech"][first:last], by_prefix(CLEAN_DB, group, STUDIO_DB))

    def leave_out(self, kind: str, names: tuple[str, ...]) -> None:
        """Draw nothing more from recordings whose name contains one of these. kind: `noise`, `event` or `music`."""
        self.entries[kind] = [e for e in self.entries[kind] if not any(name in e["name"] for name in names)]
        self.shares[kind] = even_shares(self.entries[kind])

    def speech(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """Random clean windows of one speaker or collection, as many as `size` samples take."""
        starts = self.starts[self.groups[rng.choice(len(self.groups), p=self.group_shares)]]
        count = -(-size // (WINDOW_S * RATE))
        windows = [self.samples["speech"][at : at + WINDOW_S * RATE] for at in rng.choice(starts, count)]
        return np.concatenate([faded(window) for window in windows])[:size]

    def stretch(self, rng: np.random.Generator, kind: str, size: int) -> np.ndarray:
        """A random stretch of a random file; a short file is repeated."""
        entry = self.entries[kind][rng.choice(len(self.shares[kind]), p=self.shares[kind])]
        at = int(rng.integers(max(1, entry["size"] - size)))
        part = self.samples[kind][entry["start"] + at : entry["start"] + min(at + size, entry["size"])]
        return floats(np.resize(part, size))

    def events(self, rng: np.random.Generator, count: int) -> list[np.ndarray]:
        """Some short noises that lie beside each other in one package: doors, steps, keys of one keyboard."""
        entries = self.entries["event"]
        first = int(rng.choice(len(entries), p=self.shares["event"]))
        near = [e for e in entries[max(0, first - count) : first + count] if e["group"] == entries[first]["group"]]
        picked = [near[i] for i in rng.integers(len(near), size=count)]
        return [floats(self.samples["event"][e["start"] : e["start"] + e["size"]]) for e in picked]


def even_shares(entries: list[dict[str, Any]]) -> np.ndarray:
    """How often each entry is drawn, float64 [entries], 1 in all: a group's weight grows with the root of its size."""
    sizes = Counter(e["group"] for e in entries)
    weights = np.array([by_prefix(NOISE_WEIGHTS, e["group"], 1.0) * sizes[e["group"]] ** -0.5 for e in entries])
    return weights / weights.sum()


def is_event(entry: dict[str, Any]) -> bool:
    return entry["size"] < EVENT_S * RATE and entry["group"] != MACHINES


def by_prefix(table: dict[str, float], name: str, otherwise: float) -> float:
    return next((value for prefix, value in table.items() if name.startswith(prefix)), otherwise)


def narrow(entry: dict[str, str]) -> bool:
    return entry["name"].split("/")[-1].startswith(NARROW)


def faded(samples: np.ndarray) -> np.ndarray:
    """float32 -1..1 with 5 ms ramps at both ends."""
    out = floats(samples)
    ramp = np.linspace(0, 1, 80, dtype=np.float32)
    out[:80] *= ramp
    out[-80:] *= ramp[::-1]
    return out


def floats(samples: np.ndarray) -> np.ndarray:
    """int16 to float32 -1..1."""
    return samples.astype(np.float32) / np.float32(32768)


def main() -> None:
    parser = argparse.ArgumentParser(description="Decode the training audio into a cache.")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--packages", type=Path, default=packages.FOLDER, help="where models.packages unpacked them")
    parser.add_argument("--cache", type=Path, default=CACHE)
    args = parser.parse_args()
    build_cache(args.data, args.packages, args.cache)


if __name__ == "__main__":
    main()
