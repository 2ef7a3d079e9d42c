"""A brought model as a suppressor: windows of the last samples through the card's graphs, overlapped and added.

Between analysis and synthesis a window is PCM or a spectrum, whichever a step asks for; what a step gives, PCM, a mask
or a spectrum, is the window of the next.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gateway.denoise.card import Card, graph_file, read, synthesis_window, weights
from gateway.denoise.engine import Floats, Ints
from gateway.denoise.graphs import Graph
from gateway.errors import ConfigError

Spectrum = npt.NDArray[np.complexfloating[Any, Any]]


class BroughtModel:
    """What a card describes, for so many slots. See `Suppressor`."""

    def __init__(self, path: Path, slots: int) -> None:
        """path: the card. Raises ConfigError."""
        card = read(path)
        self.rate: int = card.rate
        self.hop = card.hop
        self._window, self._fft = card.window_samples, card.fft_samples
        self.delay = self._window - self.hop + card.delay
        self._before = weights(card.analysis, self._window)
        self._after = synthesis_window(card)
        self._past = np.zeros((slots, self._window - self.hop), np.float32)
        self._tail = np.zeros((slots, self._window - self.hop), np.float32)
        try:
            self._graphs = [self._open(card, index, path, slots) for index in range(len(card.steps))]
        except ConfigError as error:
            raise ConfigError(f"{path.name}: {error}") from None
        self.batched = all(graph.batched for graph in self._graphs)
        """Whether all calls run at once; else a graph's batch is fixed at 1."""

    def _open(self, card: Card, index: int, path: Path, slots: int) -> Graph:
        step, key = card.steps[index], f"steps[{index}]"
        file = graph_file(card, step, path.parent, key)
        return Graph(file, step, slots, self._window, self._fft // 2 + 1, key)

    def reset(self, slots: Ints) -> None:
        """See `Suppressor.reset`."""
        self._past[slots] = self._tail[slots] = 0.0
        for graph in self._graphs:
            graph.reset(slots)

    def run(self, slots: Ints, blocks: Floats) -> tuple[Floats, Floats]:
        """See `Suppressor.run`."""
        stream = np.concatenate([self._past[slots], blocks], axis=1)
        self._past[slots] = stream[:, self.hop :]
        frame = _Frame(stream * self._before, self._fft)
        speech = np.zeros(len(slots), np.float32)
        for graph in self._graphs:
            made = graph.run(slots, {kind: frame.give(kind) for kind in graph.step.inputs.values()})
            speech = made.pop("speech", speech)
            frame.take(made)
        made_pcm = frame.pcm()[:, : self._window] * self._after
        made_pcm[:, : self._window - self.hop] += self._tail[slots]
        self._tail[slots] = made_pcm[:, self.hop :]
        return made_pcm[:, : self.hop], speech


class _Frame:
    """Windows of all rows, as PCM or as spectra."""

    def __init__(self, pcm: Floats, fft: int) -> None:
        self._pcm: Floats | None = pcm
        self._spectrum: Spectrum | None = None
        self._samples, self._fft = pcm.shape[1], fft

    def pcm(self) -> Floats:
        """float32 [n, window]."""
        if self._pcm is None:
            self._pcm = np.fft.irfft(self.spectrum(), self._fft)[:, : self._samples].astype(np.float32, copy=False)
        return self._pcm

    def spectrum(self) -> Spectrum:
        """complex64 [n, bins]."""
        if self._spectrum is None:
            assert self._pcm is not None  # one of the two is always there
            self._spectrum = np.fft.rfft(self._pcm, self._fft)
        return self._spectrum

    def give(self, kind: str) -> Floats:
        """The frame as an input takes it."""
        if kind == "pcm":
            return self.pcm()
        spectrum = self.spectrum()
        parts = np.stack([spectrum.real, spectrum.imag], axis=2)
        kinds = {"magnitude": np.abs(spectrum), "real": parts[..., 0], "imaginary": parts[..., 1]}
        return np.asarray(kinds.get(kind, parts), np.float32)

    def take(self, made: dict[str, Floats]) -> None:
        """Replace it by what a step gave."""
        if "pcm" in made:
            self._pcm, self._spectrum = made["pcm"], None
            return
        if "mask" in made:
            self._spectrum = self.spectrum() * _complex(made["mask"])
        elif "spectrum" in made:
            self._spectrum = _complex(made["spectrum"])
        else:
            self._spectrum = made["real"] + 1j * made["imaginary"]
        self._pcm = None


def _complex(value: Floats) -> Any:
    """Real and imaginary parts [n, bins, 2] as complex64 [n, bins]; what is real stays so."""
    return value[..., 0] + 1j * value[..., 1] if value.ndim == 3 else value
