"""Everything evaluation compares, behind one contract: noisy audio in, cleaned audio out, and what a stream costs.

Ours are the exported graphs in `models/` with their cards; the others are `models.evaluation.rival_engines`, as far as
`python -m models.rivals fetch` brought them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import onnxruntime

from models import rivals
from models.evaluation import rival_engines
from models.evaluation.rival_engines import RIVALS
from models.runtime import session

FOLDER = Path(__file__).parents[1]
RATES = (8000, 16000)
DEFAULT_LEVEL = 80
COST_BATCH = 64
"""Calls in a batch when our own cost is measured."""


@dataclass(frozen=True, slots=True)
class System:
    """One noise suppressor in one configuration."""

    name: str
    rates: tuple[int, ...]
    """Sampling rates in Hz that it can be asked for."""
    version: str
    """Changes when its output may: what results are cached by."""
    suppress: Callable[[np.ndarray, int], np.ndarray]
    """(float32 [clips, samples] in -1..1, rate) to the same, its delay taken out."""
    streams: Callable[[int], float]
    """Streams in real time on one core at a rate, measured now."""


def least_gain(level: int) -> float:
    """The attenuation limit of a level as a linear gain: 0.3 dB a step, 100 has no limit."""
    return 0.0 if level >= 100 else float(10 ** (-0.3 * level / 20))


def graph_path(model: str, rate: int) -> Path:
    return FOLDER / f"{model}_{rate // 1000}k.onnx"


@cache
def opened(path: Path) -> onnxruntime.InferenceSession:
    return session(str(path))


def ours(
    noisy: np.ndarray, rate: int, model: str = "standard", level: int = DEFAULT_LEVEL, keep_music: bool = True
) -> np.ndarray:
    """An exported graph, all clips in one batch. level: 0..100. Undoes the delay of one hop."""
    run = opened(graph_path(model, rate))
    (hop, width), rows = (i.shape[1] for i in run.get_inputs()[:2]), len(noisy)
    control = np.tile(np.array([[least_gain(level), float(keep_music)]], np.float32), (rows, 1))
    state = np.zeros((rows, width), np.float32)
    padded = np.pad(noisy, ((0, 0), (0, hop + -noisy.shape[1] % hop))).astype(np.float32)
    out = []
    for at in range(0, padded.shape[1], hop):
        feed = {"pcm": np.ascontiguousarray(padded[:, at : at + hop]), "state": state, "control": control}
        frame, state = run.run(["pcm_out", "state_out"], feed)
        out.append(frame)
    return np.concatenate(out, axis=1)[:, hop : hop + noisy.shape[1]]


def our_streams(model: str, rate: int, seconds: float = 2.0) -> float:
    """Streams of 10 ms frames on one core, from the CPU time of a batch: the best, since other work slows it."""
    run = opened(graph_path(model, rate))
    hop, width = (i.shape[1] for i in run.get_inputs()[:2])
    pcm = (np.random.default_rng(0).standard_normal((COST_BATCH, hop)) * 0.05).astype(np.float32)
    state, control = np.zeros((COST_BATCH, width), np.float32), np.zeros((COST_BATCH, 2), np.float32)
    spent, until = [], time.perf_counter() + seconds
    while time.perf_counter() < until or len(spent) < 4:
        start = time.thread_time()
        for _ in range(10):
            state = run.run(["pcm_out", "state_out"], {"pcm": pcm, "state": state, "control": control})[1]
        spent.append((time.thread_time() - start) / 10)
    return COST_BATCH * 0.01 / min(spent[1:])


def unchanged(noisy: np.ndarray, rate: int) -> np.ndarray:
    """No suppressor at all."""
    return noisy


def our_models() -> dict[str, dict[int, str]]:
    """Exported models: for each name its rates and the hashes of their graphs. Without a card it is none."""
    found: dict[str, dict[int, str]] = {}
    for rate in RATES:
        for card in sorted(FOLDER.glob(f"*_{rate // 1000}k.json")):
            model = card.stem.removesuffix(f"_{rate // 1000}k")
            if graph_path(model, rate).exists():
                found.setdefault(model, {})[rate] = json.loads(card.read_text())["sha256"]
    return found


def our_systems() -> list[System]:
    systems = []
    for model, hashes in our_models().items():
        version = " ".join(f"{rate}:{digest[:16]}" for rate, digest in hashes.items())
        cost = partial(our_streams, model)
        systems.append(System(model, tuple(hashes), version, partial(ours, model=model), cost))
        if model == "standard":
            unlimited = partial(ours, model=model, level=100)
            systems.append(System("standard (level 100)", tuple(hashes), version, unlimited, cost))
    return systems


def rival_systems() -> list[System]:
    """The comparison engines that are here."""
    return [
        System(
            rival.label, RATES, str(rivals.WHEELS[rival.wheel]),
            partial(rival_engines.suppress, rival), partial(rival_engines.streams, rival),
        )
        for rival in RIVALS.values()
        if not why_absent(rival.wheel)
    ]  # fmt: skip


def why_absent(wheel: str) -> str:
    """Why a comparison engine cannot be used, empty when it can."""
    try:
        rivals.files(wheel)
    except rivals.RivalError as error:
        return str(error)
    return ""


def absent() -> dict[str, str]:
    """The comparison engines that are not here, and why."""
    reasons = {rival.label: why_absent(rival.wheel) for rival in RIVALS.values()}
    return {label: reason for label, reason in reasons.items() if reason}


NOISY = System("noisy", RATES, "1", unchanged, lambda rate: float("inf"))
SYSTEMS: dict[str, System] = {s.name: s for s in (NOISY, *our_systems(), *rival_systems())}
