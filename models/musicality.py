"""Trains and measures what `gateway/detect/music.py` knows of music: `python -m models.musicality --help`.

Scenes of 20 s are mixed of speech, music, singing and noise (`musicscenes.py`); the detector's own code makes features
of them, and a small recurrent network learns from these. `--evaluate` measures the finished detector on recordings that
training never hears, and prints the table of the documentation (`musictest.py`).
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from gateway.detect.music import FEATURES, WEIGHTS, Music, Network
from models import heldout
from models.data import CACHE, Pools
from models.evaluation import musictest
from models.files import replacing
from models.sound import musicset
from models.sound.musicscenes import Director, scenes

WIDE, STATE = 32, 32
BEGIN, END = 2.3, 1.0
"""Log odds at which the detector's verdict begins and ends: music is left to the network, which keeps it as well, for
longer than speech is left noisy."""


class Student(nn.Module):
    """The detector's network in torch; `weights` gives what the detector loads."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(FEATURES, WIDE)
        self.memory = nn.GRU(WIDE, STATE, batch_first=True)
        self.output = nn.Linear(STATE, 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """[scenes, blocks, FEATURES] -> log odds [scenes, blocks]."""
        return self.output(self.memory(torch.relu(self.dense(features)))[0])[..., 0]

    def weights(self, thresholds: tuple[float, float]) -> Network:
        with torch.no_grad():
            layers = (
                (self.dense.weight, self.dense.bias),
                (self.memory.weight_ih_l0, self.memory.bias_ih_l0),
                (self.memory.weight_hh_l0, self.memory.bias_hh_l0),
                (self.output.weight, self.output.bias),
            )
            dense, inward, onward, output = (torch.cat([w.T, b[None]]).numpy() for w, b in layers)
        return Network(dense, inward, onward, output[:, 0], np.array(thresholds, np.float32))


def train(data: tuple[np.ndarray, ...], epochs: int, seed: int, dear: float = 2.0) -> Student:
    """Cross entropy over the blocks that count; a block taken for music by mistake costs `dear` times as much."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    student, rng = Student(), np.random.default_rng(seed)
    features, music, weight = (torch.from_numpy(x) for x in data)
    weight = weight * torch.where(music > 0.5, 1.0, dear)
    steps = epochs * (len(features) // 64)
    optimizer = torch.optim.AdamW(student.parameters(), lr=6e-3, weight_decay=1e-3)
    plan = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, steps)
    for _ in tqdm(range(epochs), desc="learning", disable=None):
        order = rng.permutation(len(features))
        for first in range(0, len(order) - 63, 64):
            rows = torch.from_numpy(order[first : first + 64])
            inputs = features[rows] + 0.1 * torch.randn(64, *features.shape[1:])
            loss = nn.functional.binary_cross_entropy_with_logits(student(inputs), music[rows], weight[rows])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(student.parameters(), 1.0)
            optimizer.step()
            plan.step()
    return student


def write(network: Network, path: Path) -> None:
    with replacing(path) as part, part.open("wb") as file:
        np.savez(file, **{name: value.astype(np.float32) for name, value in asdict(network).items()})


def learn(args: argparse.Namespace) -> None:
    """Mix, train, write the weights."""
    pools = Pools(args.cache, wide_only=False)
    songs = musicset.for_training(pools, args.songs / "training.npz")
    pools.leave_out("noise", musicset.SUSPECT)
    data = scenes(Director(pools, songs, musicset.volunteers(args.data)), args.scenes, args.seed, args.workers)
    write(train(data, args.epochs, args.start).weights((BEGIN, END)), args.out)


def evaluate(args: argparse.Namespace) -> None:
    recordings = heldout.Recordings(args.data)
    stage = musictest.Stage(recordings, musicset.for_evaluation(recordings, args.songs / "evaluation.npz"))
    network = Network.load(args.out)
    print(musictest.table(list(musictest.measure(stage, args.clips, lambda slots: Music(slots, network)))))


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the detector of music, or measure it.")
    parser.add_argument("--evaluate", action="store_true", help="measure the weights instead of making them")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="the weights")
    parser.add_argument("--cache", type=Path, default=CACHE, help="what models.data made")
    parser.add_argument("--songs", type=Path, default=Path("/tmp/denoise-songs"), help="folder for decoded music")
    parser.add_argument("--data", type=Path, default=heldout.default_data(), help="recordings")
    parser.add_argument("--scenes", type=int, default=41500)
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--clips", type=int, default=44, help="of each kind of the evaluation")
    parser.add_argument("--seed", type=int, default=0, help="of the scenes")
    parser.add_argument("--start", type=int, default=7, help="seed of the first weights and of the order of learning")
    parser.add_argument("--workers", type=int, default=1, help="processes that mix")
    args = parser.parse_args()
    if args.evaluate:
        evaluate(args)
    else:
        learn(args)


if __name__ == "__main__":
    main()
