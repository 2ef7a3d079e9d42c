"""A call's output depends on nothing but the call: not on the batch it runs in, and not on the CPU that runs it."""

import os
import platform
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from tests.models.graphs import FOLDER, NAMES, card, noise, run, step, voice

FRAMES = 100
SIZES = (1, 2, 3, 5, 16, 17, 64, 129, 256)
NEIGHBOURS = {"silent": 0.0, "quiet": 1e-41, "loud": 1.0, "huge": 3e38, "infinite": np.inf, "broken": np.nan}
"""What fills the rows beside the call, and their states: a factor of noise; 1e-41 is a denormal number."""
EMULATOR = "qemu-x86_64"


class Batch(NamedTuple):
    rows: int
    at: float
    """Where among the rows the call is, 0..1."""
    neighbours: tuple[str, ...]
    """In turn."""


def batches(rows: st.SearchStrategy[int]) -> st.SearchStrategy[Batch]:
    kinds = st.lists(st.sampled_from(sorted(NEIGHBOURS)), min_size=1, max_size=3).map(tuple)
    return st.builds(Batch, rows, st.floats(0, 1), kinds)


@cache
def call(name: str) -> np.ndarray:
    """float32 [1, samples]: a voice in noise, then silence, then full scale."""
    rate = card(name)["rate"]
    parts = [voice(rate, 0.6) + noise(rate, 1, 0.6, 0.02)[0], np.zeros(rate // 5), np.sign(noise(rate, 1, 0.2)[0])]
    return np.concatenate(parts)[None].astype(np.float32)


@cache
def alone(name: str) -> list[list[np.ndarray]]:
    """The three outputs of each frame, in a batch of one."""
    about, after = card(name), []
    state = np.zeros((1, about["state"]), np.float32)
    for t in range(FRAMES):
        pcm = call(name)[:, t * about["hop"] : (t + 1) * about["hop"]]
        after.append(step(name, pcm, state, np.array([[0, 1]], np.float32)))
        state = after[-1][1]
    return after


def crowd(batch: Batch, width: int) -> np.ndarray:
    """float32 [rows, width] of neighbours."""
    rows = np.random.default_rng(3).standard_normal((batch.rows, width)).astype(np.float32).clip(-1, 1)
    factors = np.resize([NEIGHBOURS[kind] for kind in batch.neighbours], batch.rows).astype(np.float32)
    return rows * factors[:, None]


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=2, suppress_health_check=list(HealthCheck))
@example([Batch(rows, 0.7, ("loud", "broken")) for rows in SIZES])
@given(st.lists(batches(st.sampled_from(SIZES) | st.integers(1, 40)), min_size=1, max_size=6))
def test_a_call_sounds_the_same_in_any_batch_next_to_anything(name: str, shapes: list[Batch]):
    """The call moves from batch to batch, frame after frame, and takes its state along."""
    about, state = card(name), np.zeros(card(name)["state"], np.float32)
    hop, width = about["hop"], about["state"]
    crowds = [(crowd(shape, hop), crowd(shape, width), crowd(shape, 2)) for shape in shapes]
    for t in range(FRAMES):
        shape, (pcm, states, control) = shapes[t % len(shapes)], crowds[t % len(shapes)]
        at = int(shape.at * (shape.rows - 1))
        pcm[at], states[at], control[at] = call(name)[0, t * hop : (t + 1) * hop], state, (0, 1)
        together = step(name, pcm, states, control)
        for mine, many in zip(alone(name)[t], together, strict=True):
            assert mine[0].tobytes() == many[at].tobytes(), f"frame {t}, {shape}"
        state = together[1][at].copy()


def graph_of(name: str) -> onnx.GraphProto:
    return onnx.load(FOLDER / f"{name}.onnx").graph


def integer_weights(name: str) -> dict[str, np.ndarray]:
    """Signed codes [inputs, outputs] of the graph's integer products, by name."""
    graph = graph_of(name)
    products = {node.input[1] for node in graph.node if node.op_type.startswith("MatMulInteger")}
    return {i.name: numpy_helper.to_array(i).astype(int) for i in graph.initializer if i.name in products}


@pytest.mark.parametrize("name", NAMES)
def test_integer_products_fit_into_the_16_bits_of_cpus_without_vnni(name: str):
    """Such a CPU adds two neighbouring products before it widens them, and clips: inputs reach 255."""
    weights = integer_weights(name)
    for codes in weights.values():
        pairs = codes.reshape(-1, 2, codes.shape[1])
        assert 255 * np.maximum(pairs, 0).sum(axis=1).max() <= 32767
        assert 255 * np.minimum(pairs, 0).sum(axis=1).min() >= -32768
    assert weights or "fp32" in name


def heard(name: str) -> dict[str, np.ndarray]:
    """What the graph makes of a fifth of a second of three calls, by output."""
    size = card(name)["rate"] // 5
    pcm = np.concatenate([call(name)[:, size : 2 * size], call(name)[:, -size:], noise(size * 5, 1, 0.2, 0.3)])
    return dict(zip((f"{name} pcm", f"{name} state", f"{name} prob"), run(name, pcm), strict=True))


@pytest.mark.skipif(platform.machine() != "x86_64", reason="needs an x86 CPU")
@pytest.mark.skipif(shutil.which(EMULATOR) is None, reason=f"needs {EMULATOR} (Debian: qemu-user)")
def test_a_cpu_without_vnni_computes_the_same(tmp_path: Path):
    """All graphs once more on an emulated Haswell: AVX2, but neither AVX-512 nor VNNI.

    Bit for bit, except where there is a softmax: its exponentials differ in the last bit between AVX2 and AVX-512.
    """
    child = "import sys, numpy as np; from tests.models.test_invariance import NAMES, heard; "
    child += "np.savez(sys.argv[1], **{k: v for name in NAMES for k, v in heard(name).items()})"
    command = [EMULATOR, "-cpu", "Haswell-noTSX", sys.executable, "-c", child, str(tmp_path / "haswell.npz")]
    environment = os.environ | {"PYTHONPATH": str(FOLDER.parent)}
    subprocess.run(command, cwd=FOLDER.parent, env=environment, check=True, capture_output=True, timeout=600)
    there = np.load(tmp_path / "haswell.npz")
    for name in NAMES:
        softmax = any(node.op_type == "Softmax" for node in graph_of(name).node)
        for key, here in heard(name).items():
            np.testing.assert_allclose(there[key], here, rtol=0, atol=1e-3 if softmax else 0, err_msg=key)
