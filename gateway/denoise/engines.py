"""The only place that knows every engine: from configuration to engines by rate."""

import logging
import secrets
import time
from importlib import resources
from pathlib import Path

from gateway.config import EngineConfig
from gateway.denoise import card
from gateway.denoise.adapter import AdaptedEngine
from gateway.denoise.brought import BroughtModel
from gateway.denoise.engine import Engine, RemoteEngine
from gateway.denoise.ort import OrtEngine
from gateway.denoise.passthrough import PassthroughEngine
from gateway.denoise.rnnoise import Rnnoise
from gateway.denoise.speex import Speex
from gateway.errors import ConfigError

RATES_HZ = (8000, 16000)
FALLBACK = "standard"
"""Serves calls of a rate above a model's own."""
CONNECT_LOOK_S = 0.02
NARROW = "%s is a model for %d Hz: calls at %d Hz use %s"
SUBSTITUTE = "light"
"""Runs in the worker while no Triton does."""
log = logging.getLogger(__name__)


def build(config: EngineConfig, slots: int) -> dict[int, Engine]:
    """An engine for each rate. Raises ConfigError when a model or library is missing or damaged."""
    return {rate: _build(config, rate, slots) for rate in RATES_HZ}


def connect(engines: dict[int, Engine], patience_s: float) -> None:
    """Give remote engines so long to find their servers."""
    remotes = [engine for engine in engines.values() if isinstance(engine, RemoteEngine)]
    until = time.monotonic() + patience_s
    while any(engine.fault for engine in remotes) and time.monotonic() < until:
        for engine in remotes:
            engine.tend(time.monotonic())
        time.sleep(CONNECT_LOOK_S)


def _build(config: EngineConfig, rate: int, slots: int) -> Engine:
    if config.kind == "passthrough":
        return PassthroughEngine(rate, slots)
    if config.kind == "triton":
        return _triton(config, rate, slots)
    if config.kind == "rnnoise":
        return AdaptedEngine(Rnnoise(slots), rate, slots)
    if config.kind == "speex":
        return AdaptedEngine(Speex(rate, slots), rate, slots)
    if brought(config):
        return _bring(Path(config.model), rate, slots)
    return OrtEngine(_known(config.model, rate), slots)


def _triton(config: EngineConfig, rate: int, slots: int) -> Engine:
    try:
        from gateway.denoise.triton.engine import TritonEngine
        from gateway.denoise.triton.fallback import FallbackEngine
    except ImportError as error:
        missing = error.name or "tritonclient"
        raise ConfigError(f"engine.kind: triton needs {missing}: pip install -e '.[triton]' in the checkout") from None
    first = secrets.randbelow(len(config.endpoints))  # workers spread
    endpoints = config.endpoints[first:] + config.endpoints[:first]
    model = model_name(config.model, rate), config.model_version
    remote = TritonEngine(endpoints, model, rate, slots, config.deadline_ms / 1000)
    if config.fallback == "none":
        return remote
    return FallbackEngine(remote, OrtEngine(graph_path(SUBSTITUTE, rate), slots), SUBSTITUTE, slots)


def model_name(model: str, rate_hz: int) -> str:
    """What Triton calls a model at a rate: `light_8k`."""
    return f"{Path(model).name}_{rate_hz // 1000}k"


def brought(config: EngineConfig) -> bool:
    """Whether the model is a card of the user's own."""
    return config.kind == "ort" and Path(config.model).suffix in (".yaml", ".yml")


def _bring(path: Path, rate: int, slots: int) -> Engine:
    own = card.read(path).rate
    if own < rate:
        log.warning(NARROW, path, own, rate, FALLBACK)
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
    """The models of `models/` that can be chosen."""
    return sorted(path.stem.removesuffix("_8k") for path in _folder().glob("*_8k.onnx"))


def serving(model: str, rate_hz: int) -> Path:
    """The graph that serves calls of a rate: the model's own, or `FALLBACK`'s above the rate of a model that has one
    only."""
    graph, narrow = (graph_path(model, rate) for rate in (rate_hz, RATES_HZ[0]))
    return graph_path(FALLBACK, rate_hz) if narrow.exists() and not graph.exists() else graph


def _known(model: str, rate: int) -> Path:
    graph = serving(model, rate)
    if graph != graph_path(model, rate):
        log.warning(NARROW, model, RATES_HZ[0], rate, FALLBACK)
    if "/" not in model and not graph.exists():
        raise ConfigError(
            f"engine.model: no {graph.name} in models/; there are {', '.join(names())}; expected one of these, a path "
            "without its _8k.onnx, or a card ending in .yaml"
        )
    return graph


def _folder() -> Path:
    return Path(str(resources.files("models")))
