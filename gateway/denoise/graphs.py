"""A step of a brought model: one streaming ONNX graph with its states, a row a slot.

A graph with one open dimension runs all rows at once; one whose batch is fixed at 1 runs row by row. Everything the
card says of the graph is checked against the graph at the start, in the end by running it on silence.
"""

from math import prod
from pathlib import Path

import numpy as np
import onnxruntime as ort

from gateway.denoise import ports
from gateway.denoise.card import Step
from gateway.denoise.engine import Floats, Ints
from gateway.denoise.ort import session_options
from gateway.denoise.ports import Array
from gateway.errors import ConfigError, EngineError


class Graph:
    """A step's session, its states, and what the card's names mean in it."""

    def __init__(self, path: Path, step: Step, slots: int, window: int, bins: int, key: str) -> None:
        """bins: of the window's spectrum; key: the step's path in the card. Raises ConfigError when it does not fit."""
        try:
            self._session = ort.InferenceSession(str(path), session_options(), providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime raises its own classes, which share no base
            raise ConfigError(f"{key}.graph: {path} is no graph that ONNX Runtime takes: {error}") from None
        self.step, self._key = step, key
        self._in = ports.inputs(self._session.get_inputs(), step.shapes, key)
        self._check_names([output.name for output in self._session.get_outputs()])
        self._outputs = list(dict.fromkeys([*step.outputs, *(state.output for state in step.states.values())]))
        for name, kind in step.inputs.items():
            ports.check_size(self._in[name], kind, window, bins, f"{key}.inputs.{name}")
        self.batched = any(port.axis is not None for port in self._in.values())
        self._out = ports.outputs(self._try(), key)
        for name, taken in step.outputs.items():
            ports.check_size(self._out[name], taken, window, bins, f"{key}.outputs.{name}")
        self._states = {name: self._fresh(name, slots) for name in step.states}

    def reset(self, slots: Ints) -> None:
        """Back to the initial states."""
        for name, rows in self._states.items():
            rows[slots] = self.step.states[name].initial

    def run(self, slots: Ints, given: dict[str, Floats]) -> dict[str, Floats]:
        """Advance the slots by a hop.

        given: what the step's inputs take, by kind: float32 [n, samples], [n, bins], or [n, bins, 2] for a spectrum.
        Returns what its outputs are, alike. Raises EngineError.
        """
        feeds = {name: self._in[name].layout(given[kind]) for name, kind in self.step.inputs.items()}
        feeds |= {name: rows[slots] for name, rows in self._states.items()}
        made = self._run(self._filled(feeds, len(slots)))
        for name, rows in self._states.items():
            after = made[self.step.states[name].output]
            rows[slots] = after.reshape(len(slots), *rows.shape[1:])
        return {kind: self._out[name].value(made[name]) for name, kind in self.step.outputs.items()}

    def _filled(self, feeds: dict[str, Array], n: int) -> dict[str, Array]:
        for name, value in self.step.constants.items():
            feeds[name] = np.full((n, *self._in[name].shape), value)
        return feeds

    def _run(self, feeds: dict[str, Array]) -> dict[str, Array]:
        """All outputs as rows."""
        if self.batched:
            made = self._call({name: self._in[name].batch(rows) for name, rows in feeds.items()})
            return {name: self._out[name].rows(batch) for name, batch in made.items()}
        feeds = {name: rows.astype(self._in[name].dtype, copy=False) for name, rows in feeds.items()}
        count = len(next(iter(feeds.values())))
        each = [self._call({name: rows[i] for name, rows in feeds.items()}) for i in range(count)]
        return {name: np.stack([made[name] for made in each]) for name in self._outputs}

    def _call(self, feeds: dict[str, Array]) -> dict[str, Array]:
        try:
            return dict(zip(self._outputs, self._session.run(self._outputs, feeds), strict=True))
        except Exception as error:  # as above
            raise EngineError(f"{self._key}: the graph failed: {error}") from error

    def _try(self) -> dict[str, list[Array]]:
        """What the outputs give for silence: for two and three rows, or for the only row."""
        tried: dict[str, list[Array]] = {name: [] for name in self._outputs}
        for n in (2, 3) if self.batched else (1,):
            feeds = {name: np.zeros((n, *port.shape)) for name, port in self._in.items()}
            feeds |= {name: np.full_like(feeds[name], state.initial) for name, state in self.step.states.items()}
            feeds = self._filled(feeds, n)
            batch = {
                name: self._in[name].batch(rows) if self.batched else rows[0].astype(self._in[name].dtype)
                for name, rows in feeds.items()
            }
            try:
                made = self._call(batch)
            except EngineError as error:
                raise ConfigError(f"{self._key}.graph: does not run on silence: {error.__cause__}") from None
            for name, value in made.items():
                tried[name].append(value)
        return tried

    def _fresh(self, name: str, slots: int) -> Array:
        state, port = self.step.states[name], self._in[name]
        after = self._out[state.output]
        if prod(port.shape) != prod(after.shape):
            raise ConfigError(
                f"{self._key}.states.{name}.output: {state.output!r} gives {list(after.shape)} a row, "
                f"but {name!r} takes {list(port.shape)}"
            )
        return np.full((slots, *port.shape), state.initial, port.dtype)

    def _check_names(self, outputs: list[str]) -> None:
        step = self.step
        named = {"inputs": list(step.inputs), "states": list(step.states), "constants": list(step.constants)}
        for section, entries in named.items():
            for name in entries:
                self._check_name(f"{section}.{name}", name, list(self._in))
        for name in step.outputs:
            self._check_name(f"outputs.{name}", name, outputs)
        for name, state in step.states.items():
            self._check_name(f"states.{name}.output", state.output, outputs)
        for name in step.shapes:
            self._check_name(f"shapes.{name}", name, list(self._in))
        for name in self._in:
            if sum(name in entries for entries in named.values()) != 1:
                raise ConfigError(
                    f"{self._key}: input {name!r} of the graph is to be in inputs, states or constants once"
                )

    def _check_name(self, path: str, name: str, known: list[str]) -> None:
        if name not in known:
            raise ConfigError(f"{self._key}.{path}: {name!r} is not in the graph, which has {', '.join(known)}")
