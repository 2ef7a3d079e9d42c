"""Trains a denoiser: `python -m models.train --rate 8000 --minutes 30 [--resume] [--from-narrow]`.

Time is counted by steps, each for at most a few times what steps usually take, so a stopped or crowded process does
not shorten the schedule. Checkpoints (weights, their moving average, optimiser, progress) are replaced
atomically in models/checkpoints; `models.export` turns one into a graph.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from models import data, mixing
from models.geometry import Geometry
from models.losses import Loss
from models.network import Denoiser, widen

CHECKPOINTS = Path(__file__).with_name("checkpoints")
PEAK_RATE, LAST_RATE, WARMUP = 2e-3, 2e-5, 200
AVERAGE_OVER = 400
"""Steps of the moving average of the weights that is exported."""
LONGEST_STEP_S = 3.0
LOG_EVERY, SAVE_EVERY = 25, 50


class Mixtures(IterableDataset):
    """Endless ready-made batches; each worker and each start has its own random numbers."""

    def __init__(self, cache: Path, rate: int, seconds: float, batch: int, seed: int) -> None:
        self.arguments, self.seed = (cache, rate, seconds, batch), seed

    def __iter__(self) -> Iterator[tuple[np.ndarray, ...]]:
        info = get_worker_info()
        torch.set_num_threads(1)
        return mixing.batches(*self.arguments, seed=self.seed * 100 + (info.id if info else 0))


class Trainer:
    """Weights, optimiser and progress of one training run."""

    def __init__(self, rate: int, minutes: float, peak: float) -> None:
        self.net = Denoiser(Geometry(rate))
        self.average = {k: v.clone() for k, v in self.net.state_dict().items()}
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=peak, betas=(0.9, 0.98), weight_decay=0.01)
        self.loss = Loss(rate)
        self.rate, self.planned_s, self.peak = rate, minutes * 60, peak
        self.steps, self.spent_s, self.hours = 0, 0.0, 0.0

    def learning_rate(self) -> float:
        share = min(1.0, self.spent_s / self.planned_s)
        cosine = LAST_RATE + (self.peak - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * share))
        return cosine * min(1.0, (self.steps + 1) / WARMUP)

    def step(self, mixture: Tensor, target: Tensor, keep: Tensor, labels: Tensor) -> dict[str, float]:
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        hop = self.net.geometry.hop
        with torch.autocast("cpu", torch.bfloat16):
            output, _, logits = self.net(mixture, keep)
        total, parts = self.loss(output[:, hop:], target[:, :-hop], logits, labels)
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimizer.step()
        self.steps += 1
        self.hours += mixture.numel() / self.rate / 3600
        self.follow()
        return parts

    @torch.no_grad()
    def follow(self) -> None:
        share = max(1 / AVERAGE_OVER, 1 / self.steps)
        for name, value in self.net.state_dict().items():
            self.average[name].lerp_(value, share)

    def save(self) -> None:
        CHECKPOINTS.mkdir(exist_ok=True)
        path = checkpoint(self.rate)
        state = {"net": self.net.state_dict(), "average": self.average, "optimizer": self.optimizer.state_dict()}
        state |= {"steps": self.steps, "spent_s": self.spent_s, "hours": self.hours}
        torch.save(state, path.with_suffix(".part"))
        path.with_suffix(".part").rename(path)

    def resume(self) -> None:
        state = torch.load(checkpoint(self.rate), weights_only=True)
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average = state["average"]
        self.steps, self.spent_s, self.hours = state["steps"], state["spent_s"], state["hours"]

    def start_from_deeper(self) -> None:
        """Begin with the rate's checkpoint of a network with more blocks, less the last ones."""
        state = torch.load(checkpoint(self.rate), weights_only=True)
        self.net.load_state_dict({name: state["average"][name] for name in self.net.state_dict()})
        self.average = {k: v.clone() for k, v in self.net.state_dict().items()}
        self.hours = state["hours"]

    def start_from(self, narrow: Path) -> None:
        widen(torch.load(narrow, weights_only=True)["average"], self.net)
        self.average = {k: v.clone() for k, v in self.net.state_dict().items()}


def checkpoint(rate: int) -> Path:
    return CHECKPOINTS / f"standard_{rate // 1000}k.pt"


def run(trainer: Trainer, loader: DataLoader) -> None:
    """Trains until the planned time is spent."""
    before, recent = time.monotonic(), []
    for batch in loader:
        if any(not torch.isfinite(t).all() for t in batch):
            continue
        recent.append(trainer.step(*batch))
        now = time.monotonic()
        trainer.spent_s += min(now - before, LONGEST_STEP_S)
        before = now
        if trainer.steps % LOG_EVERY == 0:
            print(describe(trainer, recent), flush=True)
            recent = []
        if trainer.steps % SAVE_EVERY == 0:
            trainer.save()
        if trainer.spent_s >= trainer.planned_s:
            break
    trainer.save()


def describe(trainer: Trainer, recent: list[dict[str, float]]) -> str:
    parts = "  ".join(f"{k} {np.mean([r[k] for r in recent]):.4f}" for k in recent[0])
    done = f"{trainer.spent_s / 60:5.1f}/{trainer.planned_s / 60:.0f} min"
    return f"{time.strftime('%H:%M:%S')}  {done}  step {trainer.steps}  {trainer.hours:.1f} h  {parts}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, choices=(8000, 16000), default=8000)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cache", type=Path, default=data.CACHE)
    parser.add_argument("--resume", action="store_true", help="go on from the rate's checkpoint")
    parser.add_argument("--from-narrow", action="store_true", help="start 16 kHz from the 8 kHz checkpoint")
    parser.add_argument("--from-deeper", action="store_true", help="start from a checkpoint with more blocks")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(2)
    torch.manual_seed(0)
    if not (args.cache / "index.json").exists():
        data.build_cache(args.data, args.cache)
    warm = args.from_narrow or args.from_deeper
    trainer = Trainer(args.rate, args.minutes, PEAK_RATE * (0.7 if warm else 1))
    if args.from_narrow:
        trainer.start_from(checkpoint(8000))
    if args.from_deeper:
        trainer.start_from_deeper()
    if args.resume:
        trainer.resume()
    mixtures = Mixtures(args.cache, args.rate, args.seconds, args.batch, seed=1 + trainer.steps)
    run(trainer, DataLoader(mixtures, batch_size=None, num_workers=args.workers, prefetch_factor=4))


if __name__ == "__main__":
    main()
