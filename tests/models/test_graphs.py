"""The exported graphs keep what the engine and the cards promise: sizes, delay, levels, and finite sound."""

import hashlib

import numpy as np
import pytest

from tests.models.graphs import FOLDER, NAMES, UNTOUCHED, card, db, noise, run, session, voice

TWINS = [name for name in NAMES if name.replace("_", "_fp32_") in NAMES]
"""Graphs in int8 that lie beside their like in float32."""


def test_both_rates_have_a_standard_network():
    assert {"standard_8k", "standard_16k"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_card_describes_the_graph_beside_it(name: str):
    about, graph = card(name), session(name)
    assert hashlib.sha256((FOLDER / f"{name}.onnx").read_bytes()).hexdigest() == about["sha256"]
    assert [(i.name, i.shape[1]) for i in graph.get_inputs()] == [
        ("pcm", about["hop"]), ("state", about["state"]), ("control", 2),
    ]  # fmt: skip
    assert [(o.name, o.shape[1]) for o in graph.get_outputs()] == [
        ("pcm_out", about["hop"]), ("state_out", about["state"]), ("prob", 4),
    ]  # fmt: skip
    assert about["hop"] * 100 == about["rate"]
    assert about["state"] % 16 == 0


@pytest.mark.parametrize("name", NAMES)
def test_the_card_says_where_the_network_comes_from_and_what_it_can(name: str):
    about = card(name)
    assert about["name"] == name
    assert name.endswith(f"_{about['rate'] // 1000}k")
    assert about["training_data"] and about["licence"]
    assert about["mixture_hours"] > 0 and about["training_steps"] > 0
    assert about["parameters"] > 0 and about["streams_per_core"] and about["cpu"] and about["onnxruntime"]
    assert about["quality"], "measure it: python -m models.evaluate --cards"


def test_every_graph_has_a_card_and_every_card_a_graph():
    assert {path.stem for path in FOLDER.glob("*_*k.json")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_least_gain_of_one_only_delays(name: str):
    about = card(name)
    pcm = np.clip(noise(about["rate"], 3, 0.5, 0.4), -1, 1)
    out = run(name, pcm, UNTOUCHED)[0]
    np.testing.assert_allclose(out[:, about["delay"] :], pcm[:, : -about["delay"]], atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_the_least_gain_limits_what_is_taken_away(name: str):
    rate = card(name)["rate"]
    pcm = noise(rate, 1, 3.0)
    limited, unlimited = run(name, pcm, (0.25, 1.0))[0], run(name, pcm)[0]
    half = pcm.shape[1] // 2
    assert db(limited[:, half:]) >= db(pcm[:, half:]) - 12.5
    assert db(unlimited[:, half:]) < db(pcm[:, half:]) - 15


@pytest.mark.parametrize("name", NAMES)
def test_probabilities_are_shares(name: str):
    rate = card(name)["rate"]
    probabilities = run(name, np.stack([voice(rate, 1.0), noise(rate, 1, 1.0)[0]]))[2]
    assert probabilities.min() >= 0 and probabilities.max() <= 1


@pytest.mark.parametrize("name", NAMES)
def test_silence_stays_silent(name: str):
    out, state, _ = run(name, np.zeros((2, card(name)["rate"]), np.float32))
    assert np.abs(out).max() == 0
    assert np.isfinite(state).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_full_scale_square_wave_gives_finite_sound(name: str):
    rate = card(name)["rate"]
    square = np.sign(np.sin(2 * np.pi * 200 * np.arange(rate) / rate)).astype(np.float32)[None]
    parts = run(name, square)
    assert all(np.isfinite(part).all() for part in parts)
    assert np.abs(parts[0]).max() < 2


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("hz", [(697.0, 1209.0), (941.0, 1477.0), (425.0,), (2100.0,)])
def test_tones_pass(name: str, hz: tuple[float, ...]):
    rate = card(name)["rate"]
    t = np.arange(rate * 2) / rate
    tone = sum(0.15 * np.sin(2 * np.pi * f * t) for f in hz).astype(np.float32)[None]
    out = run(name, tone)[0]
    assert abs(db(out[:, rate // 2 :]) - db(tone[:, rate // 2 :])) < 1.5


@pytest.mark.parametrize("name", NAMES)
def test_quiet_and_loud_noise_fall_alike(name: str):
    rate = card(name)["rate"]
    falls = []
    for loudness in (0.005, 0.02, 0.1):
        pcm = noise(rate, 1, 3.0, loudness)
        falls.append(db(run(name, pcm)[0][:, rate:]) - db(pcm[:, rate:]))
    assert max(falls) < -12


@pytest.mark.parametrize("name", NAMES)
def test_a_reset_row_forgets(name: str):
    rate = card(name)["rate"]
    pcm = voice(rate, 0.3)[None]
    first = run(name, pcm)[0]
    run(name, np.clip(noise(rate, 1, 0.3, 0.7), -1, 1))
    np.testing.assert_array_equal(run(name, pcm)[0], first)


@pytest.mark.parametrize("name", TWINS)
def test_int8_sounds_like_float32(name: str):
    rate = card(name)["rate"]
    pcm = (voice(rate, 3.0) + noise(rate, 1, 3.0, 0.03)[0])[None]
    exact, rounded = run(name.replace("_", "_fp32_"), pcm)[0], run(name, pcm)[0]
    assert db(exact - rounded) < db(exact) - 25
