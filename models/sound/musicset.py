"""Music and singing for `musicality.py`: found in Debian's packages, decoded once, some of it kept for evaluation.

Singing is made of speech (`singing.py`). Whole packages are kept from training, so that no album, band or synthesiser
of the evaluation was heard before, besides what `split.json` keeps.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from tqdm import tqdm

from models import heldout
from models.data import NOISY, DataError, Pools
from models.files import RATE, decode, replacing
from models.sound import augment, tunes
from models.sound.augment import Rng

GAMES = Path("/usr/share/games")
TRAINING = {
    "warzone2100-music": GAMES / "warzone2100/music",
    "singularity-music": GAMES / "singularity/music",
    "fretsonfire-songs-muldjord": GAMES / "fretsonfire/data/songs/muldjord",
    "extremetuxracer-data": GAMES / "etr/music",
    "drascula-music": Path("/usr/share/scummvm/drascula/audio"),
}
HELD_OUT = {
    "hyperrogue-music": Path("/usr/share/hyperrogue/music"),
    "fretsonfire-songs-sectoid": GAMES / "fretsonfire/data/songs/sectoid",
    "asc-music": GAMES / "asc/music",
}
"""Debian packages of music, and where each lies."""
SKIPPED = ("guitar", "hr-savino")
"""Single instruments of songs that are there as a whole; files whose pictures FFmpeg does not open."""
ROUGH = (*NOISY, "digits_8k")
"""What recordings of volunteers are called."""
LONGEST_S = 150
"""Of a track, so that no album outweighs the others."""
SUNG, SUNG_S = 150, 9
"""Songs that are made, and seconds of speech that each is made of."""
TUNES, TUNE_S = 40, 50
"""Tunes that a synthesiser adds, and their length."""
SUSPECT = ("carousel", "church", "temple", "tuning-radio", "singing-bowl", "wind-chimes", "morse-code")
"""Recordings of noise in which music plays."""


def tracks(packages: dict[str, Path]) -> list[Path]:
    """All music of the packages. Raises DataError when one is not installed."""
    missing = [name for name, folder in packages.items() if not folder.exists()]
    if missing:
        raise DataError(f"music of Debian packages is missing: apt-get install {' '.join(missing)}")
    found = (p for folder in packages.values() for p in folder.rglob("*.*"))
    return sorted(p for p in found if p.suffix in (".ogg", ".opus", ".mp3") and not p.name.startswith(SKIPPED))


@dataclass(frozen=True, slots=True)
class Songs:
    """Music and singing, int16 at RATE."""

    tracks: list[np.ndarray]
    voices: list[np.ndarray]

    def stretch(self, rng: Rng, size: int) -> np.ndarray:
        """A random stretch that is not silent; float32 -1..1. A short track is repeated."""
        for _ in range(20):
            track = self.tracks[rng.integers(len(self.tracks))]
            at = int(rng.integers(max(1, len(track) - size)))
            part = np.resize(track[at : at + size], size).astype(np.float32) / np.float32(32768)
            if augment.rms(part) > 0.003:
                break
        return part

    def sung(self, rng: Rng, size: int) -> np.ndarray:
        """One voice's songs, one after another."""
        count, parts = 0, []
        while count < size:
            parts.append(self.voices[rng.integers(len(self.voices))].astype(np.float32) / np.float32(32768))
            count += len(parts[-1])
        return np.concatenate(parts)[:size]


def decoded(paths: list[Path]) -> list[np.ndarray]:
    return [beginning(path) for path in tqdm(paths, desc="decoding music", disable=None)]


def beginning(path: Path) -> np.ndarray:
    """The first LONGEST_S of a file, int16 at RATE."""
    resampler, parts, size = av.AudioResampler(format="s16", layout="mono", rate=RATE), [], 0
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            parts += [f.to_ndarray().reshape(-1) for f in resampler.resample(frame)]
            size += len(parts[-1]) if parts else 0
            if size >= LONGEST_S * RATE:
                break
    return np.concatenate(parts)


def volunteers(data: Path) -> list[np.ndarray]:
    """Speech that is no target of denoising, too noisy or too narrow, int16 at RATE: volunteers' phrases, digits said
    again and again. Of its files every second one, so that the others tell what the detector makes of strangers.
    Raises DataError when there is none."""
    found = sorted(p for p in (data / "speech").glob("*") if p.name.startswith(ROUGH) and p.is_file())
    if not found:
        raise DataError(f"no recordings of volunteers ({ROUGH[0]}*) in {data / 'speech'}: name the folder with --data")
    return [decode(path) for path in tqdm(found[1::2], desc="decoding volunteers", disable=None)]


def sung(rng: Rng, speech: list[np.ndarray]) -> list[np.ndarray]:
    from models.sound import singing

    songs = (singing.sing(rng, x) for x in tqdm(speech, desc="singing", disable=None))
    return [np.round(x * 32767).astype(np.int16) for x in songs]


def for_training(pools: Pools, cache: Path) -> Songs:
    """The music that training may hear, kept in `cache` once made."""
    if not cache.exists():
        rng = np.random.default_rng(5)
        spoken = [pools.speech(rng, SUNG_S * RATE) for _ in range(SUNG)]
        keep(cache, Songs(decoded(tracks(TRAINING)), sung(rng, spoken)))
    songs = kept(cache)
    music = pools.samples["music"]
    own = [np.asarray(music[e["start"] : e["start"] + e["size"]]) for e in pools.entries["music"]]
    made = [tunes.tune(np.random.default_rng([9, i]), TUNE_S) for i in range(TUNES)]
    composed = [np.round(x * 32767).astype(np.int16) for x in made]
    return Songs([*songs.tracks, *(x[: LONGEST_S * RATE] for x in own if len(x) > 4 * RATE), *composed], songs.voices)


def for_evaluation(recordings: heldout.Recordings, cache: Path) -> Songs:
    """Music and voices that training never hears."""
    if not cache.exists():
        rng = np.random.default_rng(6)
        names = [
            n for prefix in ("asterisk/fr", "asterisk/it_IT_m", "speech/nathalie") for n in recordings.names(prefix)
        ]
        spoken = [recordings.stretch(names[rng.integers(len(names))], rng, SUNG_S) for _ in range(24)]
        keep(cache, Songs(decoded(tracks(HELD_OUT)), sung(rng, spoken)))
    songs = kept(cache)
    own = [np.round(recordings.samples(name) * 32768).astype(np.int16) for name in recordings.names("music/")]
    return Songs([*songs.tracks, *own], songs.voices)


def keep(path: Path, songs: Songs) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part, part.open("wb") as file:
        sizes = [[len(x) for x in group] for group in (songs.tracks, songs.voices)]
        np.savez(
            file, tracks=np.concatenate(songs.tracks), voices=np.concatenate(songs.voices), track_sizes=sizes[0],
            voice_sizes=sizes[1],
        )  # fmt: skip


def kept(path: Path) -> Songs:
    with np.load(path) as file:
        return Songs(
            np.split(file["tracks"], np.cumsum(file["track_sizes"])[:-1]),
            np.split(file["voices"], np.cumsum(file["voice_sizes"])[:-1]),
        )
