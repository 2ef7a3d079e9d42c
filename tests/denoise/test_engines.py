"""Engines behind the contract: rows are independent, state is a row's own, faults are named."""

import json
import shutil
import sys

import numpy as np
import pytest

from gateway.config import EngineConfig
from gateway.denoise import engines
from gateway.denoise.ort import OrtEngine
from gateway.errors import ConfigError, EngineError
from tests.denoise.tools import noise, recording, run, stream

SLOTS = 40
KINDS = ["ort", "passthrough", "rnnoise", "speex"]
RATES = engines.RATES_HZ
DELAYS_MS = {"ort": 10, "passthrough": 10, "speex": 10, "rnnoise": 20}
"""Without resampling, which adds 4 ms at 8 kHz and 2 ms at 16 kHz."""


def build(kind: str, rate: int):
    return engines.build(EngineConfig(kind=kind), SLOTS)[rate]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rate", RATES)
def test_audio_left_alone_comes_back_late_by_exactly_the_delay(kind, rate):
    engine = build(kind, rate)
    frames = noise(1, 20, engine.hop)[0]
    out = stream(engine, 3, frames, gain=1.0)
    assert engine.hop == rate // 100
    assert engine.delay == DELAYS_MS[kind] * rate // 1000 + 32 * (kind == "rnnoise")
    np.testing.assert_allclose(out[engine.delay :], frames.reshape(-1)[: -engine.delay], atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rate", RATES)
def test_denoised_audio_is_late_by_the_delay_too(kind, rate):
    engine = build(kind, rate)
    frames = recording("clean_8k.wav", rate, 2.0)
    apart = np.correlate(stream(engine, 0, frames), frames.reshape(-1)[400:-400], "valid")
    assert abs(int(np.argmax(apart)) - 400 - engine.delay) <= (rate == 16000)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rate", RATES)
def test_a_row_does_not_know_who_shares_its_batch(kind, rate):
    alone, crowded = build(kind, rate), build(kind, rate)
    frames = noise(SLOTS, 6, alone.hop)
    frames[1:] *= 10
    together = run(crowded, np.arange(SLOTS), frames)
    np.testing.assert_array_equal(run(alone, [0], frames[:1]), together[:1])


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_different_length_end_where_their_frames_end(kind):
    ragged, even = build(kind, 8000), build(kind, 8000)
    frames = noise(2, 4, 80)
    run(ragged, [0, 1], frames, counts=[4, 2])
    run(even, [0], frames[:1])
    run(even, [1], frames[1:, :2])
    more = noise(2, 1, 80, seed=1)
    np.testing.assert_array_equal(run(ragged, [0, 1], more), run(even, [0, 1], more))


@pytest.mark.parametrize("kind", KINDS)
def test_a_reset_row_is_a_fresh_stream(kind):
    used, fresh = build(kind, 8000), build(kind, 8000)
    run(used, [5, 6], noise(2, 10, 80))
    used.reset(np.array([5]))
    frames = noise(1, 3, 80, seed=2)
    np.testing.assert_array_equal(run(used, [5], frames), run(fresh, [5], frames))


@pytest.mark.parametrize(("kind", "at_least_db"), [("ort", 12), ("rnnoise", 12), ("speex", 8)])
def test_noise_goes_down_and_silence_stays_silent(kind, at_least_db):
    engine = build(kind, 8000)
    out = run(engine, [0, 1], np.concatenate([noise(1, 300, 80), np.zeros((1, 300, 80), np.float32)]))
    assert 10 * np.log10(np.mean(out[0, 100:] ** 2) / 0.05**2) < -at_least_db
    assert np.abs(out[1]).max() < 1e-4


def test_rnnoise_says_what_is_speech():
    engine = build("rnnoise", 16000)
    frames = np.stack([recording("clean_8k.wav", 16000, 2.0), noise(1, 200, 160)[0]])
    ticket = engine.submit(np.array([0, 1]), frames, np.full(2, 200), np.zeros((2, 2), np.float32))
    speech = engine.collect(ticket, 0.0).probabilities[..., 0].mean(axis=1)
    assert speech[0] > 0.5 > speech[1]


@pytest.mark.parametrize(("kind", "package"), [("rnnoise", "pyrnnoise"), ("speex", "speexdsp_ns")])
def test_an_engine_that_is_not_installed_says_how_to_get_it(kind, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=rf"{kind} is not installed.*pip install -e '\.\[{kind}\]'"):
        build(kind, 8000)


def test_a_broken_batch_raises_an_engine_error():
    with pytest.raises(EngineError, match="network failed"):
        run(build("ort", 8000), [0], np.zeros((1, 1, 81), np.float32))


def test_a_missing_model_is_named_beside_those_there_are():
    with pytest.raises(ConfigError, match=r"engine.model: no absent_8k.onnx in models/; there are .*standard"):
        engines.build(EngineConfig(model="absent"), 1)


def test_a_missing_path_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"engine.model: cannot read .*absent_8k.json"):
        engines.build(EngineConfig(model=str(tmp_path / "absent")), 1)


def test_every_model_can_be_chosen():
    assert {"standard", "standard_fp32"} <= set(engines.names())
    for name in engines.names():
        assert set(engines.build(EngineConfig(model=name), 2)) == set(RATES)


def test_wide_band_calls_of_a_narrow_band_model_have_another_which_the_log_says(caplog):
    assert engines.serving("standard_fp32", 8000).name == "standard_fp32_8k.onnx"
    assert engines.serving("standard_fp32", 16000).name == "standard_16k.onnx"
    assert engines.serving("light", 16000).name == "light_16k.onnx"
    engines.build(EngineConfig(model="standard_fp32"), 2)
    assert caplog.messages == ["standard_fp32 is a model for 8000 Hz: calls at 16000 Hz use standard"]


@pytest.mark.parametrize("damage", ["graph", "card"])
def test_a_damaged_model_is_refused(tmp_path, damage):
    source = engines.graph_path("standard", 8000)
    graph = tmp_path / source.name
    shutil.copy(source, graph)
    card = json.loads(source.with_suffix(".json").read_text())
    if damage == "graph":
        graph.write_bytes(source.read_bytes() + b"\0")
    else:
        del card["hop"]
    graph.with_suffix(".json").write_text(json.dumps(card))
    with pytest.raises(ConfigError, match="card"):
        OrtEngine(graph, 1)
