"""Writes graphs and their cards: `python -m models.export [--rate 8000] [--untrained]`.

The card beside a graph says what it is, what it was trained on and how it measured. While the graph stays the same, its
card keeps the quality that `models.evaluate --cards` filled in, and the best speed, since other work only slows it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from models import graph
from models.geometry import HEAD, Geometry
from models.network import Denoiser
from models.train import checkpoint

FOLDER = Path(__file__).parent
TRAINING_DATA = [
    "rhasspy datasets kathleen, kerstin, flemishguy (CC0)",
    "Picovoice wake-word-benchmark (Apache-2.0), MycroftAI Precise-Community-Data (public domain), clean clips only",
    "Free Spoken Digit Dataset (CC BY-SA 4.0), 8 kHz network only",
    "Asterisk core sounds en, es, ru (CC BY-SA 3.0)",
    "noise: moodist, blanket, Noisekun, ambientsounds, ESC-10 (CC0, CC BY, Pixabay licence), and synthetic",
    "music: Asterisk opsound hold music (CC BY-SA), Battle for Wesnoth (GPL-2+), synthetic tones",
]
LICENCE = "Weights: same licence as this project. Trained on the listed audio; none of it is part of this project."


def replace(path: Path, content: bytes) -> None:
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    part.rename(path)


def card_path(rate: int) -> Path:
    return FOLDER / f"standard_{rate // 1000}k.json"


def write_card(rate: int, card: dict[str, Any]) -> None:
    replace(card_path(rate), (json.dumps(card, indent=2) + "\n").encode())


def session(model: bytes | str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def streams_per_core(model: bytes, g: Geometry, batch: int = 256, seconds: float = 6.0) -> int:
    """Streams in real time on one thread: best of many rounds, since other work on the machine only adds time."""
    rng, run = np.random.default_rng(0), session(model)
    pcm = rng.standard_normal((batch, g.hop)).astype(np.float32) * 0.05
    control = np.tile(np.array([[0.0, 1.0]], np.float32), (batch, 1))
    state, best, until = np.zeros((batch, g.state), np.float32), 1.0, time.perf_counter() + seconds
    while time.perf_counter() < until:
        start = time.perf_counter()
        for _ in range(10):
            state = run.run(None, {"pcm": pcm, "state": state, "control": control})[1]
        best = min(best, (time.perf_counter() - start) / 10)
    return round(batch / best / 100)


def cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def load(rate: int, untrained: bool) -> tuple[Denoiser, dict[str, float]]:
    """The network with its averaged weights, and how long it was trained."""
    net = Denoiser(Geometry(rate)).eval()
    if untrained:
        return net, {"steps": 0, "hours": 0.0}
    state = torch.load(checkpoint(rate), weights_only=True)
    net.load_state_dict(state["average"])
    return net, {"steps": state["steps"], "hours": state["hours"]}


def export(rate: int, untrained: bool) -> None:
    net, training = load(rate, untrained)
    g = net.geometry
    model = graph.build(g, net.weights()).SerializeToString()
    path = FOLDER / f"standard_{rate // 1000}k.onnx"
    card = {
        "name": path.stem, "rate": rate, "hop": g.hop, "delay": g.hop, "state": g.state,
        "parameters": sum(p.numel() for p in net.parameters()), "width": g.width, "blocks": g.blocks,
        "inputs": ["pcm", "state", "control"], "outputs": ["pcm_out", "state_out", "prob"], "prob": list(HEAD),
        "training_data": TRAINING_DATA, "training_steps": training["steps"],
        "mixture_hours": round(training["hours"], 1), "started_from": "standard_8k" if rate > 8000 else None,
        "quality": {},
        "streams_per_core": streams_per_core(model, g), "streams_batch": 256,
        "cpu": cpu_name(), "onnxruntime": onnxruntime.__version__,
        "sha256": hashlib.sha256(model).hexdigest(), "licence": LICENCE,
    }  # fmt: skip
    if card_path(rate).exists():
        before = json.loads(card_path(rate).read_text())
        if before["sha256"] == card["sha256"]:
            card["quality"] = before["quality"]
            card["streams_per_core"] = max(card["streams_per_core"], before["streams_per_core"])
    replace(path, model)
    write_card(rate, card)
    print(f"{path.name}: {training['hours']:.1f} h of mixtures, {card['streams_per_core']} streams a core")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, choices=(8000, 16000), action="append")
    parser.add_argument("--untrained", action="store_true", help="random weights, for building against")
    args = parser.parse_args()
    for rate in args.rate or (8000, 16000):
        export(rate, args.untrained)


if __name__ == "__main__":
    main()
