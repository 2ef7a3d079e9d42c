"""Runs systems over test clips in worker processes, and remembers every figure on disk: nothing is measured twice.

A figure belongs to what produced it (`fingerprint`: the system's version, what it does to a short probe, the meaning of
the figures) and to the clip's digest. Results go into one file a system as they come, so an interrupted run goes on
where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from tqdm import tqdm

from models.evaluation import metrics, testset
from models.evaluation.testset import Clip, ClipSet
from models.files import replacing

CHUNK = 8
"""Clips a job: few enough that an interruption loses little."""
Figures = dict[str, float]
Suppress = Callable[[np.ndarray, int], np.ndarray]


@dataclass(frozen=True, slots=True)
class Job:
    """One system over some clips of the test set at `path`. samples: folder for the listening page."""

    system: str
    rate: int
    path: Path
    clips: tuple[int, ...]
    samples: Path


def probe(rate: int) -> np.ndarray:
    """A second of noise with bursts, float32 [1, samples]: enough to tell two versions of a suppressor apart."""
    noise = np.random.default_rng(1).standard_normal(rate).astype(np.float32) * 0.02
    t = np.arange(rate) / rate
    return (noise + 0.2 * np.sin(2 * np.pi * 180 * t) * np.sin(2 * np.pi * 1.3 * t) ** 4).astype(np.float32)[None]


def version_at(version: str, rate: int) -> str:
    """The part of a version that speaks of one rate ("8000:abc 16000:def"), or all of it."""
    parts = [part for part in version.split() if part.startswith(f"{rate}:")]
    return " ".join(parts) or version


def fingerprint(name: str, version: str, suppress: Suppress, rate: int) -> str:
    """What a system's results are filed under: changes with its graph or wheel, what it does, and our figures."""
    heard = testset.to_int16(suppress(probe(rate), rate)).tobytes()
    what = json.dumps([name, version_at(version, rate), metrics.VERSION, hashlib.sha256(heard).hexdigest()])
    return hashlib.sha256(what.encode()).hexdigest()[:16]


def file_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower()


class Store:
    """Figures of one system at one rate: a file of lines, each a clip's digest and its figures."""

    def __init__(self, folder: Path, name: str, mark: str) -> None:
        self.path = folder / f"{file_name(name)}-{mark}.jsonl"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.figures: dict[str, Figures] = {}
        for line in self.path.read_text().splitlines() if self.path.exists() else []:
            try:
                digest, row = json.loads(line)
            except ValueError:  # the last line of a run that was killed
                continue
            self.figures[digest] = row

    def add(self, digest: str, row: Figures) -> None:
        self.figures[digest] = row
        with self.path.open("a") as file:
            file.write(json.dumps([digest, row]) + "\n")


def chosen_to_hear(clips: list[Clip]) -> list[str]:
    """Ids of the clips for the listening page, all of a quick run: one a class of noise, one a kind of damage."""
    firsts: dict[str, str] = {}
    for clip in clips:
        if clip.part == "noisy" and clip.turn == 0 and clip.snr_db in (5, 10, 15):
            firsts.setdefault(clip.noise, clip.id)
        if clip.part in ("conditions", "clean"):
            firsts.setdefault(clip.condition or "clean", clip.id)
    return list(firsts.values())


def write_wav(path: Path, x: np.ndarray, rate: int) -> None:
    import soundfile

    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        soundfile.write(part, testset.to_int16(x), rate, format="WAV", subtype="PCM_16")


@cache
def open_set(path: Path) -> ClipSet:
    found = testset.read(path)
    assert found is not None
    return found[1]


def work(job: Job) -> list[tuple[int, Figures]]:
    """Suppresses and judges the clips of a job, in a worker process."""
    from models.evaluation import systems

    system, tests = systems.SYSTEMS[job.system], open_set(job.path)
    noisy = [testset.to_float(tests.noisy[i]) for i in job.clips]
    longest = max(map(len, noisy))
    outputs = system.suppress(np.stack([np.pad(x, (0, longest - len(x))) for x in noisy]), job.rate)
    hear = set(chosen_to_hear(tests.clips))
    rows = []
    for i, output, before in zip(job.clips, outputs, noisy, strict=True):
        clip, clean = tests.clips[i], testset.to_float(tests.clean[i])
        output = np.asarray(output[: len(before)], np.float32)
        rows.append((i, judged(clip, output, before, clean, job)))
        if clip.id in hear:
            write_wav(job.samples / clip.id / f"{file_name(job.system)}.wav", output, job.rate)
    return rows


def judged(clip: Clip, output: np.ndarray, noisy: np.ndarray, clean: np.ndarray, job: Job) -> Figures:
    from models.evaluation import systems, wer

    if clip.part == "words":
        return wer.judge(output, job.rate, clip.text)
    if clip.part in ("music", "tones"):
        row = {"level_db": metrics.level_change(output, noisy)}
        if clip.part == "music" and job.system in systems.our_models():
            out = systems.ours(noisy[None], job.rate, model=job.system, keep_music=False)[0]
            row["suppressed_db"] = metrics.level_change(out, noisy)
        return row
    return metrics.judge(output, noisy, clean, testset.quiet(clean, job.rate), job.rate)


def one_thread() -> None:
    """Workers share the cores between them; libraries' own threads would only get in their way."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"


def lacking(name: str, store: Store, tests: ClipSet, samples: Path, wanted: list[int]) -> list[int]:
    """The wanted clips that the store lacks, or whose sample for the listening page is missing."""
    hear = set(chosen_to_hear(tests.clips))

    def done(clip: Clip) -> bool:
        heard = clip.id not in hear or (samples / clip.id / f"{file_name(name)}.wav").exists()
        return clip.digest in store.figures and heard

    return [i for i in wanted if not done(tests.clips[i])]


def jobs(stores: dict[str, Store], tests: ClipSet, path: Path, wanted: list[int]) -> Iterator[Job]:
    """What is left to do; all systems take the clips of one turn before any takes the next."""
    left = {name: lacking(name, store, tests, path.parent, wanted) for name, store in stores.items()}
    for turn in range(3):
        for part in ("noisy", "words", "clean", "conditions", "music", "tones"):
            for name, missing in left.items():
                clips = [i for i in missing if (tests.clips[i].turn, tests.clips[i].part) == (turn, part)]
                for at in range(0, len(clips), CHUNK):
                    yield Job(name, tests.rate, path, tuple(clips[at : at + CHUNK]), path.parent)


def run(stores: dict[str, Store], tests: ClipSet, path: Path, wanted: list[int], workers: int) -> None:
    """Measures what is missing. stores: one a system. Raises what a worker raised."""
    todo = list(jobs(stores, tests, path, wanted))
    if not todo:
        return
    one_thread()
    fresh = multiprocessing.get_context("spawn")  # a forked worker would inherit the suppressors' threads half alive
    with (
        ProcessPoolExecutor(workers, mp_context=fresh) as pool,
        tqdm(total=sum(len(j.clips) for j in todo), desc=f"{tests.rate} Hz", unit="clip", disable=None) as bar,
    ):
        running = {pool.submit(work, job): job for job in todo}
        for done in as_completed(running):
            job = running.pop(done)
            for i, row in done.result():
                stores[job.system].add(tests.clips[i].digest, row)
            bar.set_postfix_str(job.system)
            bar.update(len(job.clips))
