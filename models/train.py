"""Trains a network: `python -m models.train --model standard --rate 8000 --minutes 120 [--resume]`.

Time is counted by steps, each for at most a few times what steps usually take, so a stopped or crowded process does
not shorten the schedule. Checkpoints (weights, their moving average, optimiser, progress) are replaced
atomically in models/checkpoints, beside a log of every figure; `--resume` goes on exactly there, with examples that
were not seen before. `models.export` turns a checkpoint into a graph. With a GPU, networks and losses run on it.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from models import data, packages
from models.networks import growth, losses, network
from models.networks.designs import DESIGNS
from models.networks.losses import Loss
from models.sound import mixing

CHECKPOINTS = Path(__file__).with_name("checkpoints")
PEAK_RATE, LAST_RATE, WARMUP = 2e-3, 2e-5, 200
AVERAGE_OVER = 1500
"""Steps of the moving average of the weights that is exported."""
LONGEST_STEP_S = 3.0
LOG_EVERY, SAVE_EVERY = 200, 400
LIMITED, LEAST_GAIN = 0.5, 0.063
"""Share of examples that are judged at the default limit of attenuation, 24 dB."""

SHAPES = ((16, 3.0, 0.85), (4, 12.0, 0.15))
"""Batches: rows, seconds, share. The long ones teach the memories not to drift."""
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class Mixtures(IterableDataset):
    """Endless ready-made batches; each worker and each start has its own random numbers."""

    def __init__(self, cache: Path, rate: int, seed: int) -> None:
        self.arguments, self.seed = (cache, rate, SHAPES), seed

    def __iter__(self) -> Iterator[tuple[np.ndarray, ...]]:
        info = get_worker_info()
        torch.set_num_threads(1)
        return mixing.batches(*self.arguments, seed=self.seed * 100 + (info.id if info else 0))


class Trainer:
    """Weights, optimiser and progress of one training run."""

    def __init__(self, model: str, rate: int, minutes: float, peak: float) -> None:
        self.net = DESIGNS[model](rate).to(DEVICE)
        self.average = {k: v.clone() for k, v in self.net.state_dict().items()}
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=peak, betas=(0.9, 0.98), weight_decay=0.01)
        self.loss = Loss(rate).to(DEVICE)
        self.path, self.planned_s, self.peak = checkpoint(model, rate), minutes * 60, peak
        self.path.parent.mkdir(exist_ok=True)
        self.steps, self.spent_s, self.hours = 0, 0.0, 0.0

    def learning_rate(self) -> float:
        share = min(1.0, self.spent_s / self.planned_s)
        cosine = LAST_RATE + (self.peak - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * share))
        return cosine * min(1.0, (self.steps + 1) / WARMUP)

    def step(self, mixture: Tensor, target: Tensor, keep: Tensor, labels: Tensor) -> dict[str, float]:
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        mixture, target, keep, labels = (t.to(DEVICE) for t in (mixture, target, keep, labels))
        with torch.autocast(DEVICE, torch.bfloat16):
            output, logits = self.net(mixture, keep)
        delay = self.net.delay
        output, target, mixture = output[:, delay:].float(), target[:, :-delay], mixture[:, :-delay]
        rest = least_gains(len(mixture)).to(DEVICE)
        output, target = torch.lerp(output, mixture, rest), torch.lerp(target, mixture, rest)
        total, parts = self.loss(output, target, logits.float(), labels)
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimizer.step()
        self.steps += 1
        self.hours += mixture.numel() / self.net.rate / 3600
        self.follow()
        return parts

    @torch.no_grad()
    def follow(self) -> None:
        share = max(1 / AVERAGE_OVER, 1 / self.steps)
        for name, value in self.net.state_dict().items():
            self.average[name].lerp_(value, share)

    def save(self) -> None:
        state = {"net": self.net.state_dict(), "average": self.average, "optimizer": self.optimizer.state_dict()}
        state |= {"steps": self.steps, "spent_s": self.spent_s, "hours": self.hours}
        torch.save(state, self.path.with_suffix(".part"))
        self.path.with_suffix(".part").rename(self.path)

    def resume(self) -> None:
        state = torch.load(self.path, weights_only=True, map_location=DEVICE)
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average = state["average"]
        self.steps, self.spent_s, self.hours = state["steps"], state["spent_s"], state["hours"]

    def grow_from(self, start: Path) -> None:
        """Begin with the weights of a smaller network, of one for a lower rate, or of a graph that was shipped."""
        if start.suffix == ".onnx":
            weights, card = growth.of_graph(start), json.loads(start.with_suffix(".json").read_text())
            self.hours = card["mixture_hours"]
        else:
            state = torch.load(start, weights_only=True, map_location=DEVICE)
            weights, self.hours = state["average"], state["hours"]
        growth.grow(weights, self.net)
        self.average = {k: v.clone() for k, v in self.net.state_dict().items()}


def least_gains(rows: int) -> Tensor:
    """float32 [rows, 1]: what stays of each example's input, in the output and in what it is compared with.

    Most calls have a limit of attenuation, below which it does not matter what a network does.
    """
    return torch.where(torch.rand(rows, 1) < LIMITED, LEAST_GAIN, 0.0)


def checkpoint(model: str, rate: int) -> Path:
    return CHECKPOINTS / f"{model}_{rate // 1000}k.pt"


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
            line = describe(trainer, recent)
            print(line, flush=True)
            with trainer.path.with_suffix(".log").open("a") as log:
                print(line, file=log)
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
    parser.add_argument("--model", choices=sorted(DESIGNS), default="standard")
    parser.add_argument("--rate", type=int, choices=(8000, 16000), default=8000)
    parser.add_argument("--minutes", type=float, default=30, help="of the whole run, earlier stretches counted in")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--packages", type=Path, default=packages.FOLDER, help="where models.packages unpacked them")
    parser.add_argument("--cache", type=Path, default=data.CACHE)
    parser.add_argument("--resume", action="store_true", help="go on from the model's checkpoint")
    parser.add_argument(
        "--grow-from", type=Path, help="start from a smaller network's checkpoint, or from a shipped .onnx"
    )
    parser.add_argument("--peak", type=float, default=PEAK_RATE, help="highest learning rate")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2, help="processes that mix examples")
    parser.add_argument("--compile", action="store_true", help="a fifth faster on a CPU; needs a C++ compiler")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    if args.compile:
        compile_parts()
    if not (args.cache / "index.json").exists():
        data.build_cache(args.data, args.packages, args.cache)
    trainer = Trainer(args.model, args.rate, args.minutes, args.peak)
    if args.grow_from:
        trainer.grow_from(args.grow_from)
    if args.resume:
        trainer.resume()
    mixtures = Mixtures(args.cache, args.rate, seed=1 + trainer.steps)
    run(trainer, DataLoader(mixtures, batch_size=None, num_workers=args.workers, prefetch_factor=4))


def compile_parts() -> None:
    """Fuses the element-wise operators around a block's products, and those of the loss."""
    network.gates, network.merged = torch.compile(network.gates), torch.compile(network.merged)
    losses.spectral = torch.compile(losses.spectral)


if __name__ == "__main__":
    main()
