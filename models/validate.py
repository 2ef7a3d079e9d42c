"""Which checkpoint is better: `python -m models.validate --model light models/checkpoints/*.pt`.

Scores checkpoints on voices and noises that training leaves out (`validation` in split.json) but that are no part of
the test set, which is not for choosing. Every run makes the same clips from the training cache: G.711 at 8 kHz, 0 to
15 dB, noise of places, events and babble in turn; at level 80, and at 100, as unlimited as other suppressors are. The
noisy input and RNNoise, if it was fetched, come first. `--ceiling` adds what the best gains one could take from the
clean speech would reach, closing at several speeds: what windows, release and level leave room for.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from models import data
from models.evaluation import metrics, systems
from models.sound import augment, codecs
from models.sound.sources import Sources

if TYPE_CHECKING:
    from models.networks.designs import Network

CLIPS, SECONDS, SEED = 36, 8, 20260101
SNRS_DB = (0, 5, 10, 15)
NOISES = ("recorded", "events", "babble")
LEVEL_DBFS = -24.0
LEVELS = (systems.DEFAULT_LEVEL, 100)
RELEASES = (0.2, 0.5, 1.0)
"""Shares of its way down that a gain may go in a frame, to compare; see `geometry.RELEASE`."""
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


def scores(output: np.ndarray, clean: np.ndarray, rate: int, pesq: np.ndarray) -> str:
    """Mean figures of all clips, and PESQ by noise. pesq: [clips]"""
    rest = [
        (metrics.dnsmos(x, rate)["ovrl"], metrics.stoi_score(x, y, rate), metrics.speech_gain(x, y))
        for x, y in zip(output, clean, strict=True)
    ]
    overall, stoi, gain = np.mean(rest, axis=0)
    kinds = "  ".join(f"{kind} {np.mean(pesq[i :: len(NOISES)]):.2f}" for i, kind in enumerate(NOISES))
    return f"PESQ {np.mean(pesq):.3f} ({kinds})  DNSMOS {overall:.3f}  STOI {stoi:.3f}  speech {gain:+.1f} dB"


def lost(output: np.ndarray, clean: np.ndarray, rate: int) -> np.ndarray:
    """Points of PESQ that each clip lost, as training's loss hears it. float32 [clips]"""
    import torch  # only checkpoints and this want it

    from models.networks.perceptual import Disturbance

    with torch.no_grad():
        points = Disturbance(rate).lost(torch.from_numpy(np.ascontiguousarray(output)), torch.from_numpy(clean))
    return points.numpy()


def enhanced(model: str, rate: int, path: Path, noisy: np.ndarray) -> np.ndarray:
    """Through a checkpoint's averaged weights, without a limit of attenuation; its delay taken out."""
    import torch

    from models.networks.designs import DESIGNS

    net = DESIGNS[model](rate).eval()
    net.load_state_dict(torch.load(path, weights_only=True, map_location="cpu")["average"])
    heard = torch.from_numpy(padded(noisy, net))
    with torch.no_grad():
        output = net(heard, torch.ones(len(heard)))[0].numpy()
    return aligned(output, noisy, net)


def padded(noisy: np.ndarray, net: Network) -> np.ndarray:
    """With silence behind it, for the delay and a whole last frame."""
    return np.pad(noisy, ((0, 0), (0, net.delay + -noisy.shape[1] % net.hop)))


def aligned(output: np.ndarray, noisy: np.ndarray, net: Network) -> np.ndarray:
    """Without the delay and what was `padded`."""
    return output[:, net.delay :][:, : noisy.shape[1]]


def at_level(output: np.ndarray, noisy: np.ndarray, level: int) -> np.ndarray:
    """With what a level's limit of attenuation leaves of the input."""
    least = np.float32(systems.least_gain(level))
    return output * (1 - least) + noisy * least


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoints", type=Path, nargs="*")
    parser.add_argument("--model", default="standard", help="the design of the checkpoints")
    parser.add_argument("--rate", type=int, choices=(8000, 16000), default=8000)
    parser.add_argument("--cache", type=Path, default=data.CACHE)
    parser.add_argument("--ceiling", action="store_true", help="what perfect gains would reach, too")
    args = parser.parse_args()
    noisy, clean = clips(args.cache, args.rate)
    heard: list[tuple[np.ndarray, np.ndarray]] = []
    for name, output in outputs(args, noisy, clean):
        pesq = np.array([metrics.pesq_score(x, y, args.rate) for x, y in zip(output, clean, strict=True)])
        heard.append((pesq, lost(output, clean, args.rate)))
        print(f"{name:40}", scores(output, clean, args.rate, pesq), flush=True)
    pesq, points = (np.concatenate(each) for each in zip(*heard, strict=True))
    print(f"training's loss follows PESQ with a correlation of {-np.corrcoef(pesq, points)[0, 1]:.3f} on these clips")


def outputs(args: argparse.Namespace, noisy: np.ndarray, clean: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Whatever is compared, by name."""
    from models.ceiling import perfect  # wants torch

    yield "noisy", noisy
    if "RNNoise" in systems.SYSTEMS:
        yield "RNNoise", systems.SYSTEMS["RNNoise"].suppress(noisy, args.rate)
    ceilings = ((f"perfect gains, release {x}", perfect(args.rate, noisy, clean, x)) for x in RELEASES if args.ceiling)
    ours = ((path.name, enhanced(args.model, args.rate, path, noisy)) for path in args.checkpoints)
    for name, output in chain(ceilings, ours):
        for level in LEVELS:
            yield f"{name}, level {level}", at_level(output, noisy, level)


if __name__ == "__main__":
    main()
