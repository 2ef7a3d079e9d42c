"""The embedded engine: one ONNX Runtime session, one thread, all slots of a worker in a batch.

The graph takes PCM and gives PCM (analysis, network, synthesis and overlap-add are inside), so that this engine only
moves rows: gather the state of the batch's slots, run the graph once a frame, scatter the state back.
"""

import hashlib
from pathlib import Path

import msgspec
import numpy as np
import onnxruntime as ort

from gateway.denoise.engine import Floats, Ints, Result, Ticket
from gateway.errors import ConfigError, EngineError


class Card(msgspec.Struct, frozen=True):
    """What the engine has to know of a graph; the file beside it says more."""

    rate: int
    hop: int
    delay: int
    state: int
    """Floats in a row of state."""
    sha256: str
    """Of the graph's file."""


class OrtEngine:
    """A model of `models/` at its rate, for a fixed number of slots."""

    def __init__(self, graph: Path, slots: int) -> None:
        """graph: the ONNX file; its card lies beside it. Raises ConfigError when either is missing or they differ."""
        card = read_card(graph)
        self.rate, self.hop, self.delay = card.rate, card.hop, card.delay
        self._state = np.zeros((slots, card.state), np.float32)
        self._session = ort.InferenceSession(str(graph), session_options(), providers=["CPUExecutionProvider"])
        self._results: dict[int, Result] = {}
        self._batch_id = 0
        self._warm_up()

    def _warm_up(self) -> None:
        """The first runs allocate and are slow: have them before the first call."""
        for n in (1, 64, 256):
            frames = np.zeros((min(n, len(self._state)), 1, self.hop), np.float32)
            slots = np.arange(len(frames))
            control = np.ones((len(frames), 2), np.float32)
            self.collect(self.submit(slots, frames, np.ones(len(frames), np.int64), control), np.inf)
            self.reset(slots)

    def reset(self, slots: Ints) -> None:
        """An all-zero row is a fresh stream."""
        self._state[slots] = 0.0

    def submit(self, slots: Ints, frames: Floats, counts: Ints, control: Floats) -> Ticket:
        """Run the batch now; `collect` only hands it over. See `Engine.submit`."""
        n, k, hop = frames.shape
        out = np.zeros((n, k, hop), np.float32)
        probabilities = np.zeros((n, k, 4), np.float32)
        state = self._state[slots]
        for frame in range(k):
            rows = np.flatnonzero(counts > frame)
            if len(rows) == n:
                out[:, frame], state, probabilities[:, frame] = self._run(frames[:, frame], state, control)
            else:
                ran = self._run(frames[rows, frame], state[rows], control[rows])
                out[rows, frame], state[rows], probabilities[rows, frame] = ran
        self._state[slots] = state
        self._batch_id += 1
        self._results[self._batch_id] = Result(out, probabilities)
        return Ticket(self._batch_id)

    def collect(self, ticket: Ticket, deadline: float) -> Result | None:
        """The batch's result; never late."""
        return self._results.pop(ticket.batch_id)

    def _run(self, pcm: Floats, state: Floats, control: Floats) -> tuple[Floats, Floats, Floats]:
        try:
            clean, after, probability = self._session.run(
                ("pcm_out", "state_out", "prob"), {"pcm": np.ascontiguousarray(pcm), "state": state, "control": control}
            )
        except Exception as error:  # ONNX Runtime raises its own classes, which share no base
            raise EngineError(f"the network failed on a batch of {len(pcm)}: {error}") from error
        return clean, after, probability


def session_options() -> ort.SessionOptions:
    """One thread, no spinning: the media process fills one core and no more."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.enable_mem_pattern = False  # batch sizes vary; a pattern a shape would only pile up
    options.log_severity_level = 3
    return options


def read_card(graph: Path) -> Card:
    """The model's card, checked against the graph's bytes. Raises ConfigError."""
    path = graph.with_suffix(".json")
    try:
        card = msgspec.json.decode(path.read_bytes(), type=Card)
        digest = hashlib.sha256(graph.read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(f"engine.model: cannot read {error.filename}; each model is a graph and a card") from error
    except msgspec.MsgspecError as error:
        raise ConfigError(f"engine.model: {path} is no model card: {error}") from error
    if card.sha256 != digest:
        raise ConfigError(f"engine.model: {graph} does not match its card (sha256); export the model again")
    return card
