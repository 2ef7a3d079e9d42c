"""What a person reads when the gateway starts."""

import pytest

from gateway import banner
from gateway.app import Listening
from gateway.config import Config, EngineConfig


def models(engine: EngineConfig) -> str:
    listening = Listening(ng=("127.0.0.1:2223",), admin="127.0.0.1:8080", interfaces={}, workers=1)
    (line,) = [line for line in banner.text(Config(engine=engine), listening).splitlines() if "  models " in line]
    return line.split(maxsplit=1)[1]


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        (EngineConfig(), "light (light_8k.onnx, light_16k.onnx)"),
        (
            EngineConfig(kind="triton", model="standard", endpoints=("10.0.0.9:8001", "10.0.0.10:8001")),
            "standard (standard_8k, standard_16k) on Triton at 10.0.0.9:8001, 10.0.0.10:8001",
        ),
        (EngineConfig(kind="speex"), "none: engine.kind is speex, which takes the calls one by one"),
        (EngineConfig(kind="passthrough"), "none: engine.kind is passthrough, nothing is denoised"),
    ],
    ids=["ort", "triton", "speex", "passthrough"],
)
def test_the_models_are_those_that_run(engine, said):
    assert models(engine) == said
