"""The only place that knows every engine: from configuration to engines by rate."""

import logging
from importlib import resources
from pathlib import Path

from gateway.config import EngineConfig
from gateway.denoise import card
from gateway.denoise.adapter import AdaptedEngine
from gateway.denoise.brought import BroughtModel
from gateway.denoise.engine import Engine
from gateway.denoise.ort import OrtEngine
from gateway.denoise.passthrough import PassthroughEngine
from gateway.denoise.rnnoise import Rnnoise
from gateway.denoise.speex import Speex
from gateway.errors import ConfigError

RATES_HZ = (8000, 16000)
FALLBACK = "standard"
"""Serves calls of a rate above a brought model's own."""
log = logging.getLogger(__name__)


def build(config: EngineConfig, slots: int) -> dict[int, Engine]:
    """An engine for each rate. Raises ConfigError when a model or library is missing or damaged."""
    return {rate: _build(config, rate, slots) for rate in RATES_HZ}


def _build(config: EngineConfig, rate: int, slots: int) -> Engine:
    if config.kind == "passthrough":
        return PassthroughEngine(rate, slots)
    if config.kind == "rnnoise":
        return AdaptedEngine(Rnnoise(slots), rate, slots)
    if config.kind == "speex":
        return AdaptedEngine(Speex(rate, slots), rate, slots)
    if brought(config):
        return _bring(Path(config.model), rate, slots)
    return OrtEngine(_known(config.model, rate), slots)


def brought(config: EngineConfig) -> bool:
    """Whether the model is a card of the user's own."""
    return config.kind == "ort" and Path(config.model).suffix in (".yaml", ".yml")


def _bring(path: Path, rate: int, slots: int) -> Engine:
    own = card.read(path).rate
    if own < rate:
        log.warning("%s is a model for %d Hz: calls at %d Hz use %s", path, own, rate, FALLBACK)
        return OrtEngine(graph_path(FALLBACK, rate), slots)
    model = BroughtModel(path, slots)
    if not model.batched and rate == RATES_HZ[0]:  # said once
        log.warning("%s: a graph has a fixed batch of 1, so calls run one by one, at many times the cost", path)
    return AdaptedEngine(model, rate, slots)


def graph_path(model: str, rate_hz: int) -> Path:
    """Where a model's graph lies: a name of `models/`, or a path without its `_8k.onnx`."""
    base = Path(model) if "/" in model else _folder() / model
    return base.with_name(f"{base.name}_{rate_hz // 1000}k.onnx")


def names() -> list[str]:
    """The models of `models/` that are there for every rate."""
    found = [{path.name for path in _folder().glob(f"*_{rate // 1000}k.onnx")} for rate in RATES_HZ]
    every = set.intersection(*({name.rpartition("_")[0] for name in rate} for rate in found))
    return sorted(every)


def _known(model: str, rate: int) -> Path:
    graph = graph_path(model, rate)
    if "/" not in model and not graph.exists():
        raise ConfigError(
            f"engine.model: no {graph.name} in models/; there are {', '.join(names())}; expected one of these, a path "
            "without its _8k.onnx, or a card ending in .yaml"
        )
    return graph


def _folder() -> Path:
    return Path(str(resources.files("models")))
