"""How many streams does a GPU hold? Time of a step against the rows of its batch, without network or server around it.

Two ways to run our network on a device: `torch` (`gateway/denoise/triton/device_network.py`: CUDA graphs) and `onnx`
(what `export-triton` writes for ONNX Runtime with IO binding). Both take 16-bit audio of any slots in any order, keep
every stream's state on the device, and are timed from audio in the host's memory to audio in the host's memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gateway.denoise.ort import read_card
from gateway.denoise.triton.export import in_int16, stateful

if TYPE_CHECKING:
    from gateway.denoise.triton.device_network import DeviceNetwork

Step = Callable[[np.ndarray], np.ndarray]
"""int16 [rows, hop] -> int16 [rows, hop]"""
MODELS = ("light_8k", "standard_8k", "light_16k", "standard_16k")
PATHS = ("torch-bf16", "torch-fp32", "onnx")
ROWS = (1024, 4096, 8192, 16384, 32768, 49152, 65536, 98304, 131072, 163840, 204800, 262144)
QUICK_ROWS = (64, 256)
LEAST_GAIN = 0.063
FOLDER = Path(__file__).parent.parent / "models"


class GpuError(Exception):
    """Says what is missing on this machine."""


@dataclass(frozen=True, slots=True)
class Options:
    """What to measure. limit_ms: 99th percentile of a step; 10 ms is what real time asks for."""

    device: str = "cuda"
    models: tuple[str, ...] = MODELS
    paths: tuple[str, ...] = PATHS
    rows: tuple[int, ...] = ROWS
    steps: int = 300
    limit_ms: float = 8.0


@dataclass(frozen=True, slots=True)
class Timed:
    """Steps of one batch size."""

    model: str
    path: str
    rows: int
    p50_ms: float
    p99_ms: float
    held: bool


@dataclass(slots=True)
class Report:
    """All batch sizes, and why a path was not measured."""

    device: str
    """The GPU's name; `CPU (dry run)` on a processor."""
    limit_ms: float
    timed: list[Timed]
    notes: list[str]

    def best(self, model: str, path: str) -> Timed | None:
        """The largest batch that held, of those below the first that did not."""
        found = None
        for timed in (t for t in self.timed if (t.model, t.path) == (model, path)):
            if not timed.held:
                break
            found = timed
        return found


def run(options: Options, say: Callable[[str], None]) -> Report:
    """Every model and path, up to the first batch beyond the limit. Raises GpuError without the device."""
    report = Report(device_name(options.device), options.limit_ms, [], [])
    for model in options.models:
        for path in options.paths:
            try:
                for timed in _ladder(options, model, path):
                    report.timed.append(timed)
                    say(f"{model} {path} {timed.rows} rows: p50 {timed.p50_ms:.2f} ms, p99 {timed.p99_ms:.2f} ms")
            except (GpuError, MemoryError, RuntimeError) as error:  # torch and ONNX Runtime: out of device memory
                report.notes.append(f"{model} {path}: {str(error).splitlines()[0]}")
                say(report.notes[-1])
    return report


def _ladder(options: Options, model: str, path: str) -> Iterator[Timed]:
    steps = _builder(options.device, model, path, max(options.rows))
    for rows in options.rows:
        step, hop = steps(rows)
        took = _times(step, rows, hop, options.steps)
        p50, p99 = (float(np.percentile(took, at)) for at in (50, 99))
        yield Timed(model, path, rows, round(p50, 3), round(p99, 3), p99 <= options.limit_ms)
        if p99 > options.limit_ms:
            return


def _times(step: Step, rows: int, hop: int, count: int) -> np.ndarray:
    """Milliseconds of each of `count` steps on loud noise, after a few that do not count."""
    rng = np.random.default_rng(0)
    frames = [rng.integers(-8000, 8000, (rows, hop), np.int16) for _ in range(4)]
    took = np.empty(count + 10)
    for i in range(len(took)):
        start = time.perf_counter()
        step(frames[i % 4])
        took[i] = time.perf_counter() - start
    return took[10:] * 1e3


def _builder(device: str, model: str, path: str, slots: int) -> Callable[[int], tuple[Step, int]]:
    """What makes a step of so many rows, and its hop."""
    try:
        from models import weights
    except ImportError as error:
        raise GpuError(f"{error.name} is not installed: pip install -e '.[gpu]' in the checkout") from None
    file = FOLDER / f"{model}.onnx"
    if path == "onnx":
        graph = in_int16(stateful(file, read_card(file), "float32"))
        return lambda rows: _onnx_step(graph, device, slots, rows)
    from gateway.denoise.triton.device_network import DeviceNetwork

    network = DeviceNetwork(weights.read(file), slots, device, "bf16" if path == "torch-bf16" else "fp32")
    return lambda rows: (_torch_step(network, rows), network.hop)


def _torch_step(network: DeviceNetwork, rows: int) -> Step:
    slots = np.random.default_rng(1).permutation(network.slots)[:rows]
    control = np.tile(np.array([[LEAST_GAIN, 1]], np.float32), (rows, 1))
    fresh = np.zeros(rows, bool)
    return lambda pcm: network.step(slots, pcm, control, fresh)[0]


def _onnx_step(graph: bytes, device: str, slots: int, rows: int) -> tuple[Step, int]:
    """As in Triton's Python: one matrix holds the state of all slots and stays on the device."""
    import onnxruntime as ort

    provider = "CUDAExecutionProvider" if device == "cuda" else "CPUExecutionProvider"
    if provider not in ort.get_available_providers():
        raise GpuError("this onnxruntime has no CUDA: pip uninstall onnxruntime, then pip install onnxruntime-gpu")
    session = ort.InferenceSession(graph, providers=[provider])
    if provider not in session.get_providers():  # it falls back to the CPU with no more than a log line
        raise GpuError("ONNX Runtime could not start on CUDA: its log above says which library is missing")
    shapes = {port.name: port.shape for port in session.get_inputs()}
    matrix = ort.OrtValue.ortvalue_from_numpy(np.zeros((slots, shapes["matrix"][1]), np.float32), device, 0)
    some = np.random.default_rng(1).permutation(slots)[:rows]
    control = np.tile(np.array([[LEAST_GAIN, 1]], np.float32), (rows, 1))

    def step(frames: np.ndarray) -> np.ndarray:
        bound = session.io_binding()
        for name, value in (("pcm16", frames), ("control", control), ("read", some), ("write", some[:, None])):
            bound.bind_cpu_input(name, value)
        bound.bind_ortvalue_input("matrix", matrix)
        bound.bind_ortvalue_output("matrix_out", matrix)
        bound.bind_output("pcm16_out")
        bound.bind_output("prob_out")
        session.run_with_iobinding(bound)
        clean: np.ndarray = bound.get_outputs()[1].numpy()
        return clean

    return step, shapes["pcm16"][1]


def device_name(device: str) -> str:
    """The GPU's name. Raises GpuError."""
    try:
        import torch
    except ImportError:
        raise GpuError("torch is not installed: pip install -e '.[gpu]' in the checkout") from None
    if device == "cpu":
        return "CPU (dry run)"
    if not torch.cuda.is_available():
        raise GpuError("torch finds no CUDA device here; `--device cpu --quick` is a dry run of the same code")
    return str(torch.cuda.get_device_name())


def to_json(report: Report) -> dict[str, object]:
    return asdict(report)


def to_text(report: Report) -> str:
    """Tables in Markdown: streams a device, then every batch."""
    head = f"| network | path | streams within {report.limit_ms:g} ms | p50 / p99 of that step |"
    lines = [f"Device: {report.device}", "", head, "|---|---|---|---|"]
    for model, path in dict.fromkeys((t.model, t.path) for t in report.timed):
        best = report.best(model, path)
        cells = (f"{best.rows:,}", f"{best.p50_ms:.2f} / {best.p99_ms:.2f} ms") if best else ("–", "–")
        lines.append(f"| {model} | {path} | {cells[0]} | {cells[1]} |")
    lines += ["", "| network | path | rows | p50 | p99 |", "|---|---|---|---|---|"]
    lines += [f"| {t.model} | {t.path} | {t.rows:,} | {t.p50_ms:.2f} ms | {t.p99_ms:.2f} ms |" for t in report.timed]
    if report.device.startswith("CPU"):
        lines += ["", "This was a dry run on a processor: it says nothing about a GPU."]
    return "\n".join([*lines, *(["", *report.notes] if report.notes else [])])
