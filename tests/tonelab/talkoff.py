"""Talk-off: hours of speech straight into the gateway's detectors, many streams at once, faster than real time.

What they find in speech is false: a digit spoils nothing but the record, a fax latches the call for good, and music
lets noise pass. When there is less speech than hours, it comes again at other speeds and levels, through other lines.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import soundfile
import soxr
from tqdm import tqdm

from gateway.detect.ear import Ear
from gateway.messages import Reason
from tests.tonelab import material
from tests.tonelab.levels import FRAME, RATE_HZ, Floats, Law, at_level, level_dbm0, through_g711, with_noise

ABOUT = """\
Feeds hours of speech (or of music, noise, or beeps: --data with --only-data) straight to the detectors, and counts what
they find in it. Speech: Debian's prompts in every installed language, tests/audio, and the recordings below --data.

  python -m tests.tonelab talkoff --hours 10 --data FOLDER
  python -m tests.tonelab talkoff --hours 1 --clips out/false      keeps what was taken for a tone, to listen to
"""
STREAMS, STRETCH_S = 100, 60.0
"""Slots, and how long each goes on before it is a new call."""
CHUNK = 2
"""Frames at a time, as from packets of 20 ms."""
CLIP_S = 1.0


@dataclass(slots=True)
class Findings:
    """What was found in how much."""

    hours: float = 0.0
    found: dict[str, int] = field(default_factory=dict)
    """Detections by kind."""
    shares: dict[str, float] = field(default_factory=dict)
    """Share of the frames by reason for not denoising them."""
    longest_s: dict[str, float] = field(default_factory=dict)
    """Longest run of frames by reason."""
    examples: list[str] = field(default_factory=list)
    """Kind, value, and where in the material."""
    cpu_us_a_frame: float = 0.0


def stretches(files: Sequence[Path], hours: float, seed: int = 0) -> Iterator[tuple[str, Floats]]:
    """Name of the first recording in it, and a minute of speech; the first time round only levels vary."""
    rng, passes, left = np.random.default_rng(seed), 0, hours * 3600
    name, parts, have, need = "", [], 0, round(STRETCH_S * RATE_HZ)
    while left > 0:
        for at in rng.permutation(len(files)):
            pcm = material.read(files[at])
            if len(pcm) < RATE_HZ // 10 or level_dbm0(pcm) < -70:
                continue
            name = name or files[at].name
            parts.append(_varied(pcm, rng, passes))
            have += len(parts[-1])
            while have >= need and left > 0:
                whole = np.concatenate(parts)
                yield name, whole[:need]
                parts, have, name = [whole[need:]], have - need, files[at].name
                left -= STRETCH_S
            if left <= 0:
                return
        passes += 1


def _varied(pcm: Floats, rng: np.random.Generator, passes: int) -> Floats:
    """Another level; from the second time on another speed and line, and sometimes noise."""
    pcm = at_level(pcm, rng.uniform(-32, -8))
    if passes:
        pcm = soxr.resample(pcm, RATE_HZ, RATE_HZ * rng.uniform(0.85, 1.18)).astype(np.float32)
        tilt = rng.uniform(-0.6, 0.6)
        pcm = pcm + np.float32(tilt) * np.concatenate([[np.float32(0)], pcm[:-1]])
        if rng.random() < 0.5:
            pcm = with_noise(pcm, rng.uniform(5, 30), seed=int(rng.integers(1 << 30)))
    laws: tuple[Law, Law] = ("PCMU", "PCMA")
    return through_g711(np.clip(pcm, -1, 1).astype(np.float32), laws[int(rng.integers(2))])


def talk_off(
    files: Sequence[Path], hours: float, clips: Path | None = None, bar: tqdm | None = None, seed: int = 0
) -> Findings:
    """Play it all to the detectors."""
    out, found, frames, longest = Findings(), Counter[str](), Counter[int](), Counter[int]()
    busy_s = 0.0
    source = stretches(files, hours, seed)
    while batch := [stretch for stretch, _ in zip(source, range(STREAMS), strict=False)]:
        names, pcm = [name for name, _ in batch], np.stack([stretch for _, stretch in batch])
        batch.clear()
        ear = Ear(len(names))
        begun = time.thread_time()
        codes = _listen(ear, pcm)
        busy_s += time.thread_time() - begun
        first = {(each.slot, each.kind, each.begin): each for each in reversed(ear.found)}  # the end is told again
        for detection in reversed(first.values()):
            found[detection.kind] += 1
            where = f"{names[detection.slot]} + {detection.begin / RATE_HZ:.2f} s"
            out.examples.append(f"{detection.kind} {detection.value}".strip() + f": {where}")
            if clips is not None:
                _keep(clips, f"{detection.kind}-{found[detection.kind]:04}", pcm[detection.slot], detection.begin)
        for code in np.unique(codes).tolist():
            frames[code] += int((codes == code).sum())
            longest[code] = max(longest[code], _longest_run(codes == code))
        out.hours += codes.size / 360_000
        if bar is not None:
            bar.update(round(codes.size / 100))
    total = max(sum(frames.values()), 1)
    out.found = dict(found)
    out.shares = {Reason(code).name.lower(): count / total for code, count in frames.items()}
    out.longest_s = {Reason(code).name.lower(): run / 100 for code, run in longest.items()}
    out.cpu_us_a_frame = busy_s * 1e6 / total
    return out


def _listen(ear: Ear, pcm: Floats) -> np.ndarray:
    """The reason of every frame: uint8 [streams, frames]."""
    slots = np.arange(len(pcm))
    frames = pcm[:, : pcm.shape[1] // (CHUNK * FRAME) * CHUNK * FRAME].reshape(len(pcm), -1, FRAME)
    keep = np.ones(len(pcm), np.bool_)
    for slot in slots.tolist():
        ear.open_leg(slot)
    codes = []
    for at in range(0, frames.shape[1], CHUNK):
        codes.append(np.repeat(ear.verdicts(slots)[:, None], CHUNK, axis=1))
        ear.take(slots, frames[:, at : at + CHUNK], RATE_HZ, keep)
    ear.listen()
    return np.concatenate(codes, axis=1)


def _longest_run(mask: np.ndarray) -> int:
    """Of frames in any stream."""
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    begins, ends = np.flatnonzero(edges.ravel() > 0), np.flatnonzero(edges.ravel() < 0)
    return int((ends - begins).max(initial=0))


def _keep(folder: Path, name: str, pcm: Floats, at: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    half = round(CLIP_S * RATE_HZ)
    soundfile.write(folder / f"{name}.wav", pcm[max(at - half, 0) : at + half], RATE_HZ, subtype="PCM_16")


def markdown(found: Findings) -> str:
    """For a person."""
    kinds = ("dtmf", "progress", "tone", "fax", "music")
    lines = [
        f"{found.hours:.1f} h, {found.cpu_us_a_frame:.2f} µs a frame of 10 ms",
        "",
        "| found | " + " | ".join(kinds) + " |",
        "| --- " * (len(kinds) + 1) + "|",
        "| times | " + " | ".join(str(found.found.get(kind, 0)) for kind in kinds) + " |",
        "",
        "| not denoised for | share of frames | longest |",
        "| --- | --- | --- |",
    ]
    for reason, share in sorted(found.shares.items(), key=lambda item: -item[1]):
        if reason != "none":
            lines.append(f"| {reason} | {100 * share:.3f} % | {found.longest_s[reason]:.2f} s |")
    return "\n".join([*lines, "", *(f"- {example}" for example in found.examples[:40])])


def main(arguments: list[str]) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.tonelab talkoff", description=ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hours", type=float, default=10.0, help="how much speech (default: %(default)s)")
    parser.add_argument("--data", type=Path, action="append", default=[], metavar="FOLDER", help="more recordings")
    parser.add_argument("--only-data", action="store_true", help="nothing but what is in --data")
    parser.add_argument("--seed", type=int, default=0, help="of order and variation")
    parser.add_argument("--clips", type=Path, metavar="FOLDER", help="write what was found as WAV files")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures")
    options = parser.parse_args(arguments)
    files = material.recordings(options.data) if options.only_data else material.speech_files(options.data)
    if not files:
        print("tonelab: there are no recordings in " + ", ".join(map(str, options.data)), file=sys.stderr)
        return 1
    with tqdm(total=round(options.hours * 3600), unit="s", desc="speech", disable=None) as bar:
        found = talk_off(files, options.hours, options.clips, bar, options.seed)
    print(markdown(found))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(asdict(found), indent=1) + "\n")
    return 0
