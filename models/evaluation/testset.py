"""The test clips of both rates: unseen voices in unseen noise, through the codecs of telephony. The same at every run.

`build(rate)` makes them from the recordings of `heldout.py` and keeps them on disk as 16-bit samples; every later run,
and every worker process, opens that file. A clip's `digest` covers its samples, so that a figure stays with its clip.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np
from scipy.signal import fftconvolve, resample_poly
from tqdm import tqdm

from models.evaluation import noises
from models.files import replacing
from models.heldout import PROMPTS, RATE, Recordings
from models.sound import codecs

VERSION = 1
"""Raised when the clips change on purpose."""
SECONDS = 10
SPEECH_DBFS = -26.0
"""Active level of speech, the nominal level of a telephone line (ITU-T P.830)."""
SNRS_DB = (0, 5, 10, 15, 20)
TAKES = 2
CLEAN_CLIPS = 8
CONDITIONS = ("reverberation", "packet loss", "clipping", "low level", "high level", "tandem")
CONDITION_CLIPS = 3
VOICES = {8000: ("fr", "it", "menardi", "nl"), 16000: ("fr", "it", "nl")}
PREFIXES = {**{voice: folder for voice, (folder, _) in PROMPTS.items()}, "nl": "speech/nathalie"}
LINES = {8000: ("G.711 A-law", "G.711 µ-law"), 16000: ("G.722", "Opus 24 kbit/s")}
Rng = np.random.Generator


@dataclass(frozen=True, slots=True)
class Clip:
    """What a clip is. snr_db: None without noise. part: noisy, clean, conditions, words, music or tones.

    turn: 0 for the clips of a quick run, 1 for those measured next, 2 for the rest, so that a part covers everything.
    """

    id: str
    part: str
    noise: str
    snr_db: int | None
    voice: str
    line: str
    condition: str
    turn: int
    digest: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class ClipSet:
    """clean, noisy: one int16 [samples] a clip; clean is what an ideal suppressor would give."""

    rate: int
    clips: list[Clip]
    clean: list[np.ndarray]
    noisy: list[np.ndarray]

    def part(self, *names: str) -> list[int]:
        """Positions of the clips of these parts."""
        return [i for i, clip in enumerate(self.clips) if clip.part in names]


def to_float(pcm: np.ndarray) -> np.ndarray:
    return pcm.astype(np.float32) / 32768


def to_int16(x: np.ndarray) -> np.ndarray:
    return np.round(np.clip(x, -1, 1) * 32767).astype(np.int16)


def at_rate(x: np.ndarray, rate: int) -> np.ndarray:
    return x if rate == RATE else resample_poly(x, 1, RATE // rate).astype(np.float32)


def active_rms(x: np.ndarray, rate: int) -> float:
    """Level of the loud parts: RMS of the 20 ms frames within 25 dB of the 95th percentile's."""
    frame = rate // 50
    power = np.square(x[: len(x) // frame * frame], dtype=np.float64).reshape(-1, frame).mean(axis=1)
    return float(np.sqrt(power[power >= np.quantile(power, 0.95) / 316].mean() + 1e-12))


def leveled(x: np.ndarray, dbfs: float, rate: int) -> np.ndarray:
    return (x * 10 ** (dbfs / 20) / active_rms(x, rate)).astype(np.float32)


def faded(x: np.ndarray) -> np.ndarray:
    out, ramp = x.copy(), np.linspace(0, 1, RATE // 200, dtype=np.float32)
    out[: len(ramp)] *= ramp
    out[-len(ramp) :] *= ramp[::-1]
    return out


def quiet(clean: np.ndarray, rate: int) -> np.ndarray:
    """bool [samples]: no speech within 200 ms. The first half second, when all systems still learn, does not count."""
    loud = np.abs(clean) > 10 ** (-55 / 20)
    near = np.convolve(loud, np.ones(rate * 2 // 5), "same") > 0.5
    near[: rate // 2] = True
    return ~near


def utterances(recordings: Recordings, voice: str, rng: Rng) -> np.ndarray:
    """SECONDS of sentences of one voice, after 1.5 s of silence and with 1.2 s between them; float32 at RATE."""
    names, parts = recordings.names(PREFIXES[voice]), [np.zeros(RATE * 3 // 10, np.float32)]
    while sum(map(len, parts)) < SECONDS * RATE:
        speech = recordings.samples(names[rng.integers(len(names))])
        if len(speech) > 5 * RATE:
            start = int(rng.integers(len(speech) - 4 * RATE))
            speech = speech[start : start + 4 * RATE]
        parts += [np.zeros(RATE * 6 // 5, np.float32), faded(speech / np.float32(active_rms(speech, RATE)))]
    return np.concatenate(parts)[: SECONDS * RATE]


def through(x: np.ndarray, line: str) -> np.ndarray:
    """x after a codec round trip, aligned with it. float32 at the line's rate."""
    x = np.clip(x, -1, 1).astype(np.float32)
    if line.startswith("G.711"):
        return codecs.g711(x, "mu" if "µ" in line else "a")
    if line == "GSM":
        return codecs.gsm(x)
    if line == "G.722":
        return codecs.round_trip(x, codecs.CODECS["g722"], 0)
    return codecs.round_trip(x, codecs.CODECS["opus_16k"], 24000)


def tandem(x: np.ndarray, rate: int) -> np.ndarray:
    """G.711 and GSM full rate one after the other; at 16 kHz Opus and then G.722."""
    for line in ("G.711 A-law", "GSM", "G.711 A-law") if rate == 8000 else ("Opus 24 kbit/s", "G.722"):
        x = through(x, line)
    return x


def concealed(x: np.ndarray, rate: int, rng: Rng) -> np.ndarray:
    """5 % of 20 ms packets are lost; each is filled with the packet before at half its level."""
    out, packet = x.copy(), rate // 50
    for i in np.flatnonzero(rng.random(len(x) // packet) < 0.05):
        if i > 0:
            out[i * packet : (i + 1) * packet] = out[(i - 1) * packet : i * packet] * 0.5
    return out


def room(rng: Rng, rate: int) -> tuple[np.ndarray, np.ndarray]:
    """A room's impulse response (0.3 to 0.6 s), and its first 50 ms alone, which serve understanding (ISO 3382)."""
    seconds, t = rng.uniform(0.3, 0.6), np.arange(int(rate * 0.6)) / rate
    tail = rng.standard_normal(len(t)) * np.exp(-6.9 * t / seconds)
    tail *= 10 ** (rng.uniform(-4, 0) / 20) / np.sqrt(np.square(tail).sum())
    tail[0] = 1.0
    return tail, np.where(t < 0.05, tail, 0)


def mixed(speech: np.ndarray, noise: np.ndarray | None, snr_db: int | None, dbfs: float, rate: int) -> np.ndarray:
    """speech at `dbfs` with noise (RMS one) under its active level."""
    speech = leveled(speech, dbfs, rate)
    if noise is None or snr_db is None:
        return speech
    return (speech + noise * 10 ** ((dbfs - snr_db) / 20) / np.sqrt(np.mean(np.square(noise)))).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Builder:
    """Makes the clips of one rate. Each clip has its own random numbers, so none moves another."""

    recordings: Recordings
    rate: int

    def rng(self, *key: int) -> Rng:
        return np.random.default_rng([VERSION, self.rate, *key])

    def clip(
        self, plan: Clip, source: int, rng: Rng, speech: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(clean, noisy), float32 at the clip's rate."""
        speech = utterances(self.recordings, plan.voice, rng) if speech is None else speech
        noise = None
        if plan.snr_db is not None:
            noise = at_rate(noises.noise(plan.noise, source, rng, self.recordings, len(speech) / RATE), self.rate)
        speech = at_rate(speech, self.rate)
        if plan.condition == "reverberation":
            whole, early = room(rng, self.rate)
            speech, heard = (fftconvolve(speech, response)[: len(speech)] for response in (early, whole))
        else:
            heard = speech
        dbfs = {"low level": -38.0, "high level": -14.0}.get(plan.condition, SPEECH_DBFS)
        gain = 10 ** (dbfs / 20) / active_rms(heard, self.rate)
        mixture, clean = mixed(heard, noise, plan.snr_db, dbfs, self.rate), (speech * gain).astype(np.float32)
        noisy = self.line(mixture, plan, rng)
        return (noisy, noisy) if plan.part == "clean" else (clean, noisy)

    def line(self, mixture: np.ndarray, plan: Clip, rng: Rng) -> np.ndarray:
        if plan.condition == "clipping":
            top = np.quantile(np.abs(mixture), 0.99)
            mixture = np.clip(mixture, -top, top)
        noisy = tandem(mixture, self.rate) if plan.line == "tandem" else through(mixture, plan.line)
        return concealed(noisy, self.rate, rng) if plan.condition == "packet loss" else noisy


def plans(rate: int) -> Iterator[tuple[Clip, int, tuple[int, ...]]]:
    """Every clip of speech: (what it is, number of its source in the class, the key of its random numbers)."""
    voices, lines, kinds = VOICES[rate], LINES[rate], list(noises.CLASSES)
    for k, kind in enumerate(kinds):
        for s, snr in enumerate(SNRS_DB):
            for take in range(TAKES):
                voice, line = voices[(k + s + 2 * take) % len(voices)], lines[(k + s + take) % 2]
                turn = 1 + take - (take == 0 and s in (k % 5, (k + 2) % 5))
                name = f"{kind}-{snr:02}dB-{take + 1}-{voice}-{short(line)}"
                yield Clip(name, "noisy", kind, snr, voice, line, "", turn), 2 * s + take, (0, k, s, take)
    for i in range(CLEAN_CLIPS):
        voice, line = voices[i % len(voices)], lines[(i // len(voices) + i) % 2]
        yield (
            Clip(f"clean-{i + 1}-{voice}-{short(line)}", "clean", "", None, voice, line, "", min(i // 2, 2)),
            0,
            (1, i),
        )
    for c, condition in enumerate(CONDITIONS):
        for i in range(CONDITION_CLIPS):
            kind, voice = kinds[(3 * c + 2 * i) % len(kinds)], voices[(c + i) % len(voices)]
            line = "tandem" if condition == "tandem" else lines[i % 2]
            name = f"{condition.replace(' ', '-')}-{i + 1}-{kind}-10dB-{voice}-{short(line)}"
            yield Clip(name, "conditions", kind, 10, voice, line, condition, min(i + 1, 2)), i, (2, c, i)


def short(line: str) -> str:
    return line.split(" ")[0].replace(".", "").lower() + {"A-law": "a", "µ-law": "u"}.get(line.split(" ")[-1], "")


def music_and_tones(recordings: Recordings, rate: int) -> Iterator[tuple[Clip, np.ndarray]]:
    """Held-out hold music and synthetic tones, 10 s each, float32 at `rate`, through the line."""
    for i in range(6):
        rng, name = np.random.default_rng([VERSION, 8, i]), recordings.names("music/")[i % 2]
        sound = at_rate(recordings.stretch(name, rng, SECONDS), rate)
        line = LINES[rate][i % 2]
        yield (
            Clip(f"music-{i + 1}", "music", "", None, "", line, "", min(i // 2, 1)),
            through(leveled(sound, -22, rate), line),
        )
    t = np.arange(SECONDS * rate) / rate
    for i, (pair, on, off) in enumerate(TONES):
        wave = sum(np.sin(2 * np.pi * hz * t) for hz in pair) * ((t % (on + off)) < on) * (t > 0.5)
        line = LINES[rate][i % 2]
        tone = through(leveled(wave.astype(np.float32), -18, rate), line)
        yield Clip(f"tones-{i + 1}", "tones", "", None, "", line, "", min(i // 2, 1)), tone


TONES = (
    ((697.0, 1209.0), 0.1, 0.1), ((941.0, 1477.0), 0.07, 0.07), ((852.0, 1336.0), 1.5, 0.2), ((425.0,), 1.0, 4.0),
    ((350.0, 440.0), 10.0, 0.1), ((480.0, 620.0), 0.5, 0.5), ((1100.0,), 0.5, 3.0), ((2100.0,), 3.3, 0.1),
)  # fmt: skip
"""DTMF, ringing, dial, busy, fax calling and answering tones: hertz, seconds on and off. ITU-T Q.23, E.180, T.30."""


def pairs(recordings: Recordings, rate: int, turns: int) -> Iterator[tuple[Clip, np.ndarray, np.ndarray]]:
    """Every clip of the first turns with its (clean, noisy)."""
    from models.evaluation import wer

    builder = Builder(recordings, rate)
    for plan, source, key in plans(rate):
        if plan.turn < turns:
            yield plan, *builder.clip(plan, source, builder.rng(*key))
    for plan, source, key, passage in wer.plans(rate):
        if plan.turn < turns:
            yield plan, *builder.clip(plan, source, builder.rng(*key), wer.speech(recordings, passage))
    for clip, sound in music_and_tones(recordings, rate):
        if clip.turn < turns:
            yield clip, sound, sound


def digest(clean: np.ndarray, noisy: np.ndarray) -> str:
    return hashlib.sha256(clean.tobytes() + noisy.tobytes()).hexdigest()[:16]


def build(data: Path, rate: int, path: Path, turns: int = 3) -> ClipSet:
    """Makes the test set of a rate, or opens it where `path` already holds it. Raises heldout.HeldOutError.

    turns: only clips of a `turn` below it, so that a quick run need not make the others.
    """
    recordings = Recordings(data)
    made_of = hashlib.sha256(json.dumps([VERSION, turns, recordings.files]).encode()).hexdigest()
    if path.exists() and (found := read(path)) is not None and found[0] == made_of:
        return found[1]
    clips, clean, noisy = [], [], []
    for plan, wanted, heard in tqdm(
        pairs(recordings, rate, turns), desc=f"test clips, {rate} Hz", unit="clip", disable=None
    ):
        wanted, heard = to_int16(wanted), to_int16(heard)
        clips.append(Clip(**{**asdict(plan), "digest": digest(wanted, heard)}))
        clean.append(wanted)
        noisy.append(heard)
    path.parent.mkdir(parents=True, exist_ok=True)
    about = json.dumps({"made_of": made_of, "rate": rate, "clips": [asdict(c) for c in clips]})
    sizes = np.array([len(x) for x in clean])
    with replacing(path) as part, part.open("wb") as file:
        np.savez(file, about=np.array(about), sizes=sizes, clean=np.concatenate(clean), noisy=np.concatenate(noisy))
    return ClipSet(rate, clips, clean, noisy)


@cache
def read(path: Path) -> tuple[str, ClipSet] | None:
    """(what it was made of, the test set) of a file that `build` wrote."""
    with np.load(path) as file:
        about, ends = json.loads(str(file["about"])), np.cumsum(file["sizes"])[:-1]
        clean, noisy = np.split(file["clean"], ends), np.split(file["noisy"], ends)
    clips = [Clip(**c) for c in about["clips"]]
    return about["made_of"], ClipSet(about["rate"], clips, clean, noisy)
