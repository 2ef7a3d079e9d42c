"""An hour of call through a graph, to see that nothing wanders: `python -m models.drift --model standard --rate 8000`.

Each row of the batch is a call of its own: a script of scenes from `tests/audio` (speech in noise, noise alone, clean
speech, tones, digital silence, jumps of 20 dB, clipping), at levels of its own, played again every five minutes. So
what the network does in a period can be compared with what it did in another one: all that differs is its state.
Prints a row a period, and exits with 1 when the last period differs from the second. (During the first, a fresh state
still learns what the call sounds like.)
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import soundfile
import soxr
from tqdm import tqdm

from gateway.denoise.ort import read_card, session_options
from gateway.errors import ConfigError

FOLDER = Path(__file__).parent
AUDIO = FOLDER.parent / "tests" / "audio"
SCENES = ("clean", "noisy", "noise", "silence", "silence", "noise", "noisy", "tone", "noise", "jumps",
          "clean", "loud", "noisy", "noise", "silence", "noisy", "tone", "noise", "clean", "noisy")  # fmt: skip
"""A period, scene by scene; the first one is not measured."""
PAUSE, SPEECH = 1, 2
"""Labels of frames: noise alone, clean speech alone; 0 is anything else."""
SETTLING_S, HANGOVER_S = 2.0, 0.3
"""Frames count as a pause this long after a scene's start, and after speech."""
MOST_DRIFT_DB, MOST_GROWTH = 0.3, 1.5
"""The last period against the second: decibels, and the largest value in the state as a ratio."""
SMALLEST_NORMAL = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, slots=True)
class Period:
    """What a period showed, over all rows."""

    minute: float
    """When it ended."""
    noise_reduction_db: float
    speech_gain_db: float
    state_rms: float
    state_peak: float
    not_finite: int
    """Values of output and state, looked at once a scene."""
    denormal: int
    us_per_frame: float
    """Of one call."""


class Material:
    """The recordings at the graph's rate, cut to the length of a scene: speech, and the noise that belongs to it."""

    def __init__(self, rate: int, scene_s: float) -> None:
        clean, noisy = (self._read(name, rate) for name in ("clean_8k.wav", "noisy_8k.wav"))
        size = int(scene_s * rate)
        self.rate, self.hop = rate, rate // 100
        self.speech, self.noise = np.resize(clean, size), np.resize(noisy - clean, size)
        loud = np.square(self.speech).reshape(-1, self.hop).mean(axis=1) > 1e-6
        after = np.ones(round(HANGOVER_S * 100), bool)
        self.talking = loud
        self.quiet = np.convolve(loud, after)[: len(loud)] == 0
        self.quiet[: round(SETTLING_S * 100)] = False

    @staticmethod
    def _read(name: str, rate: int) -> np.ndarray:
        samples, own = soundfile.read(AUDIO / name, dtype="float32")
        return samples if own == rate else soxr.resample(samples, own, rate)

    def scene(self, kind: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """(audio float32 [samples], labels [frames]) of one scene of one call."""
        level, snr = 10 ** (rng.uniform(-18, 8) / 20), 10 ** (rng.uniform(-10, 5) / 20)
        shift = int(rng.integers(len(self.talking)))
        noise = np.roll(self.noise, shift * self.hop) * snr
        settled = np.arange(len(self.quiet)) >= SETTLING_S * 100
        if kind == "tone":
            return self._tone(rng) * level, np.zeros_like(self.quiet, int)
        if kind == "silence":
            return np.zeros_like(self.noise), np.zeros_like(self.quiet, int)
        if kind == "clean":
            return self.speech * level, SPEECH * (self.talking & settled)
        if kind == "noise":
            return noise * level, PAUSE * settled
        both = (self.speech + noise) * level
        if kind == "noisy":
            return both, PAUSE * self.quiet
        if kind == "jumps":
            steps = 10 ** (np.array([0, -20, 0, 10]) / 20)
            return both * np.repeat(steps, -(-len(both) // 4))[: len(both)], np.zeros_like(self.quiet, int)
        return np.clip(both * 30, -1, 1), np.zeros_like(self.quiet, int)

    def _tone(self, rng: np.random.Generator) -> np.ndarray:
        """Half a second on, half a second off: a busy tone or a key."""
        t = np.arange(len(self.noise)) / self.rate
        pair = ((425.0, 425.0), (697.0, 1209.0), (941.0, 1477.0), (350.0, 440.0))[rng.integers(4)]
        return sum(0.1 * np.sin(2 * np.pi * f * t) for f in pair) * (t % 1 < 0.5)


def scenes(material: Material, rows: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """One period: (audio float32 [rows, samples], labels [rows, frames]) a scene; the same at every call."""
    calls = [np.random.default_rng([17, row]) for row in range(rows)]
    for number, kind in enumerate(SCENES):
        parts = [material.scene(kind, rng) for rng in calls]
        audio = np.clip(np.stack([audio for audio, _ in parts]), -1, 1).astype(np.float32)
        labels = np.stack([labels for _, labels in parts])
        yield audio, labels if number else np.zeros_like(labels)


class Stream:
    """The graph with the state of `rows` calls."""

    def __init__(self, path: Path, rows: int) -> None:
        self.card = read_card(path)
        self.session = onnxruntime.InferenceSession(str(path), session_options(), providers=["CPUExecutionProvider"])
        self.state = np.zeros((rows, self.card.state), np.float32)
        self.control = np.tile(np.array([[0.0, 1.0]], np.float32), (rows, 1))
        self.lag = -(-self.card.delay // self.card.hop)
        self.busy_s = 0.0

    def play(self, audio: np.ndarray) -> np.ndarray:
        """float32 [rows, samples] -> the same, `lag` frames late."""
        frames = audio.reshape(len(audio), -1, self.card.hop)
        out, names = np.empty_like(frames), ("pcm_out", "state_out")
        start = time.perf_counter()
        for i in range(frames.shape[1]):
            feed = {"pcm": np.ascontiguousarray(frames[:, i]), "state": self.state, "control": self.control}
            out[:, i], self.state = self.session.run(names, feed)
        self.busy_s += time.perf_counter() - start
        return out.reshape(audio.shape)

    def period(self, material: Material, minute: float) -> Period:
        """Plays one period, which ends at `minute`, and sums it up."""
        rows, lag, changes, levels, frames = len(self.state), self.lag, [], [], 0
        odd, denormal, self.busy_s = 0, 0, 0.0
        for audio, labels in scenes(material, rows):
            out = self.play(audio)
            before, after, known = frame_db(audio, self.card.hop), frame_db(out, self.card.hop), labels[:, :-lag]
            changes.append((after[:, lag:] - before[:, :-lag])[known == PAUSE])
            levels.append(speech_levels(audio, out, known, lag, self.card.hop))
            frames += labels.shape[1]
            odd += int(np.sum(~np.isfinite(out)) + np.sum(~np.isfinite(self.state)))
            denormal += sum(int(np.sum((np.abs(x) < SMALLEST_NORMAL) & (x != 0))) for x in (out, self.state))
        heard, said = np.sum(levels, axis=0)
        return Period(
            minute=minute,
            noise_reduction_db=-float(np.concatenate(changes).mean()),
            speech_gain_db=float(10 * np.log10(heard / said)),
            state_rms=float(np.sqrt(np.square(self.state).mean())),
            state_peak=float(np.abs(self.state).max()),
            not_finite=odd,
            denormal=denormal,
            us_per_frame=self.busy_s * 1e6 / (frames * rows),
        )


def frame_db(audio: np.ndarray, hop: int) -> np.ndarray:
    """Level of each frame relative to full scale, -90 at least. float32 [rows, samples] -> [rows, frames]."""
    power = np.square(audio, dtype=np.float64).reshape(len(audio), -1, hop).mean(axis=2)
    return 10 * np.log10(power + 1e-9)


def speech_levels(audio: np.ndarray, out: np.ndarray, known: np.ndarray, lag: int, hop: int) -> tuple[float, float]:
    """(energy after, energy before) of the frames of clean speech."""
    power = [np.square(x, dtype=np.float64).reshape(len(x), -1, hop).mean(axis=2) for x in (out, audio)]
    speech = known == SPEECH
    return float(power[0][:, lag:][speech].sum()), float(power[1][:, :-lag][speech].sum())


def faults(periods: list[Period]) -> list[str]:
    """What is wrong with three periods or more, in words; empty when nothing wandered."""
    settled, last, found = periods[1], periods[-1], []
    for name in ("noise_reduction_db", "speech_gain_db"):
        change = getattr(last, name) - getattr(settled, name)
        if not abs(change) <= MOST_DRIFT_DB:
            found.append(f"{name} moved by {change:+.2f} dB, more than {MOST_DRIFT_DB}")
    if not last.state_peak <= settled.state_peak * MOST_GROWTH:
        found.append(f"the state grew from {settled.state_peak:.3g} to {last.state_peak:.3g}")
    if odd := sum(p.not_finite for p in periods):
        found.append(f"{odd} values were not finite")
    return found


def table(periods: list[Period]) -> str:
    """Markdown."""
    lines = [
        "| after, min | noise in pauses falls by, dB | clean speech changes by, dB | state: RMS | peak "
        "| not finite | denormal | µs a frame |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {p.minute:g} | {p.noise_reduction_db:.3f} | {p.speech_gain_db:+.3f} | {p.state_rms:.3f} "
        f"| {p.state_peak:.2f} | {p.not_finite} | {p.denormal} | {p.us_per_frame:.1f} |"
        for p in periods
    ]
    return "\n".join(lines)


def follow(path: Path, minutes: float, rows: int, scene_s: float = 15.0) -> list[Period]:
    """Plays `rows` calls: whole periods of 20 scenes, at least three. Raises ConfigError for a bad graph or card."""
    stream = Stream(path, rows)
    material, length = Material(stream.card.rate, scene_s), scene_s * len(SCENES) / 60
    count = max(3, round(minutes / length))
    return [stream.period(material, length * (i + 1)) for i in tqdm(range(count), "periods", mininterval=5)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="standard", help="name of a graph in this folder, without rate")
    parser.add_argument("--rate", type=int, choices=(8000, 16000), default=8000)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rows", type=int, default=16, help="calls at a time, each with a script of its own")
    args = parser.parse_args()
    try:
        periods = follow(FOLDER / f"{args.model}_{args.rate // 1000}k.onnx", args.minutes, args.rows)
    except ConfigError as error:
        parser.error(str(error))
    print(table(periods))
    found = faults(periods)
    print("\n".join(found) or "The last period is like the second.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
