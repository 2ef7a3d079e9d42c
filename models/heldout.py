"""The recordings that evaluation uses and training never hears: found by name, checked by hash, decoded.

`split.json` is the manifest. Its `held_out` prefixes are what training refuses; its `files` are the recordings that
test clips are made of, with their sha256. A file that is missing or differs stops the evaluation: its figures would be
those of another test set. `python -m models.heldout --write` renews the hashes; then all is to be measured again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from collections.abc import Callable
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np

from models import rivals
from models.files import RATE, decode, replacing

"""Hz; everything is decoded to this."""
MANIFEST = Path(__file__).with_name("split.json")
SOUNDS = Path("/usr/share/asterisk/sounds")
PROMPTS = {
    "fr": ("asterisk/fr_CA_f_June", ".g722"),
    "it": ("asterisk/it_IT_m_Carlo", ".g722"),
    "menardi": ("asterisk/it_IT_f_Menardi", ".wav"),
}
"""Voices that come as short prompts: the folder and the kind of file. Menardi's are recorded at 8 kHz."""
PROMPTS_OF_A_VOICE = 40
NO_SPEECH = ("silence/", "tt-monkeys")
STUDIO_DB = 36.0
"""A prompt's pauses lie at least this far below its loud parts, or it is no clean speech to compare with."""
KEYS = 40
MUSIC = ("music/reno_project-system.wav", "music/northerners.ogg")


class HeldOutError(Exception):
    """The test recordings are not what the manifest says; the message names the file and what to do."""


ROOTS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "speech/": (lambda data: data / "speech", "name the folder of recordings with --data"),
    "noise/": (lambda data: data / "noise", "name the folder of recordings with --data"),
    "asterisk/": (lambda _: SOUNDS, "apt-get install asterisk-core-sounds-{fr,it}-g722 asterisk-prompt-it-menardi-wav"),
    "music/reno": (lambda _: Path("/usr/share/asterisk/moh"), "apt-get install asterisk-moh-opsound-wav"),
    "music/": (lambda _: Path("/usr/share/games/wesnoth/1.16/data/core/music"), "apt-get install wesnoth-1.16-music"),
    "keys/": (lambda _: Path("/usr/share/buckle/wav"), "apt-get install bucklespring-data"),
    "english/sense": (lambda _: Path("/usr/share/pocketsphinx/test/data/librivox"),
                      "apt-get install pocketsphinx-testdata"),
    "english/": (lambda _: rivals.FOLDER / "moonshine/moonshine_voice/assets", "python -m models.rivals fetch"),
}  # fmt: skip
"""Beginning of a name -> the folder it stands for, and what brings the files there."""


def locate(name: str, data: Path) -> tuple[Path, str]:
    """Where the named recording lies, and the command that would bring it."""
    for prefix, (folder, command) in ROOTS.items():
        if name.startswith(prefix):
            return folder(data) / name.split("/", 1)[1], command
    raise HeldOutError(f"{name} begins with none of {', '.join(ROOTS)}")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def verify(files: dict[str, str], data: Path) -> None:
    """Compares every file with its hash. Raises HeldOutError that names the first that is missing or differs."""
    for name, expected in files.items():
        path, command = locate(name, data)
        if not path.exists():
            raise HeldOutError(f"test recording {name} is not at {path}: {command}")
        if (found := sha256(path)) != expected:
            raise HeldOutError(
                f"test recording {name} ({path}) has sha256 {found[:12]}…, the manifest says {expected[:12]}…: get the "
                "version that was measured, or renew the manifest with `python -m models.heldout --write` and measure "
                "every system again"
            )


def load_manifest(path: Path = MANIFEST) -> dict[str, str]:
    """name -> sha256 of every recording the test sets use."""
    files: dict[str, str] = json.loads(path.read_text())["files"]
    return files


@cache
def decoded(path: Path) -> np.ndarray:
    """Any audio file as float32 mono samples in -1..1 at RATE. Cached: some recordings serve many clips."""
    return decode(path).astype(np.float32) / 32768


class Recordings:
    """The verified recordings by name, float32 -1..1 at RATE."""

    def __init__(self, data: Path, manifest: Path = MANIFEST) -> None:
        self.data, self.files = data, load_manifest(manifest)
        verify(self.files, data)

    def names(self, prefix: str) -> list[str]:
        return sorted(name for name in self.files if name.startswith(prefix))

    def samples(self, name: str) -> np.ndarray:
        return decoded(locate(name, self.data)[0])

    def stretch(self, name: str, rng: np.random.Generator, seconds: float) -> np.ndarray:
        """A random stretch of a recording; a short one is repeated."""
        samples, size = self.samples(name), int(seconds * RATE)
        at = int(rng.integers(max(1, len(samples) - size)))
        return np.resize(samples[at : at + size], size)


def longest(folder: str, kind: str, count: int) -> list[str]:
    """The `count` longest clean prompts of a voice, by size."""
    place = SOUNDS / folder.split("/", 1)[1]
    found = sorted(place.rglob(f"*{kind}"), key=lambda path: (-path.stat().st_size, str(path)))
    spoken = (path for path in found if not str(path.relative_to(place)).startswith(NO_SPEECH))
    clean = (path for path in spoken if spread_db(decoded(path)) >= STUDIO_DB)
    return [f"asterisk/{path.relative_to(SOUNDS)}" for path in islice(clean, count)]


def spread_db(samples: np.ndarray) -> float:
    """From the 8th to the 95th percentile of 20 ms frames: how far pauses lie below loud parts. No digital silence."""
    frames = samples[: len(samples) // 320 * 320].reshape(-1, 320)
    db = 10 * np.log10(np.square(frames).mean(axis=1) + 1e-12)
    low, high = np.quantile(db[db > -95], [0.08, 0.95]) if (db > -95).any() else (0.0, 0.0)
    return float(high - low)


def choose(data: Path) -> list[str]:
    """Names of all recordings the test sets may use: what `held_out` keeps from training, and what training has not."""
    prefixes = tuple(json.loads(MANIFEST.read_text())["held_out"])
    local = [
        f"{kind}/{p.relative_to(data / kind)}" for kind in ("speech", "noise") for p in (data / kind).rglob("*.opus")
    ]
    names = [name for name in sorted(local) if name.startswith(prefixes)]
    for folder, kind in PROMPTS.values():
        names += longest(folder, kind, PROMPTS_OF_A_VOICE)
    names += [f"keys/{path.name}" for path in sorted(Path("/usr/share/buckle/wav").glob("*.wav"))[:KEYS]]
    english = sorted(Path("/usr/share/pocketsphinx/test/data/librivox").glob("*.wav"))
    return [*names, *MUSIC, "english/two_cities.wav", "english/beckett.wav", *(f"english/{p.name}" for p in english)]


def write(data: Path) -> None:
    split = json.loads(MANIFEST.read_text())
    split["files"] = {name: sha256(locate(name, data)[0]) for name in choose(data)}
    with replacing(MANIFEST) as part:
        part.write_text(json.dumps(split, indent=1) + "\n")


def default_data() -> Path:
    return Path(os.environ.get("DENOISE_DATA", Path(__file__).parents[2] / "shared" / "data"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=default_data())
    parser.add_argument("--write", action="store_true", help="renew the manifest instead of checking it")
    args = parser.parse_args()
    if args.write:
        write(args.data)
    files = load_manifest()
    verify(files, args.data)
    print(f"{len(files)} test recordings are what {MANIFEST.name} says")


if __name__ == "__main__":
    main()
