"""Scenes for the detector of music to learn from: speech, music, singing and noise that come and go on a telephone leg.

Every block of a scene is music, is not, or does not count (`verdicts`). The features are made by the detector's own
code.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from tqdm import tqdm

from gateway.detect import music as detector
from gateway.detect.music import BLOCK, FEATURES, Features
from gateway.detect.sines import HOP, RATE
from models.data import Pools
from models.sound import augment, codecs, synthesis, tones
from models.sound.augment import Rng, from_db
from models.sound.musicset import Songs
from models.sound.sources import Sources

SECONDS = 20
SIZE = SECONDS * RATE // BLOCK * BLOCK
KINDS = {
    "speech": 0.075, "noisy speech": 0.097, "rough speech": 0.088, "one word": 0.045, "speech over music": 0.057,
    "café": 0.066, "noise": 0.088, "music": 0.088, "vocal": 0.053, "announcement": 0.053, "on hold": 0.17,
    "after a tone": 0.12,
}  # fmt: skip
"""What scenes are, and how often."""
BESIDE_DB = {"speech over music": (-32, -15), "announcement": (-9, 6), "café": (-14, -5)}
"""Level of music beside speech, or in a café beside its noise; lowest, highest."""
ABOVE_SPEECH_DB, BELOW_SPEECH_DB = -10.0, -15.0
"""Music at least the first beside speech is to be kept; at most the second, it is background. Between, it does not
count."""
ABOVE_NOISE_DB, BELOW_NOISE_DB = 2.0, -5.0
"""The same beside noise."""
HUMS, HUM_DB = 0.15, {"noise": (-25, 5), "noisy speech": (-32, -3), "speech": (-40, -10)}
"""How often something electric sounds under a scene, and its level beside what else there is; `HUM_BELOW_DB` where a
kind is not named."""
HUM_BELOW_DB = (-45, -20)
SILENT_DB = -60.0
"""A track below this is not there. A call-progress tone that is there is for other detectors to know: its blocks do not
count."""
HELD_BLOCKS = 6
"""A pause of speech or noise shorter than this (2 s) does not make background music music."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What a leg carries, float32 [SIZE] at RATE, and what every block of it is."""

    pcm: np.ndarray
    music: np.ndarray
    """float32 [blocks]: 1 music, 0 none."""
    weight: np.ndarray
    """float32 [blocks]: how much a block counts."""


@dataclass(frozen=True, slots=True)
class Director:
    """Mixes scenes of recordings for training."""

    pools: Pools
    songs: Songs
    rough: Sequence[np.ndarray] = ()
    """Volunteers as they were recorded, int16 at `models.files.RATE`."""

    def scene(self, rng: Rng, kind: str) -> Scene:
        """One scene. The three tracks lie at their levels beside each other before the whole is set to its level."""
        sources = Sources(self.pools, RATE, SIZE)
        speech = music = noise = tone = np.zeros(SIZE, np.float32)
        if kind == "rough speech" and self.rough:
            speech = self.volunteers(rng, sources)
        elif kind not in ("noise", "music", "vocal"):
            speech = sources.speech(rng)[1]
        if kind == "one word":
            speech = again_and_again(rng, speech)
        if kind in ("speech over music", "café", "music", "vocal", "announcement", "on hold", "after a tone"):
            music = self.music(rng, sources, kind)
        noise = self.noise(rng, sources, kind)
        if rng.random() < HUMS:
            noise = noise + electric(rng) * from_db(rng.uniform(*HUM_DB.get(kind, HUM_BELOW_DB)))
        beside_db = {name: rng.uniform(*span) for name, span in BESIDE_DB.items()}.get(kind, 0.0)
        music = music * (from_db(beside_db) * np.float32(augment.rms(noise) if kind == "café" else 1.0))
        speech, music = self.entrances(rng, kind, speech, music)
        if kind == "after a tone":
            tone, speech, music = self.after_a_tone(rng, speech, music)
        gain = from_db(rng.uniform(-42, -14))
        speech, music, noise, tone = speech * gain, music * gain, noise * gain, tone * gain
        truth, weight = verdicts(levels(speech), levels(music), levels(noise))
        weight = weight * (levels(tone) < SILENT_DB)
        return Scene(line(rng, speech + music + noise + tone), truth, weight)

    def after_a_tone(self, rng: Rng, speech: np.ndarray, music: np.ndarray) -> tuple[np.ndarray, ...]:
        """(tone, speech, music): ring-back or another tone until somebody answers, or music does."""
        tone = synthesis.unit(tones.progress(rng, SIZE, RATE)) * from_db(rng.uniform(-10, 10))
        before = gate(rng, rng.uniform(0.1, 0.6), True)
        answers = rng.random() < 0.7
        return tone * before, speech * (0 if answers else 1 - before), music * (1 - before if answers else 0)

    def volunteers(self, rng: Rng, sources: Sources) -> np.ndarray:
        """Phrases in the rooms and through the microphones of those who spoke them."""
        take, rough = sources.take(rng, (0.85, 0.92, 1.0, 1.0, 1.08, 1.17)), self.rough[rng.integers(len(self.rough))]
        at = int(rng.integers(max(1, len(rough) - take)))
        raw = np.resize(rough[at : at + take], take).astype(np.float32) / np.float32(32768)
        return sources.through_a_line(rng, raw, "flat", rng.random() < 0.5)

    def music(self, rng: Rng, sources: Sources, kind: str) -> np.ndarray:
        take = sources.take(rng, (0.95, 1.0, 1.0, 1.0, 1.05))
        raw = self.songs.stretch(rng, take)
        if kind == "vocal":
            voice = self.songs.sung(rng, take)
            raw = raw / augment.rms(raw) if rng.random() < 0.85 else raw * 0
            raw = raw + voice / augment.rms(voice) * from_db(rng.uniform(-3, 6))
        return sources.through_a_line(rng, raw, "flat", rng.random() < 0.7)

    def noise(self, rng: Rng, sources: Sources, kind: str) -> np.ndarray:
        """Noise at its level beside speech or music of level one."""
        if kind == "noise":
            return sources.noise(rng)
        noisy = kind == "noisy speech" or (kind == "rough speech" and not self.rough)
        if noisy or (kind == "on hold" and rng.random() < 0.5):
            return sources.noise(rng) * from_db(-rng.triangular(-5, 8, 25))
        if kind == "café":
            return synthesis.unit(sources.babble(rng, 6) + sources.noise(rng)) * from_db(-rng.uniform(3, 18))
        if rng.random() < 0.5:
            return sources.noise(rng) * from_db(-rng.uniform(12, 40))
        return np.zeros(SIZE, np.float32)

    def entrances(self, rng: Rng, kind: str, speech: np.ndarray, music: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """When the tracks are to be heard: music begins or ends in the midst, or speech takes turns with it."""
        if kind == "on hold":
            first = gate(rng, rng.uniform(0.2, 0.8), rng.random() < 0.5)
            return speech * first, music * (1 - first)
        if kind in ("music", "vocal") and rng.random() < 0.6:
            music = music * gate(rng, rng.uniform(0.05, 0.6), False)
        if kind == "announcement" and rng.random() < 0.5:
            speech = speech * gate(rng, rng.uniform(0.1, 0.7), rng.random() < 0.5)
        return speech, music


def again_and_again(rng: Rng, speech: np.ndarray) -> np.ndarray:
    """The same word all the time, as in "no, no, no"; each time a little different in speed and loudness."""
    length, at = int(rng.uniform(0.2, 1.0) * RATE), int(np.square(speech).argmax())
    word = speech[max(at - length // 2, 0) :][:length]
    word = word * np.minimum(1, np.minimum(np.arange(len(word)), np.arange(len(word))[::-1]) / (0.02 * RATE))
    out, at, pause = np.zeros_like(speech), 0, rng.uniform(0.05, 0.6) * RATE
    while at < len(out):
        size = int(len(word) * rng.uniform(0.9, 1.1))
        said = np.interp(np.linspace(0, len(word) - 1, size), np.arange(len(word)), word) * rng.uniform(0.6, 1.0)
        out[at : at + size] = said[: len(out) - at]
        at += size + int(pause * rng.uniform(0.6, 1.4))
    return out


def electric(rng: Rng) -> np.ndarray:
    """Stands still for ever, as no music does: mains hum or a motor, sometimes a whine; level one."""
    hum = synthesis.unit(synthesis.hum(rng, SIZE, RATE))
    if rng.random() < 0.3:
        whine = np.full(SIZE, np.exp(rng.uniform(np.log(200), np.log(3400))))
        hum = hum + synthesis.periodic(rng, whine, np.ones(1), RATE) * from_db(rng.uniform(-20, 6))
    return synthesis.unit(hum)


def gate(rng: Rng, share: float, ends: bool) -> np.ndarray:
    """float32 [SIZE]: 0 until that share of a scene, then 1; or the other way round."""
    ramp = np.clip((np.arange(SIZE) - share * SIZE) / (RATE * rng.uniform(0.005, 0.2)), 0, 1).astype(np.float32)
    return 1 - ramp if ends else ramp


def line(rng: Rng, x: np.ndarray) -> np.ndarray:
    """The damage of converters, codecs and networks."""
    x = np.clip(x, -1, 1).astype(np.float32)
    if rng.random() < 0.04:
        x = codecs.gsm(x)
    elif rng.random() < 0.04:
        codec = codecs.CODECS[str(rng.choice(["amr", "opus_8k"]))]
        x = codecs.round_trip(x, codec, int(rng.choice(codec.bit_rates)))
    if rng.random() < 0.8:
        x = codecs.g711(x, "mu" if rng.random() < 0.4 else "a")
    if rng.random() < 0.1:
        x = augment.conceal(x, *augment.lost_packets(rng, len(x), RATE), RATE)
    return x


def levels(x: np.ndarray) -> np.ndarray:
    """Mean power of each block in dB, at least -100. float64 [blocks]"""
    return 10 * np.log10(np.square(x, dtype=np.float64).reshape(-1, BLOCK).mean(axis=1) + 1e-10)


def verdicts(speech: np.ndarray, music: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(music or not, how much it counts) of each block, by the levels of its parts in dB, float64 [blocks]."""
    own = held(music, 2)
    voice = held(speech, HELD_BLOCKS)
    there = (own > SILENT_DB) & (own > own.max() - 30)
    clear = there & (own >= voice + ABOVE_SPEECH_DB) & (own >= held(noise, 3) + ABOVE_NOISE_DB)
    none = ~there | (own <= voice + BELOW_SPEECH_DB) | (own <= held(noise, 3) + BELOW_NOISE_DB)
    weight = (clear | none).astype(np.float32)
    turns = np.flatnonzero(np.diff(clear.astype(int)))
    for at in turns:
        weight[at + 1 : at + 2 if clear[at + 1] else at + 4] *= 0.2
    return clear.astype(np.float32), weight


def held(db: np.ndarray, blocks: int) -> np.ndarray:
    """The highest of the last `blocks` levels."""
    padded = np.concatenate([np.full(blocks - 1, -100.0), db])
    return np.lib.stride_tricks.sliding_window_view(padded, blocks).max(axis=1)


def listen(pcm: np.ndarray) -> np.ndarray:
    """Features of many scenes: float32 [scenes, SIZE] -> [scenes, blocks, FEATURES]; zeros where nothing is judged."""
    count, blocks = len(pcm), pcm.shape[1] // BLOCK
    out = np.zeros((count, blocks, FEATURES), np.float32)
    for first in range(0, count, detector.ROWS):
        part = pcm[first : first + detector.ROWS].reshape(-1, blocks, BLOCK)
        features, slots, silent = Features(len(part)), np.arange(len(part)), np.zeros(len(part), np.int64)
        features.reset(slots)
        for at in range(blocks):
            here = np.ascontiguousarray(part[:, at])
            energies = np.square(here).reshape(-1, detector.FRAMES, HOP).sum(axis=2)
            levels = detector.decibels(energies)
            loud = np.flatnonzero(levels > detector.SILENCE_DBFS)
            silent += 1
            silent[loud] = 0
            features.reset(np.flatnonzero(silent >= detector.FORGET_BLOCKS))
            if len(loud):
                tapered = here[loud, -detector.WINDOW :] * detector.TAPER
                out[first + loud, at] = features.of(loud, tapered, energies[loud], levels[loud])
    return out


HIRED: list[Director] = []
"""The director of a worker process, inherited and not sent with every task: it holds hours of music."""


def batch(kinds: np.ndarray, seed: int, first: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(features [n, blocks, FEATURES], music [n, blocks], weight [n, blocks]) of up to ROWS scenes from `first` on."""
    made = [
        HIRED[-1].scene(np.random.default_rng([seed, first + i]), str(kind))
        for i, kind in enumerate(kinds[first : first + detector.ROWS])
    ]
    music, weight = (np.stack(column) for column in zip(*((s.music, s.weight) for s in made), strict=True))
    return listen(np.stack([s.pcm for s in made])), music, weight


def scenes(director: Director, count: int, seed: int, workers: int) -> tuple[np.ndarray, ...]:
    """Scenes of every kind, as `batch` gives them; the same for any number of workers."""
    kinds = np.random.default_rng(seed).choice(list(KINDS), count, p=list(KINDS.values()))
    firsts = range(0, count, detector.ROWS)
    with multiprocessing.get_context("fork").Pool(workers, HIRED.append, (director,)) as pool:
        made = pool.imap(partial(batch, kinds, seed), firsts)
        columns = zip(*tqdm(made, total=len(firsts), desc="mixing scenes", disable=None), strict=True)
        mixed = tuple(np.concatenate(column) for column in columns)
        pool.close()
        pool.join()  # a worker that is terminated at the end instead may wait for ever for the queue's lock
    return mixed
