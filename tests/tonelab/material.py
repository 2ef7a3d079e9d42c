"""Recordings for the laboratory: Debian's telephone prompts in several languages, hold music, and noises.

Everything is float32 at 8 kHz. What is not installed is missing from the lists, and `lacking` says how to get it.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import soundfile
import soxr

from tests.tonelab.levels import RATE_HZ, Floats, at_level, level_dbm0

SPEECH_DBM0 = -18.0
RECORDINGS = Path(__file__).resolve().parents[1] / "audio"
SOUNDS, HOLD_MUSIC = Path("/usr/share/asterisk/sounds"), Path("/usr/share/asterisk/moh")
MUSIC = Path("/usr/share/games/wesnoth")
AUDIO = (".wav", ".flac", ".ogg", ".opus", ".mp3")
NOT_SPEECH = ("silence", "beep", "tone", "tt-monkeys", "confbridge", "ascending", "descending", "gsm", "zip-tone")
PACKAGES = {
    SOUNDS: "asterisk-core-sounds-en-wav (and -es-, -fr-, -it-, -ru-, asterisk-prompt-it-menardi-wav)",
    HOLD_MUSIC: "asterisk-moh-opsound-wav",
    MUSIC: "wesnoth-1.16-music",
}


def lacking() -> list[str]:
    """What is not installed, as sentences for a person."""
    return [
        f"{path} is not there: apt-get install {package}" for path, package in PACKAGES.items() if not path.is_dir()
    ]


def read(path: Path, seconds: float | None = None, from_s: float = 0.0) -> Floats:
    """A recording, or a stretch of it, mixed down and at 8 kHz."""
    rate = soundfile.info(path).samplerate
    frames = -1 if seconds is None else round(seconds * rate)
    pcm, _ = soundfile.read(path, frames, round(from_s * rate), dtype="float32", always_2d=True)
    return np.asarray(soxr.resample(pcm.mean(axis=1), rate, RATE_HZ), np.float32)


def recordings(folders: Sequence[Path]) -> list[Path]:
    """Every recording below these folders; links left out."""
    return sorted(
        path for folder in folders for path in folder.rglob("*") if path.suffix in AUDIO and not path.is_symlink()
    )


def speech_files(folders: Sequence[Path] = ()) -> list[Path]:
    """Prompts in every installed language, and what else is spoken in these folders; tones left out."""
    found = [path for path in recordings((SOUNDS, *folders)) if not any(word in path.name for word in NOT_SPEECH)]
    return [RECORDINGS / "clean_8k.wav", *found]


def speech(seconds: float, seed: int = 0, folders: Sequence[Path] = ()) -> Floats:
    """Prompts of all languages one after the other, each at -18 dBm0, with the pauses between them."""
    files = speech_files(folders)
    order = np.random.default_rng(seed).permutation(len(files))
    parts, have = [], 0.0
    while have < seconds:
        for at in order:
            part = read(files[at])
            if len(part) and level_dbm0(part) > -60:
                parts += [at_level(part, SPEECH_DBM0), np.zeros(RATE_HZ // 4, np.float32)]
                have += len(part) / RATE_HZ + 0.25
            if have >= seconds:
                break
    return np.concatenate(parts)[: round(seconds * RATE_HZ)]


def hold_music() -> list[Path]:
    """Debian's music on hold."""
    return sorted(HOLD_MUSIC.glob("*.wav"))


def other_music() -> list[Path]:
    """Longer pieces of a game's orchestra and choir."""
    return [
        path for path in sorted(MUSIC.rglob("*.ogg")) if path.stem != "silence" and soundfile.info(path).duration > 60
    ]


def excerpts(paths: Sequence[Path], seconds: float, dbm0: float = -18.0) -> Iterator[tuple[str, Floats]]:
    """Names, and as much of each piece from where it is under way."""
    for path in paths:
        from_s = min(20.0, max(soundfile.info(path).duration - seconds, 0.0) / 2)
        yield path.stem, at_level(read(path, seconds, from_s), dbm0)


@cache
def noise(kind: str, seconds: float = 30.0, seed: int = 0) -> Floats:
    """`white`, `pink`, `hum`, `babble` (six voices) or `car`; level as it comes."""
    rng, count = np.random.default_rng(seed), round(seconds * RATE_HZ)
    if kind == "babble":
        voices = [speech(seconds, seed=100 + number) for number in range(6)]
        return np.mean(voices, axis=0, dtype=np.float32)
    t = np.arange(count) / RATE_HZ
    if kind == "hum":
        hum = sum(np.sin(2 * np.pi * 50 * k * t) / k for k in range(1, 16))
        return (0.1 * hum + 0.005 * rng.standard_normal(count)).astype(np.float32)
    slope = {"white": 0.0, "pink": 0.5, "car": 1.2}[kind]
    hz = np.maximum(np.fft.rfftfreq(count, 1 / RATE_HZ), 30.0)
    coloured = np.fft.irfft(np.fft.rfft(rng.standard_normal(count)) / hz**slope, count)
    return (0.1 * coloured / coloured.std()).astype(np.float32)
