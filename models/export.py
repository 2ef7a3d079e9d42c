"""Writes graphs and their cards: `python -m models.export [--model standard] [--rate 8000] [--fp32] [--untrained]`.

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

from models.files import replacing
from models.networks.designs import DESIGNS, Network
from models.networks.geometry import HEAD
from models.runtime import cpu_name, session
from models.train import checkpoint

FOLDER = Path(__file__).parent
TRAINING_DATA = [
    "rhasspy datasets kathleen, kerstin, flemishguy (CC0)",
    "Picovoice wake-word-benchmark (Apache-2.0), MycroftAI Precise-Community-Data (public domain), clean clips, and "
    "others cleaned by DeepFilterNet 3",
    "Free Spoken Digit Dataset (CC BY-SA 4.0), 8 kHz network only",
    "Asterisk core sounds en, es, ru (CC BY-SA 3.0)",
    "Fish Fillets, dialogues in Czech and Dutch (GPL-2+)",
    "volunteers' voices of Debian's tuxpaint-stamps-default, ktuberling-data, klettres-data, festvox-ru and gcin-voice "
    "(free licences, each in its package's copyright file), mostly cleaned by DeepFilterNet 3",
    "noise: moodist, blanket, Noisekun, ambientsounds, ESC-10 (CC0, CC BY, Pixabay licence), and synthetic",
    "noise: effects of the Debian packages in models/packages.py (free licences, each in its package's copyright "
    "file), keystrokes of keyboardsounds (MIT)",
    "music: Asterisk opsound hold music (CC BY-SA), Battle for Wesnoth (GPL-2+), synthetic tones",
]
LICENCE = "Weights: same licence as this project. Trained on the listed audio; none of it is part of this project."


def graph_name(model: str, rate: int, fp32: bool = False) -> str:
    """Stem of a graph's file and of its card's."""
    return f"{model}{'_fp32' if fp32 else ''}_{rate // 1000}k"


def write_card(name: str, card: dict[str, Any]) -> None:
    with replacing(FOLDER / f"{name}.json") as part:
        part.write_text(json.dumps(card, indent=2) + "\n")


def streams_per_core(model: bytes, batch: int = 256, seconds: float = 6.0) -> int:
    """Streams in real time on one thread: best of many rounds, since other work on the machine only adds time."""
    rng, run = np.random.default_rng(0), session(model)
    hop, width = (run.get_inputs()[i].shape[1] for i in (0, 1))
    pcm = rng.standard_normal((batch, hop)).astype(np.float32) * 0.05
    control = np.tile(np.array([[0.0, 1.0]], np.float32), (batch, 1))
    state, best, until = np.zeros((batch, width), np.float32), 1.0, time.perf_counter() + seconds
    while time.perf_counter() < until:
        start = time.perf_counter()
        for _ in range(10):
            state = run.run(None, {"pcm": pcm, "state": state, "control": control})[1]
        best = min(best, (time.perf_counter() - start) / 10)
    return round(batch / best / 100)


def load(model: str, rate: int, untrained: bool) -> tuple[Network, dict[str, float]]:
    """The network with its averaged weights, and how long it was trained."""
    net = DESIGNS[model](rate).eval()
    if untrained:
        return net, {"steps": 0, "hours": 0.0}
    state = torch.load(checkpoint(model, rate), weights_only=True, map_location="cpu")
    net.load_state_dict(state["average"])
    return net, {"steps": state["steps"], "hours": state["hours"]}


def export(model: str, rate: int, fp32: bool, untrained: bool) -> None:
    net, training = load(model, rate, untrained)
    name, written = graph_name(model, rate, fp32), net.graph(int8=not fp32).SerializeToString()
    run = session(written)
    card = {
        "name": name, "rate": rate, "hop": net.hop, "delay": net.delay, "state": run.get_inputs()[1].shape[1],
        "precision": "float32" if fp32 else "int8 products, static scales",
        "parameters": sum(p.numel() for p in net.parameters()), "bytes": len(written),
        "inputs": ["pcm", "state", "control"], "outputs": ["pcm_out", "state_out", "prob"], "prob": list(HEAD),
        "training_data": TRAINING_DATA, "training_steps": training["steps"],
        "mixture_hours": round(training["hours"], 1), "quality": {},
        "streams_per_core": {str(batch): streams_per_core(written, batch, 3.0) for batch in (64, 256)},
        "cpu": cpu_name(), "onnxruntime": onnxruntime.__version__,
        "sha256": hashlib.sha256(written).hexdigest(), "licence": LICENCE,
    }  # fmt: skip
    keep_measured(name, card)
    with replacing(FOLDER / f"{name}.onnx") as part:
        part.write_bytes(written)
    write_card(name, card)
    print(f"{name}.onnx: {len(written)} bytes, {training['hours']:.1f} h of mixtures, streams a core by batch: "
          f"{card['streams_per_core']}")  # fmt: skip


def keep_measured(name: str, card: dict[str, Any]) -> None:
    """Takes over what was measured of the very same graph."""
    path = FOLDER / f"{name}.json"
    before = json.loads(path.read_text()) if path.exists() else {"sha256": None}
    if before["sha256"] == card["sha256"]:
        card["quality"] = before["quality"]
        speeds = before["streams_per_core"]
        card["streams_per_core"] = {k: max(v, speeds.get(k, 0)) for k, v in card["streams_per_core"].items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=sorted(DESIGNS), action="append", help="default: all with a checkpoint")
    parser.add_argument("--rate", type=int, choices=(8000, 16000), action="append")
    parser.add_argument("--fp32", action="store_true", help="products in float32, as <model>_fp32")
    parser.add_argument("--untrained", action="store_true", help="random weights, for building against")
    args = parser.parse_args()
    for model in args.model or sorted(DESIGNS):
        for rate in args.rate or (8000, 16000):
            if args.untrained or checkpoint(model, rate).exists():
                export(model, rate, args.fp32, args.untrained)
            elif args.model:
                parser.error(f"{checkpoint(model, rate)} is not there: train it with models.train, or say --untrained")


if __name__ == "__main__":
    main()
