"""The only place that knows every engine: from configuration to engines by rate."""

from importlib import resources
from pathlib import Path

from gateway.config import EngineConfig
from gateway.denoise.engine import Engine
from gateway.denoise.ort import OrtEngine
from gateway.denoise.passthrough import PassthroughEngine

RATES_HZ = (8000, 16000)


def build(config: EngineConfig, slots: int) -> dict[int, Engine]:
    """An engine for each rate. Raises ConfigError when a model is missing or damaged."""
    if config.kind == "passthrough":
        return {rate: PassthroughEngine(rate, slots) for rate in RATES_HZ}
    return {rate: OrtEngine(graph_path(config.model, rate), slots) for rate in RATES_HZ}


def graph_path(model: str, rate_hz: int) -> Path:
    """Where a model's graph lies: a name of `models/`, or a path without its `_8k.onnx`."""
    base = Path(model) if "/" in model else Path(str(resources.files("models"))) / model
    return base.with_name(f"{base.name}_{rate_hz // 1000}k.onnx")
