"""Measures the music detector on recordings and voices that its training never heard.

Clips of 24 s at 8 kHz, through G.711, at three levels, go through `gateway/detect/music.py` as calls would, in packets
of 20 ms. Each kind of clip is one row of the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from gateway.detect.music import Music
from gateway.detect.sines import CHUNK, HOP, RATE
from gateway.detect.sound import Sound
from models.evaluation import noises
from models.evaluation.testset import active_rms, at_rate, leveled
from models.heldout import Recordings
from models.sound import codecs
from models.sound.musicset import Songs

Rng = np.random.Generator
SECONDS, ONSET_S = 24, 4
FRAMES_S = 100
LEVELS_DBFS = (-38.0, -26.0, -16.0)
"""Active level of the loudest part."""
VOICES = ("asterisk/fr", "asterisk/it_IT_m", "asterisk/it_IT_f", "speech/nathalie", "english/")
INSTRUMENTAL_S, VOCAL_S = 1.0, 2.0
"""Time after its onset by which music of a kind is to be recognised."""


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured of one kind of clip."""

    kind: str
    minutes: float
    right: float
    """Share of the frames that count whose verdict is right."""
    on_s: tuple[float, float] | None
    """Median and 95th percentile of the time to the verdict music; None where there is no music."""
    longest_s: float
    """Longest run of wrong verdicts."""
    trial_s: tuple[float, float] | None
    """Median and 95th percentile of the time for which the beginning of what is no music may be music."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Makes the clips of a kind: each (pcm float32 [samples], music from frame .. or None, first frame that counts)."""

    recordings: Recordings
    songs: Songs

    def clips(self, kind: str, count: int) -> Iterator[tuple[np.ndarray, int | None, int]]:
        make, music, grace_s = KINDS[kind]
        for i in range(count):
            rng = np.random.default_rng([7, list(KINDS).index(kind), i])
            sound = make(self, rng, i)
            sound = leveled(sound, LEVELS_DBFS[i % len(LEVELS_DBFS)], RATE)
            if music:
                sound[: ONSET_S * RATE] = rng.normal(0, 10 ** (-58 / 20), ONSET_S * RATE)
            pcm = codecs.g711(np.clip(sound, -1, 1), "mu" if i % 2 else "a")
            yield pcm, ONSET_S * FRAMES_S if music else None, int((ONSET_S + grace_s) * FRAMES_S) if music else 0

    def song(self, rng: Rng, i: int) -> np.ndarray:
        """A stretch of the i-th track, level one."""
        one = Songs([self.songs.tracks[i % len(self.songs.tracks)]], self.songs.voices)
        return unit(at_rate(one.stretch(rng, SECONDS * 2 * RATE), RATE))

    def singing(self, rng: Rng, i: int) -> np.ndarray:
        one = Songs(self.songs.tracks, [self.songs.voices[i % len(self.songs.voices)]])
        return unit(at_rate(one.sung(rng, SECONDS * 2 * RATE), RATE))

    def vocal(self, rng: Rng, i: int) -> np.ndarray:
        return self.song(rng, i) + self.singing(rng, i) * gain(rng.uniform(0, 6))

    def talk(self, rng: Rng, i: int) -> np.ndarray:
        """Sentences of one voice with short pauses, level one."""
        names, parts = self.recordings.names(VOICES[i % len(VOICES)]), []
        while sum(map(len, parts)) < SECONDS * 2 * RATE:
            part = self.recordings.samples(names[rng.integers(len(names))])
            at = int(rng.integers(max(1, len(part) - 10 * RATE)))
            parts += [part[at : at + 10 * RATE] / np.float32(active_rms(part, 2 * RATE)), np.zeros(RATE)]
        return unit(at_rate(np.concatenate(parts)[: SECONDS * 2 * RATE].astype(np.float32), RATE))

    def noise(self, rng: Rng, i: int, kinds: tuple[str, ...] = tuple(noises.CLASSES)) -> np.ndarray:
        made = noises.noise(kinds[i % len(kinds)], i // len(kinds), rng, self.recordings, SECONDS)
        return unit(at_rate(made, RATE))

    def announcement(self, rng: Rng, i: int) -> np.ndarray:
        return self.talk(rng, i) + self.song(rng, i) * gain(rng.uniform(-10, 0))

    def noisy(self, rng: Rng, i: int) -> np.ndarray:
        return self.talk(rng, i) + self.noise(rng, i) * gain(-rng.choice([0, 5, 10, 20]))

    def in_a_cafe(self, rng: Rng, i: int) -> np.ndarray:
        """Speech over a café that plays music 6 dB below its own noise."""
        cafe = self.noise(rng, i, ("café", "babble")) + self.song(rng, i) * gain(-6)
        return self.talk(rng, i) + unit(cafe) * gain(-rng.choice([5, 10, 15]))

    def over_music(self, rng: Rng, i: int) -> np.ndarray:
        return self.talk(rng, i) + self.song(rng, i) * gain(-rng.uniform(15, 25))

    def song_in_noise(self, rng: Rng, i: int) -> np.ndarray:
        return self.song(rng, i) + self.noise(rng, i) * gain(-15)


KINDS: dict[str, tuple[Callable[[Stage, Rng, int], np.ndarray], bool, float]] = {
    "instrumental": (Stage.song, True, INSTRUMENTAL_S),
    "instrumental, noise 15 dB below": (Stage.song_in_noise, True, INSTRUMENTAL_S),
    "vocal": (Stage.vocal, True, VOCAL_S),
    "singing alone": (Stage.singing, True, VOCAL_S),
    "announcement over music": (Stage.announcement, True, VOCAL_S),
    "speech": (Stage.talk, False, 0),
    "speech in noise": (Stage.noisy, False, 0),
    "speech in a café with music": (Stage.in_a_cafe, False, 0),
    "speech, music 15 to 25 dB below": (Stage.over_music, False, 0),
    "noise": (Stage.noise, False, 0),
}
"""Kind -> how its clips are made, whether they are music, and seconds after the onset that do not count."""


def gain(db: float) -> np.float32:
    return np.float32(10 ** (db / 20))


def unit(x: np.ndarray) -> np.ndarray:
    return (x / max(active_rms(x, RATE), 1e-5)).astype(np.float32)


def heard(clips: list[np.ndarray], detector: Music) -> tuple[np.ndarray, np.ndarray]:
    """bool [clips, frames] each: the verdicts on clips of one length, sent as packets of 20 ms, and whether they may be
    the beginning of music."""
    pcm, slots, sound = np.stack(clips), np.arange(len(clips)), Sound(len(clips))
    verdicts, trials = [], []
    for at in range(0, pcm.shape[1] - CHUNK + 1, CHUNK):
        sound.add(slots, pcm[:, at : at + CHUNK])
        verdicts.append(detector.hear(slots, sound))
        trials.append(detector.maybe[slots])
    return tuple(np.repeat(np.stack(each, axis=1), CHUNK // HOP, axis=1) for each in (verdicts, trials))


def row(kind: str, verdicts: np.ndarray, trials: np.ndarray, onset: int | None, first: int) -> Row:
    """verdicts, trials: bool [clips, frames]."""
    wrong = verdicts if onset is None else ~verdicts
    on_s = trial_s = None
    if onset is None:
        trial_s = quantiles_s(trials.sum(axis=1))
    else:
        late = np.where(verdicts[:, onset:].any(axis=1), verdicts[:, onset:].argmax(axis=1), SECONDS * FRAMES_S)
        on_s = quantiles_s(late)
    counted = wrong[:, first:]
    minutes = counted.size / FRAMES_S / 60
    return Row(kind, minutes, 1 - float(counted.mean()), on_s, longest(counted) / FRAMES_S, trial_s)


def quantiles_s(frames: np.ndarray) -> tuple[float, float]:
    """Median and 95th percentile in seconds."""
    median_s, most_s = np.quantile(frames / FRAMES_S, (0.5, 0.95)).tolist()
    return median_s, most_s


def longest(wrong: np.ndarray) -> int:
    """Longest run of True in a row of bool [clips, frames]."""
    runs = np.zeros(len(wrong), np.int64)
    most = 0
    for column in wrong.T:
        runs = (runs + 1) * column
        most = max(most, int(runs.max()))
    return most


def measure(stage: Stage, count: int, make: Callable[[int], Music] = Music) -> Iterator[Row]:
    """One row a kind, of `count` clips each."""
    for kind in KINDS:
        clips, onsets, firsts = zip(*stage.clips(kind, count), strict=True)
        yield row(kind, *heard(list(clips), make(count)), onsets[0], firsts[0])


def table(rows: list[Row]) -> str:
    """Markdown."""
    columns = ("heard", "minutes", "frames right", "to on, median", "to on, 95 %", "longest wrong run",
               "on trial, median", "on trial, 95 %")  # fmt: skip
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for r in rows:
        on, trial = (("–", "–") if each is None else tuple(f"{s:.2f} s" for s in each) for each in (r.on_s, r.trial_s))
        cells = (r.kind, f"{r.minutes:.0f}", f"{r.right:.2%}", *on, f"{r.longest_s:.1f} s", *trial)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
