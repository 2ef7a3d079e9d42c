"""Real Triton servers for tests, as deploy/triton/local.sh runs them."""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

from gateway.denoise.triton.engine import TritonEngine
from gateway.denoise.triton.export import Repository, write

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "deploy" / "triton" / "local.sh"
START_S = 30.0

FAULTY = '''

class TritonPythonModel(TritonPythonModel):
    """Does wrong what the file `fault` in the repository names, as no honest model would."""

    def initialize(self, args):
        self.before = None
        self.fault_file = os.path.join(args["model_repository"], "fault")
        super().initialize(args)

    def run(self, batches):
        super().run(batches)
        kind, _, value = open(self.fault_file).read().partition(" ")
        for batch in batches:
            if not len(batch.slots):
                continue
            answer = batch.id, batch.whose, batch.clean, batch.prob
            if kind == "sleep":
                time.sleep(float(value))
            elif kind == "nan":
                batch.prob[:1] = np.nan
            elif kind == "short":
                batch.clean = batch.clean[:-1]
            elif kind == "type":
                batch.clean = batch.clean.astype(np.float32)
            elif kind == "batch":
                batch.id += 1
            elif kind == "epoch":
                batch.block.epoch += 1
            elif kind == "shuffle":
                batch.whose, batch.clean, batch.prob = (each[::-1].copy() for each in answer[1:])
            elif kind == "previous" and self.before:
                batch.id, batch.whose, batch.clean, batch.prob = self.before
            elif kind == "raise":
                raise RuntimeError("out of memory, or so")
            self.before = answer
'''


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Triton:
    """A server that can be killed, paused and started again on the same port."""

    def __init__(self, repository: Path) -> None:
        self.repository, self.port = repository, free_port()
        self.endpoint = f"127.0.0.1:{self.port}"
        self.log = repository.parent / f"{repository.name}-{self.port}.log"
        self.process: subprocess.Popen | None = None

    @staticmethod
    def export(folder: Path, model: str = "light", faulty: bool = False, wide: bool = False, **options) -> Path:
        """A repository of one model, at 8 kHz only unless wide."""
        write(folder, Repository((model,), rows=options.pop("rows", 2048), **options))
        name = Path(model).name
        for path in folder.glob(f"{name}_8k/*/model.py") if faulty else ():
            path.write_text(path.read_text() + FAULTY)
        (folder / f"{name}_8k" / "fault").write_text("")
        if not wide:
            shutil.rmtree(folder / f"{name}_16k", ignore_errors=True)
        return folder

    def kill_model(self) -> None:
        """Only the process that the Python backend runs the model in."""
        assert self.process is not None
        command = ["pkill", "-KILL", "-P", str(self.process.pid), "-f", "triton_python_backend_stub"]
        subprocess.run(command, check=True)

    def fault(self, text: str) -> None:
        (self.repository / "light_8k" / "fault").write_text(text)

    def start(self, wait: bool = True) -> "Triton":
        command = [str(SCRIPT), str(self.repository), "--grpc-port", str(self.port), "--grpc-address", "127.0.0.1"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self) -> None:
        until = time.monotonic() + START_S
        question = service_pb2.ServerReadyRequest()
        while time.monotonic() < until and self.process.poll() is None:
            with grpc.insecure_channel(self.endpoint) as channel:
                try:
                    if service_pb2_grpc.GRPCInferenceServiceStub(channel).ServerReady(question, timeout=1).ready:
                        return
                except grpc.RpcError:
                    time.sleep(0.05)
        raise AssertionError(f"Triton did not start: {self.log.read_text()[-2000:]}")

    def signal(self, number: int) -> None:
        os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """At once, as a machine that fails; also when it is paused."""
        if self.process is not None and self.process.poll() is None:
            self.signal(signal.SIGKILL)
            self.process.wait()


def connected(engine: TritonEngine, patience_s: float = 5.0) -> TritonEngine:
    """The engine when it has found its server."""
    until = time.monotonic() + patience_s
    while not engine.ready:
        assert time.monotonic() < until, engine.fault
        engine.tend(time.monotonic())
        time.sleep(0.005)
    return engine


def quantised(rows: int, frames: int, seed: int = 0, hop: int = 80) -> np.ndarray:
    """Noise that 16 bits hold exactly, float32 [rows, frames, hop]."""
    pcm = np.random.default_rng(seed).normal(0, 0.05, (rows, frames, hop))
    return (np.rint(pcm * 32768) / 32768).astype(np.float32)


def submit(engine, slots, frames, counts=None):
    slots = np.asarray(slots)
    counts = np.full(len(slots), frames.shape[1]) if counts is None else np.asarray(counts)
    control = np.tile(np.array([[0.1, 1.0]], np.float32), (len(slots), 1))
    return engine.submit(slots, frames, counts, control)


def run(engine, slots, frames, counts=None):
    """The result, or None when it is late."""
    return engine.collect(submit(engine, slots, frames, counts), np.inf)


def largest_difference(remote, embedded, slots: int, probability_atol: float) -> float:
    """Of the audio of two engines that hear the same 30 batches, of any rows, lengths and counts, with resets between.
    Asserts that their probabilities agree."""
    rng, worst = np.random.default_rng(0), 0.0
    for step in range(30):
        some = rng.choice(slots, int(rng.integers(1, slots)), replace=False)
        frames = quantised(len(some), int(rng.integers(1, 4)), step, remote.hop)
        counts = rng.integers(1, frames.shape[1] + 1, len(some))
        if step % 5 == 4:
            remote.reset(some[:9])
            embedded.reset(some[:9])
        ours, theirs = run(remote, some, frames, counts), run(embedded, some, frames, counts)
        heard = np.arange(frames.shape[1]) < counts[:, None]
        worst = max(worst, np.abs(ours.frames - theirs.frames)[heard].max())
        np.testing.assert_allclose(ours.probabilities[heard], theirs.probabilities[heard], atol=probability_atol)
    return worst
