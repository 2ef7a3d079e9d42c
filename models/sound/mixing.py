"""One training example after another: what a telephone leg may carry, what should come out, and what is in it.

An example is (mixture, target, keep_music, labels): float32 [samples], float32 [samples], 0 or 1, and float32
[frames, 4] for speech, noise, music and tone. Speech is the commonest; the target of music depends on keep_music, that
of tones does not. Three rules say what the target is:

- An example with nothing unwanted in it comes out as it went in, with whatever codecs and lines did to it.
- Otherwise the target is the wanted sound before the codec: coding noise is noise.
- Clipping, lost packets and cuts of discontinuous transmission happen to the target as they do to the mixture: a gain
  on each frequency cannot undo them. Comfort noise is unwanted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.data import Pools
from models.sound import augment, codecs, synthesis, tones
from models.sound.augment import Rng, from_db
from models.sound.sources import Sources

KIND_SHARES = {"noisy": 0.69, "clean": 0.10, "music": 0.10, "tone": 0.07, "noise": 0.04}
KEEP_MUSIC, UNDISTURBED = 0.65, 0.8
"""How often music is to be kept, and how often music and tones come without noise."""
SPEECH_DBFS, TONES_DBFS = (-35, -12), (-48, -4)
"""Active levels. Digits and modems are sent at levels at which nobody speaks (Q.24: DTMF from -36 to 0 dBm0 a tone)."""
CODED = {8000: {"gsm": 0.03, "amr": 0.02, "opus_8k": 0.02}, 16000: {"g722": 0.08, "opus_16k": 0.04}}
"""How often the dear codecs are used; a few per cent are all that the cores can spare."""
CHANNEL = {8000: 0.4, 16000: 0.15}
"""How often all that a microphone heard goes through one more device or the narrow band of a channel, by rate."""
Example = tuple[np.ndarray, np.ndarray, np.float32, np.ndarray]


@dataclass(frozen=True, slots=True)
class Scene:
    """What is to be heard in an example, each float32 [samples], or None for nothing; `wanted` is speech without its
    room."""

    wanted: np.ndarray | None
    speech: np.ndarray | None
    music: np.ndarray | None
    tone: np.ndarray | None
    noise: np.ndarray | None
    keep: bool

    @property
    def undisturbed(self) -> bool:
        return self.noise is None and (self.music is None or self.keep)

    @property
    def source(self) -> np.ndarray | None:
        return total(self.speech, self.music, self.tone)

    @property
    def target(self) -> np.ndarray | None:
        return total(self.wanted, self.music if self.keep else None, self.tone)


@dataclass(frozen=True, slots=True)
class Mixer:
    """Makes examples of `size` samples at `rate` from the pools."""

    pools: Pools
    rate: int
    size: int

    def example(self, rng: Rng) -> Example:
        scene = self.scene(rng, str(rng.choice(list(KIND_SHARES), p=list(KIND_SHARES.values()))))
        silence = np.zeros(self.size, np.float32)
        heard = total(scene.source, scene.noise, silence), total(scene.target, silence)
        mixture, target = self.channel(rng, *heard)
        levels = TONES_DBFS if scene.tone is not None and scene.speech is None else SPEECH_DBFS
        gain = from_db(rng.uniform(*levels)) / np.float32(max(augment.active_rms(mixture, self.rate), 1e-5))
        labels = self.labels(scene, gain)
        mixture, target = self.line(rng, mixture * gain, target * gain, scene.undisturbed)
        if scene.wanted is not None and rng.random() < 0.06:
            mixture, target = self.gaps(rng, mixture, target, labels)
        return mixture, target, np.float32(scene.keep), labels

    def scene(self, rng: Rng, kind: str) -> Scene:
        sources, keep = Sources(self.pools, self.rate, self.size), bool(rng.random() < KEEP_MUSIC)
        wanted = speech = music = tone = None
        spoken = {"noisy": 1.0, "clean": 1.0, "music": 0.35, "tone": 0.15, "noise": 0.0}[kind]
        if rng.random() < spoken:
            wanted, speech = sources.speech(rng)
        if kind == "music":
            music = sources.music(rng) * self.beside(rng, speech)
        if kind == "tone":
            tone = tones.tones(rng, self.size, self.rate) * np.float32(rng.uniform(0.2, 1.5))
            tone = tone * self.beside(rng, speech) * 4 if speech is not None else tone
        noise = self.noise(rng, sources, kind, total(speech, music, tone))
        return Scene(wanted, speech, music, tone, noise, keep)

    def beside(self, rng: Rng, speech: np.ndarray | None) -> np.float32:
        """Gain of music or a tone of level one beside speech, or alone."""
        return np.float32(0.1) if speech is None else from_db(-rng.uniform(0, 20))

    def noise(self, rng: Rng, sources: Sources, kind: str, source: np.ndarray | None) -> np.ndarray | None:
        """Noise at its level, with what else disturbs a line."""
        if kind == "clean" or (kind in ("music", "tone") and rng.random() < UNDISTURBED):
            return None
        loud = 0.1 if source is None else augment.active_rms(source, self.rate)
        snr = {"noisy": rng.triangular(-5, 6, 25), "noise": 0.0}.get(kind, rng.uniform(8, 35))
        noise = sources.noise(rng) * np.float32(loud * from_db(-snr))
        if kind in ("noisy", "noise") and rng.random() < 0.06:
            noise = noise + sources.far_echo(rng) * np.float32(loud * from_db(rng.uniform(-45, -25)))
        if rng.random() < 0.05:
            hum = synthesis.unit(synthesis.hum(rng, self.size, self.rate)) * from_db(rng.uniform(-45, -20))
            noise = noise + (hum + np.float32(rng.normal(0, 0.1))) * np.float32(loud)
        return noise

    def labels(self, scene: Scene, gain: np.float32) -> np.ndarray:
        """float32 [frames, 4]: 1 where that part is to be heard."""
        labels = np.zeros((self.size * 100 // self.rate, 4), np.float32)
        for column, part in enumerate((scene.wanted, scene.noise, scene.music, scene.tone)):
            if part is not None:
                labels[:, column] = active(part * gain, self.rate)
        return labels

    def channel(self, rng: Rng, mixture: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, ...]:
        """What colours voice and noise alike: the device that picked them up, or the channel's band."""
        if rng.random() >= CHANNEL[self.rate]:
            return mixture, target
        bins = self.size // 2 + 1
        if rng.random() < 0.5:
            response = augment.telephone_band(rng, bins, self.rate)
        else:
            response = augment.random_response(rng, bins, self.rate, 2.0, str(rng.choice(list(augment.DEVICES_DB))))
        return tuple(augment.resize_and_filter(x, self.size, response) for x in (mixture, target))

    def line(self, rng: Rng, mixture: np.ndarray, target: np.ndarray, undisturbed: bool) -> tuple[np.ndarray, ...]:
        """The damage of converters, codecs and networks."""
        top = np.float32(1)
        if rng.random() < 0.08:
            top = np.float32(min(1.0, np.abs(mixture).max() * rng.uniform(0.3, 0.9)))
        mixture, target = np.clip(mixture, -top, top), np.clip(target, -top, top)
        mixture = self.coded(rng, mixture)
        target = mixture if undisturbed else target
        if rng.random() < 0.1:
            missing, repeat = augment.lost_packets(rng, self.size, self.rate)
            if rng.random() < 0.5:
                lags = augment.pitch_lags(mixture, missing, self.rate)
                return tuple(augment.repeat_pitch(x, lags, self.rate) for x in (mixture, target))
            return tuple(augment.conceal(x, missing, repeat, self.rate) for x in (mixture, target))
        return mixture, target

    def coded(self, rng: Rng, x: np.ndarray) -> np.ndarray:
        """Through one codec, or two in tandem."""
        shares = CODED[self.rate]
        name = str(rng.choice([*shares, "none"], p=[*shares.values(), 1 - sum(shares.values())]))
        if name == "gsm":
            x = codecs.gsm(x)
        elif name != "none":
            codec = codecs.CODECS[name]
            x = codecs.round_trip(x, codec, int(rng.choice(codec.bit_rates)))
        for share in (0.75, 0.06) if self.rate == 8000 else ():
            if rng.random() < share:
                x = codecs.g711(x, "mu" if rng.random() < 0.4 else "a")
        return x

    def gaps(self, rng: Rng, mixture: np.ndarray, target: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, ...]:
        """Discontinuous transmission: nothing is sent between words, and the receiver fills in."""
        sent = augment.transmitted(rng, labels.max(axis=1, initial=0, where=(True, False, True, True)), self.rate)
        sent = np.pad(sent, (0, self.size - len(sent)), mode="edge")
        quiet = mixture[~sent]
        loudest = augment.rms(quiet) if len(quiet) else 0.0
        comfort = augment.comfort_noise(rng, self.size, self.rate, loudest)
        return np.where(sent, mixture, comfort), np.where(sent, target, np.float32(0))


def total(*parts: np.ndarray | None) -> np.ndarray | None:
    """The sum of what is there, or None."""
    there = [p for p in parts if p is not None]
    return sum(there[1:], start=there[0]) if there else None


def active(part: np.ndarray, rate: int) -> np.ndarray:
    """float32 [frames]: 1 where the part is within 30 dB of its loud frames and above -65 dB relative to full scale."""
    power = augment.frame_power(part, rate // 100)
    smooth = np.convolve(power, np.full(5, 0.2, np.float32), "same")
    loud = np.partition(smooth, int(len(smooth) * 0.95))[int(len(smooth) * 0.95)]
    return ((smooth > 3e-7) & (smooth > loud * 1e-3)).astype(np.float32)


def batches(
    cache: Path, rate: int, shapes: tuple[tuple[int, float, float], ...], seed: int
) -> Iterator[tuple[np.ndarray, ...]]:
    """Endless batches: mixture [n, samples], target [n, samples], keep_music [n], labels [frames, n, 4].

    shapes: (rows, seconds, how often) of the batches.
    """
    rng, pools = np.random.default_rng(seed), Pools(cache, wide_only=rate > 8000)
    mixers = [Mixer(pools, rate, int(seconds * rate)) for _, seconds, _ in shapes]
    while True:
        pick = rng.choice(len(shapes), p=[share for *_, share in shapes])
        rows = [mixers[pick].example(rng) for _ in range(shapes[pick][0])]
        mixture, target, keep, labels = (np.stack(column) for column in zip(*rows, strict=True))
        yield mixture, target, keep, labels.transpose(1, 0, 2)
