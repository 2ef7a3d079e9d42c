"""Writes a model repository for Triton: configuration, the Python backend's model, and networks that keep their state.

A graph of `models/` takes a row of state for each row of audio. Here it is wrapped so that the state of all calls is
one matrix, read and written at the rows of the batch; bound to the same memory on both ends it stays where it is. For
torch the graph's arrays are written, beside the file that computes with them.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from gateway.denoise.engines import RATES_HZ, graph_path, model_name
from gateway.denoise.ort import Card, read_card
from gateway.denoise.triton import WIRE, arrays
from gateway.denoise.triton.whole import in_floats
from gateway.errors import CallerError

IDLE_MICROSECONDS = 60_000_000
"""After so long without a batch Triton ends a worker's sequence; engines send one without rows before."""
WORKERS = 16384
"""Sequences at once for each instance, 12 MB of the server. Nobody ends the one of a lost connection: it stays until
`IDLE_MICROSECONDS` have passed. So many are 270 engines that lose theirs every second for a minute."""
OWN = ('parameters { key: "sha256"', "version_policy")
"""How lines of `config.pbtxt` begin that versions need not agree in: `sha256` is that of the last one exported."""


Precision = Literal["card", "float32", "bfloat16"]
Runtime = Literal["onnx", "torch"]


@dataclass(frozen=True, slots=True)
class Repository:
    """What to write."""

    models: tuple[str, ...]
    device: Literal["cpu", "gpu"] = "cpu"
    gpus: tuple[int, ...] = (0,)
    """One instance, with rows of its own, on each."""
    rows: int = 8192
    """Slots that the workers of an instance have together."""
    version: int = 1
    precision: Precision = "card"
    """Of the products: `card` is as in models/, mostly int8; ONNX Runtime on GPUs needs `float32` or `bfloat16`."""
    runtime: Runtime = "onnx"
    """What runs the network in Triton's Python."""


def write(folder: Path, repository: Repository) -> list[Path]:
    """Write all models at the rates they have; returns their folders. Raises ConfigError or CallerError."""
    written = []
    for model in repository.models:
        graphs = {rate_hz: graph_path(model, rate_hz) for rate_hz in RATES_HZ}
        there = {rate_hz: graph for rate_hz, graph in graphs.items() if graph.exists()}
        if not there:
            missing = " nor ".join(str(graph) for graph in graphs.values())
            raise CallerError(f"--model {model}: there is neither {missing}; expected a name of models/, such as light")
        for rate_hz, graph in there.items():
            written.append(_write_model(folder / model_name(model, rate_hz), graph, repository))
    return written


def _write_model(place: Path, graph: Path, repository: Repository) -> Path:
    card = read_card(graph)
    version = place / str(repository.version)
    config = configuration(place.name, card, repository)
    try:
        _check_others(version, config)
        version.mkdir(parents=True, exist_ok=True)
        (_write_arrays if repository.runtime == "torch" else _write_graph)(version, graph, repository.precision)
        _copy("model.py", version)
        (place / "config.pbtxt").write_text(config, encoding="utf-8")
    except OSError as error:
        raise CallerError(f"cannot write {error.filename}: {error.strerror}") from None
    return place


def _check_others(version: Path, config: str) -> None:
    """Versions share `config.pbtxt`, and are served side by side. Raises CallerError when this one would change it."""
    place = version.parent
    others = [path.parent.name for path in place.glob("*/model.py") if path.parent != version]
    if not others:
        return
    before = (place / "config.pbtxt").read_text(encoding="utf-8").splitlines()
    changed = [line for line in config.splitlines() if line not in before and not line.startswith(OWN)]
    if changed:
        raise CallerError(
            f"{place}: version {', '.join(sorted(others))} was exported with other options, and all versions share "
            f"config.pbtxt, which would change to: {changed[0]}; use the same options, another folder, or delete it"
        )


def _write_graph(version: Path, graph: Path, precision: Precision) -> None:
    (version / "graph.onnx").write_bytes(in_int16(stateful(graph, read_card(graph), precision)))


def _write_arrays(version: Path, graph: Path, precision: Precision) -> None:
    try:
        found = arrays.read(graph)
    except ValueError as error:
        raise CallerError(f"--runtime torch: {error}; --runtime onnx takes any graph with a card") from None
    stored: dict[str, Any] = arrays.in_float(found) if precision == "float32" else found
    np.savez(version / "weights.npz", **stored)
    _copy("device_network.py", version)


def _copy(name: str, version: Path) -> None:
    shutil.copyfile(Path(__file__).with_name(name), version / name)


def stateful(path: Path, card: Card, precision: Precision, imitate: bool = False) -> bytes:
    """The graph on rows of a matrix: inputs pcm, control, read int64 [n], write int64 [n, 1], matrix; outputs
    matrix_out, pcm_out, prob.

    ONNX Runtime's ScatterND writes only the rows when both matrices are the same memory. A fresh stream reads a row
    that is always zero. imitate: see `whole`.
    """
    onnx = arrays.onnx()
    model = onnx.load(str(path))
    graph = model.graph
    if precision != "card":
        in_floats(graph, narrow=precision == "bfloat16", imitate=imitate)
    make, types = onnx.helper, onnx.TensorProto
    before = make.make_node("Gather", ["matrix", "read"], ["state"], name="state")
    after = make.make_node("ScatterND", ["matrix", "write", "state_out"], ["matrix_out"], name="matrix_out")
    nodes = [before, *graph.node, after]
    graph.ClearField("node")
    graph.node.extend(nodes)
    inputs = [port for port in graph.input if port.name != "state"]
    inputs += [
        make.make_tensor_value_info("read", types.INT64, ["n"]),
        make.make_tensor_value_info("write", types.INT64, ["n", 1]),
        make.make_tensor_value_info("matrix", types.FLOAT, ["all", card.state]),
    ]
    outputs = [port for port in graph.output if port.name != "state_out"]
    outputs.insert(0, make.make_tensor_value_info("matrix_out", types.FLOAT, ["all", card.state]))
    for field, ports in (("input", inputs), ("output", outputs)):
        graph.ClearField(field)
        getattr(graph, field).extend(ports)
    written: bytes = model.SerializeToString()
    return written


def in_int16(stateful_graph: bytes) -> bytes:
    """The same with 16-bit samples, rounded and clipped on the device, half the bytes of float32: pcm16 and pcm16_out,
    int16 [n, hop], for pcm and pcm_out. Rows with a value that is no number have `prob_out` NaN, and any samples."""
    onnx = arrays.onnx()
    model = onnx.load_from_string(stateful_graph)
    graph, make, types = model.graph, onnx.helper.make_node, onnx.TensorProto
    constants = {
        "wire.step": 1 / 32768, "wire.steps": 32768.0, "wire.low": -32768.0, "wire.high": 32767.0, "wire.nothing": 0.0,
    }  # fmt: skip
    graph.initializer.extend(
        onnx.numpy_helper.from_array(np.array(value, np.float32), name) for name, value in constants.items()
    )
    graph.initializer.append(onnx.numpy_helper.from_array(np.array([1]), "wire.axis"))
    first = [
        make("Cast", ["pcm16"], ["wire.pcm"], name="wire.pcm", to=types.FLOAT),
        make("Mul", ["wire.pcm", "wire.step"], ["pcm"], name="wire.scaled"),
    ]
    last = [
        make("Concat", ["pcm_out", "prob"], ["wire.all"], name="wire.all", axis=1),
        make("Mul", ["wire.all", "wire.nothing"], ["wire.none"], name="wire.none"),  # NaN where it is no number, else 0
        make("ReduceSum", ["wire.none", "wire.axis"], ["wire.spoilt"], name="wire.spoilt"),
        make("Add", ["prob", "wire.spoilt"], ["prob_out"], name="prob_out"),
        make("Mul", ["pcm_out", "wire.steps"], ["wire.out"], name="wire.out"),
        make("Round", ["wire.out"], ["wire.rounded"], name="wire.rounded"),
        make("Clip", ["wire.rounded", "wire.low", "wire.high"], ["wire.clipped"], name="wire.clipped"),
        make("Cast", ["wire.clipped"], ["pcm16_out"], name="pcm16_out", to=types.INT16),
    ]
    nodes = [*first, *graph.node, *last]
    graph.ClearField("node")
    graph.node.extend(nodes)
    for ports, old, new, element in (
        (graph.input, "pcm", "pcm16", types.INT16),
        (graph.output, "pcm_out", "pcm16_out", types.INT16),
        (graph.output, "prob", "prob_out", types.FLOAT),
    ):
        port = next(port for port in ports if port.name == old)
        port.name, port.type.tensor_type.elem_type = new, element
    written: bytes = model.SerializeToString()
    return written


def configuration(name: str, card: Card, repository: Repository) -> str:
    """`config.pbtxt`. A sequence is a worker, never a call; `oldest` runs what several workers have sent together."""
    hop = card.hop
    inputs = {
        "BATCH": ("INT64", [3]), "SLOTS": ("INT32", [-1]), "COUNTS": ("INT32", [-1]), "PCM": ("INT16", [-1, hop]),
        "CONTROL": ("FP32", [-1, 2]), "RESET": ("UINT8", [-1]),
    }  # fmt: skip
    outputs = {"BATCH": ("INT64", [-1]), "PCM": ("INT16", [-1, hop]), "PROB": ("FP32", [-1, 4])}
    parameters = {
        "wire": WIRE, "rate": card.rate, "hop": hop, "delay": card.delay, "state": card.state,
        "rows": repository.rows, "runtime": repository.runtime, "precision": repository.precision,
        "sha256": card.sha256,
    }  # fmt: skip
    gpus = f"gpus: {list(repository.gpus)}" if repository.device == "gpu" else ""
    return "\n".join(
        [
            f'name: "{name}"',
            'backend: "python"',
            "max_batch_size: 64  # requests, each a worker's batch, that run together",
            *(_tensor("input", key, *shape, ragged=True) for key, shape in inputs.items()),
            *(_tensor("output", key, *shape) for key, shape in outputs.items()),
            "sequence_batching {",
            f"  max_sequence_idle_microseconds: {IDLE_MICROSECONDS}",
            f"  oldest {{ max_candidate_sequences: {WORKERS} max_queue_delay_microseconds: 0 }}",
            '  control_input [{ name: "START" control [{ kind: CONTROL_SEQUENCE_START int32_false_true: [0, 1] }] }]',
            '  control_input [{ name: "CORRID" control [{ kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 }] }]',
            "}",
            f"instance_group [{{ count: 1 kind: KIND_{repository.device.upper()} {gpus} }}]",
            "version_policy { all { } }",
            *(
                f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}'
                for key, value in parameters.items()
            ),
            "",
        ]
    )


def _tensor(kind: str, name: str, type_name: str, dims: list[int], ragged: bool = False) -> str:
    more = " allow_ragged_batch: true" if ragged else ""
    return f'{kind} [{{ name: "{name}" data_type: TYPE_{type_name} dims: {json.dumps(dims)}{more} }}]'
