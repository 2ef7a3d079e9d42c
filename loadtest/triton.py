"""What Triton adds: a batch there and back against the same batch embedded, and what narrower products change.

Starts the real server of deploy/triton/local.sh on this machine. The engine is measured as a media worker uses it; the
two run in turn, so that what else the machine does meets both.
"""

import asyncio
import json
import multiprocessing
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import grpc
import numpy as np
import soundfile
import soxr
from tritonclient.grpc import service_pb2_grpc

from gateway.control.worker_link import worker_environment
from gateway.denoise.engine import Engine, Floats
from gateway.denoise.engines import connect, graph_path, model_name
from gateway.denoise.ort import OrtEngine, read_card
from gateway.denoise.triton import wire
from gateway.denoise.triton.engine import TritonEngine
from gateway.denoise.triton.export import Precision, Repository, Runtime, stateful, write
from loadtest.processes import end, free_port, start
from loadtest.regions import Region
from models.runtime import cpu_name, session

ROOT = Path(__file__).parent.parent
WARM = 3
"""Batches before each turn that are not counted: caches are the other's."""
TURN = 25
"""Batches of each engine in a row, as a media process has them."""
PATIENCE_S = 60.0
DEADLINE_S = 5.0
AUDIO = ROOT / "tests" / "audio"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Row:
    """A batch size; milliseconds a batch of one frame a slot."""

    slots: int
    embedded_p50: float
    triton_p50: float
    triton_p99: float
    added_p50: float
    client_cpu: float
    """Of this process, in the engine's calls and gRPC's threads."""


@contextmanager
def server(model: str, runtime: Runtime) -> Iterator[str]:
    """A server with a model; gives its endpoint."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), Repository((model,), runtime=runtime))
        port = free_port(socket.SOCK_STREAM)
        script = [str(ROOT / "deploy/triton/local.sh"), *(["--torch"] if runtime == "torch" else [])]
        subprocess.run([*script, "--setup"], check=True)
        process = start([*script, folder, "--grpc-port", str(port)], subprocess.DEVNULL)
        try:
            yield f"127.0.0.1:{port}"
        finally:
            end(process)


def measure(model: str, rate: int, sizes: tuple[int, ...], rounds: int, runtime: Runtime) -> list[Row]:
    """Each size, `rounds` times both ways. Raises RuntimeError when the server does not come."""
    with server(model, runtime) as endpoint:
        slots = max(sizes)
        remote = client(endpoint, model, rate, slots)
        embedded = OrtEngine(graph_path(model, rate), slots)
        return [_row(remote, embedded, size, rounds) for size in sizes]


def client(endpoint: str, model: str, rate: int, slots: int) -> TritonEngine:
    """Connected. Raises RuntimeError when the server does not come."""
    remote = TritonEngine((endpoint,), (model_name(model, rate), ""), rate, slots, deadline_s=DEADLINE_S)
    connect({rate: remote}, PATIENCE_S)
    if remote.fault:
        raise RuntimeError(remote.fault)
    return remote


def _row(remote: TritonEngine, embedded: OrtEngine, size: int, rounds: int) -> Row:
    frames = noise(size, remote.hop)
    there: list[float] = []
    here: list[float] = []
    cpu_s = 0.0
    for _ in range(max(rounds // TURN, 1)):
        for engine in (remote, embedded):
            for _ in range(WARM):
                timed(engine, frames)
        used = time.process_time()
        there += [timed(remote, frames) * 1000 for _ in range(TURN)]
        cpu_s += time.process_time() - used
        here += [timed(embedded, frames) * 1000 for _ in range(TURN)]
    added = float(np.median(there) - np.median(here))
    p99 = float(np.percentile(there, 99))
    return Row(size, float(np.median(here)), float(np.median(there)), p99, added, cpu_s / len(there) * 1000)


def noise(rows: int, hop: int) -> Floats:
    """A frame of each, float32 [rows, 1, hop]."""
    return np.random.default_rng(0).normal(0, 0.05, (rows, 1, hop)).astype(np.float32)


def timed(engine: Engine, frames: Floats) -> float:
    """Seconds that a batch takes there and back. Raises RuntimeError when it does not come back."""
    n = len(frames)
    control = np.tile(np.array([[0.0, 1.0]], np.float32), (n, 1))
    began = time.perf_counter()
    if engine.collect(engine.submit(np.arange(n), frames, np.ones(n, np.int64), control), np.inf) is None:
        raise RuntimeError(f"the server did not answer in {DEADLINE_S:g} s")
    return time.perf_counter() - began


def ways(model: str, rate: int, size: int, rounds: int, runtime: Runtime) -> dict[str, tuple[float, float]]:
    """p50 of a batch there and back, and CPU of this process, in ms, for the ways that gRPC can be called."""
    control = np.ones((size, 2), np.float32)
    batch = wire.merge([wire.Part(np.arange(size), noise(size, rate // 100), np.ones(size, np.int64), control)])
    outputs = {"BATCH": 16 + size * 8, "PCM": batch.pcm.nbytes, "PROB": size * 16}

    def message(i: int, sequence: int) -> Any:
        name = model_name(model, rate), ""
        return wire.request(name, (sequence, i == 0), i + 1, (sequence, size), batch, np.zeros(size, np.bool_))

    with server(model, runtime) as endpoint:
        client(endpoint, model, rate, 1)  # it is there
        with grpc.insecure_channel(endpoint) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            region = Region(stub, 4 * batch.pcm.nbytes + 65536)
            found = _calls(
                {
                    "stub": lambda i: stub.ModelInfer(message(i, 1)),
                    "stub, future": lambda i: stub.ModelInfer.future(message(i, 2)).result(),
                    "stub, future, shared memory": lambda i: stub.ModelInfer.future(
                        region.moved(message(i, 4), outputs)
                    ).result(),
                },
                rounds,
            )
            region.close()
        return found | {"aio": asyncio.run(_aio(endpoint, message, rounds))}


def _calls(ways: dict[str, Callable[[int], object]], rounds: int) -> dict[str, tuple[float, float]]:
    """In turns, so that what else the machine does meets all."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    cpu_s = dict.fromkeys(ways, 0.0)
    for turn in range(max(rounds // TURN, 1)):
        for name, call in ways.items():
            used = time.process_time()
            for i in range(TURN):
                began = time.perf_counter()
                call(turn * TURN + i)
                times[name].append(time.perf_counter() - began)
            cpu_s[name] += time.process_time() - used
    return {name: (float(np.median(t)) * 1000, cpu_s[name] / len(t) * 1000) for name, t in times.items()}


async def _aio(endpoint: str, message: Callable[[int, int], Any], rounds: int) -> tuple[float, float]:
    async with grpc.aio.insecure_channel(endpoint) as channel:
        stub, times, used = service_pb2_grpc.GRPCInferenceServiceStub(channel), np.zeros(rounds), time.process_time()
        for i in range(rounds):
            began = time.perf_counter()
            await stub.ModelInfer(message(i, 3))
            times[i] = time.perf_counter() - began
        return float(np.median(times)) * 1000, (time.process_time() - used) / rounds * 1000


def precisions(model: str, rate: int) -> dict[str, tuple[float, float | None]]:
    """Against the embedded network, on tests/audio/noisy_8k.wav: dB of signal to difference, and difference in PESQ
    (None without the package pesq)."""
    path, hop = graph_path(model, rate), rate // 100
    pcm, clean = (_recording(name, rate) for name in ("noisy_8k.wav", "clean_8k.wav"))
    frames = pcm[: len(pcm) // hop * hop].reshape(-1, hop)
    wanted = _embedded(path, frames)
    found: dict[str, tuple[float, float | None]] = {}
    names: tuple[Precision, ...] = ("card", "float32", "bfloat16")
    for name in names:
        made = _stateful(stateful(path, read_card(path), name, imitate=True), frames)
        difference = float(((wanted - made) ** 2).sum())
        ratio_db = 10 * np.log10(float((wanted**2).sum()) / difference) if difference else float("inf")
        found[name] = ratio_db, _pesq_change(rate, clean, wanted, made)
    return found


def _recording(name: str, rate: int) -> Floats:
    pcm, own = soundfile.read(AUDIO / name, dtype="float32")
    return pcm if own == rate else soxr.resample(pcm, own, rate)  # type: ignore[no-any-return]  # both are untyped


def _embedded(path: Path, frames: Floats) -> Floats:
    engine = OrtEngine(path, 1)
    ticket = engine.submit(np.array([0]), frames[None], np.array([len(frames)]), np.array([[0.0, 1.0]], np.float32))
    return engine.collect(ticket, np.inf).frames.ravel()  # type: ignore[union-attr]  # embedded: never late


def _stateful(graph: bytes, frames: Floats) -> Floats:
    run = session(graph)
    width = {port.name: port.shape for port in run.get_inputs()}["matrix"][1]
    matrix, made = np.zeros((2, width), np.float32), []
    feeds: dict[str, Any] = {"control": np.array([[0.0, 1.0]], np.float32), "read": np.array([0])}
    for frame in frames:
        feeds |= {"pcm": frame[None], "matrix": matrix, "write": np.array([[0]])}
        matrix, clean, _ = run.run(["matrix_out", "pcm_out", "prob"], feeds)
        made.append(clean[0])
    return np.concatenate(made)


def _pesq_change(rate: int, clean: Floats, wanted: Floats, made: Floats) -> float | None:
    try:
        from pesq import pesq
    except ImportError:
        return None
    hop, band = rate // 100, "nb" if rate == 8000 else "wb"
    before, after = (pesq(rate, clean[: len(each) - hop], each[hop:], band) for each in (wanted, made))
    return float(after - before)


def as_worker(work: Callable[..., T], *arguments: Any) -> T:
    """Call it in a process with a media worker's environment, which says how memory is kept."""
    os.environ.update(worker_environment())
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(work, *arguments).result()


def report(model: str, rate: int, sizes: tuple[int, ...], rounds: int, runtime: Runtime, path: Path | None) -> Row:
    """Measure and print everything; returns the largest batch's row."""
    rows = as_worker(measure, model, rate, sizes, rounds, runtime)
    place = f"tritonserver with {runtime} on the CPU of the same machine ({cpu_name()})"
    print(f"{model} {rate // 1000} kHz, {place}; ms a batch of 10 ms frames")
    print(f"{'slots':>6}{'embedded p50':>14}{'Triton p50':>12}{'p99':>8}{'added p50':>11}{'client CPU':>12}")
    for r in rows:
        print(f"{r.slots:>6}{r.embedded_p50:>14.2f}{r.triton_p50:>12.2f}{r.triton_p99:>8.2f}{r.added_p50:>11.2f}"
              f"{r.client_cpu:>12.2f}")  # fmt: skip
    clients = ways(model, rate, max(sizes), rounds, runtime)
    print(f"gRPC at {max(sizes)} slots, ms there and back p50 / CPU of the client: "
          + "; ".join(f"{name} {p50:.2f} / {cpu:.2f}" for name, (p50, cpu) in clients.items()))  # fmt: skip
    narrowed = precisions(model, rate)
    for name, (ratio_db, change) in narrowed.items():
        pesq = "not measured: pip install pesq" if change is None else f"{change:+.3f}"
        print(f"products as {name}: {ratio_db:.1f} dB of signal to difference from embedded; PESQ {pesq}")
    if path is not None:
        figures = {
            "cpu": cpu_name(),
            "rate": rate,
            "runtime": runtime,
            "rows": [asdict(row) for row in rows],
            "clients": clients,
            "precisions": narrowed,
        }
        path.write_text(json.dumps({"model": model, **figures}, indent=2) + "\n")
    return max(rows, key=lambda row: row.slots)
