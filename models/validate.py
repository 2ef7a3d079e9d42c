"""Which checkpoint is better: `python -m models.validate --model light models/checkpoints/*.pt`.

Scores checkpoints on voices and noises that training leaves out (`validation` in split.json) but that are no part of
the test set, which is not for choosing. Every run makes the same clips from the training cache: G.711 at 8 kHz, 0 to
15 dB, noise of places, events and babble in turn, level 80. The noisy input and RNNoise, if it was fetched, come
first.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from models import data
from models.evaluation import metrics, systems
from models.sound import augment, codecs
from models.sound.sources import Sources

CLIPS, SECONDS, SEED = 36, 8, 20260101
SNRS_DB = (0, 5, 10, 15)
NOISES = ("recorded", "events", "babble")
LEVEL_DBFS = -24.0
Maker = Callable[[augment.Rng], np.ndarray]


def clips(cache: Path, rate: int) -> tuple[np.ndarray, np.ndarray]:
    """(noisy, clean), float32 [clips, samples]."""
    pools = data.Pools(cache, wide_only=rate > 8000, part="validation")
    sources, rng = Sources(pools, rate, SECONDS * rate), np.random.default_rng(SEED)
    makers = {"recorded": sources.recorded, "events": sources.events, "babble": lambda r: sources.babble(r, 5)}
    pairs = [pair(rng, sources, makers[NOISES[i % len(NOISES)]], SNRS_DB[i // len(NOISES) % 4]) for i in range(CLIPS)]
    noisy, clean = (np.stack(side) for side in zip(*pairs, strict=True))
    return noisy, clean


def pair(rng: augment.Rng, sources: Sources, noise: Maker, snr_db: float) -> tuple[np.ndarray, np.ndarray]:
    rate = sources.rate
    speech = sources.voice(rng) * augment.from_db(LEVEL_DBFS)
    loud = augment.active_rms(speech, rate)
    mixture = np.clip(speech + noise(rng) * np.float32(loud) * augment.from_db(-snr_db), -1, 1)
    return (codecs.g711(mixture, "a") if rate == 8000 else mixture), speech


def scores(output: np.ndarray, clean: np.ndarray, rate: int) -> str:
    """Mean figures of all clips, and PESQ by noise."""
    pesq = [metrics.pesq_score(x, y, rate) for x, y in zip(output, clean, strict=True)]
    rest = [
        (metrics.dnsmos(x, rate)["ovrl"], metrics.stoi_score(x, y, rate), metrics.speech_gain(x, y))
        for x, y in zip(output, clean, strict=True)
    ]
    overall, stoi, gain = np.mean(rest, axis=0)
    kinds = "  ".join(f"{kind} {np.mean(pesq[i :: len(NOISES)]):.2f}" for i, kind in enumerate(NOISES))
    return f"PESQ {np.mean(pesq):.3f} ({kinds})  DNSMOS {overall:.3f}  STOI {stoi:.3f}  speech {gain:+.1f} dB"


def enhanced(model: str, rate: int, path: Path, noisy: np.ndarray) -> np.ndarray:
    """Through a checkpoint's averaged weights at the default level; its delay taken out."""
    import torch  # only checkpoints want it

    from models.networks.designs import DESIGNS

    net = DESIGNS[model](rate).eval()
    net.load_state_dict(torch.load(path, weights_only=True, map_location="cpu")["average"])
    padded = torch.from_numpy(np.pad(noisy, ((0, 0), (0, net.delay + -noisy.shape[1] % net.hop))))
    with torch.no_grad():
        output = net(padded, torch.ones(len(padded)))[0].numpy()[:, net.delay :][:, : noisy.shape[1]]
    least = systems.least_gain(systems.DEFAULT_LEVEL)
    return output * np.float32(1 - least) + noisy * np.float32(least)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoints", type=Path, nargs="*")
    parser.add_argument("--model", default="standard", help="the design of the checkpoints")
    parser.add_argument("--rate", type=int, choices=(8000, 16000), default=8000)
    parser.add_argument("--cache", type=Path, default=data.CACHE)
    args = parser.parse_args()
    noisy, clean = clips(args.cache, args.rate)
    for name in ("noisy", "RNNoise"):
        if name in systems.SYSTEMS:
            print(f"{name:32}", scores(systems.SYSTEMS[name].suppress(noisy, args.rate), clean, args.rate), flush=True)
    for path in args.checkpoints:
        output = enhanced(args.model, args.rate, path, noisy)
        print(f"{path.name:32}", scores(output, clean, args.rate), flush=True)


if __name__ == "__main__":
    main()
