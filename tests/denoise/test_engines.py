"""Engines behind the contract: rows are independent, state is a row's own, faults are named."""

import json
import shutil

import numpy as np
import pytest

from gateway.config import EngineConfig
from gateway.denoise import engines
from gateway.denoise.ort import OrtEngine
from gateway.errors import ConfigError, EngineError

SLOTS = 40
KINDS = ["ort", "passthrough"]
RATES = engines.RATES_HZ


def build(kind: str, rate: int):
    return engines.build(EngineConfig(kind=kind), SLOTS)[rate]


def noise(rows: int, frames: int, hop: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.05, (rows, frames, hop)).astype(np.float32)


def run(engine, slots, frames, counts=None, gain: float = 0.0) -> np.ndarray:
    slots = np.asarray(slots)
    counts = np.full(len(slots), frames.shape[1]) if counts is None else np.asarray(counts)
    control = np.tile(np.array([[gain, 1.0]], np.float32), (len(slots), 1))
    return engine.collect(engine.submit(slots, frames, counts, control), np.inf).frames


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rate", RATES)
def test_audio_left_alone_comes_back_late_by_exactly_the_delay(kind, rate):
    engine = build(kind, rate)
    frames = noise(1, 20, engine.hop)
    out = run(engine, [3], frames, gain=1.0)
    assert engine.delay == engine.hop == rate // 100
    np.testing.assert_allclose(out[0, 1:], frames[0, :-1], atol=1e-4)


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


def test_the_network_takes_noise_away_and_leaves_silence_silent():
    engine = build("ort", 8000)
    out = run(engine, [0, 1], np.concatenate([noise(1, 300, 80), np.zeros((1, 300, 80), np.float32)]))
    assert 10 * np.log10(np.mean(out[0, 100:] ** 2) / 0.05**2) < -12
    assert np.abs(out[1]).max() < 1e-4


def test_a_broken_batch_raises_an_engine_error():
    with pytest.raises(EngineError, match="network failed"):
        run(build("ort", 8000), [0], np.zeros((1, 1, 81), np.float32))


def test_a_missing_model_is_named():
    with pytest.raises(ConfigError, match=r"engine.model: cannot read .*absent_8k.json"):
        engines.build(EngineConfig(model="absent"), 1)


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
