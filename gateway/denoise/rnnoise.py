"""RNNoise 0.2 (J.-M. Valin, 2018 and 2024) as a suppressor: 48 kHz, 10 ms, a call of its library a stream and block.

The shared library comes with the wheel `pyrnnoise` and is opened where it lies, because importing that package imports
plotting and decoding of files as well.
"""

import ctypes
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from gateway.denoise.engine import Floats, Ints
from gateway.errors import ConfigError

_FULL_SCALE = 32768.0
"""RNNoise takes floats in the range of 16-bit samples."""
_LIBRARIES = {"darwin": "librnnoise.dylib", "win32": "rnnoise.dll"}


class Rnnoise:
    """RNNoise for so many slots; a slot's state is made when it is first used."""

    rate = 48000
    hop = 480
    delay = 960
    """Overlap of a block, and one block that the network looks ahead."""

    def __init__(self, slots: int) -> None:
        """Raises ConfigError when the library is not installed."""
        self._library = _open()
        self._states: list[ctypes.Array[ctypes.c_char] | None] = [None] * slots

    def reset(self, slots: Ints) -> None:
        """See `Suppressor.reset`."""
        for slot in slots.tolist():
            state = self._states[slot]
            if state is not None:
                self._library.rnnoise_init(state, None)

    def run(self, slots: Ints, blocks: Floats) -> tuple[Floats, Floats]:
        """See `Suppressor.run`; the probability is RNNoise's own."""
        given = np.ascontiguousarray(blocks * _FULL_SCALE)
        clean, speech = np.empty_like(given), np.zeros(len(slots), np.float32)
        for row, slot in enumerate(slots.tolist()):
            speech[row] = self._library.rnnoise_process_frame(
                self._state(slot), clean[row].ctypes.data, given[row].ctypes.data
            )
        clean /= _FULL_SCALE
        return clean, speech

    def _state(self, slot: int) -> "ctypes.Array[ctypes.c_char]":
        state = self._states[slot]
        if state is None:
            state = self._states[slot] = ctypes.create_string_buffer(self._library.rnnoise_get_size())
            self._library.rnnoise_init(state, None)
        return state


def _open() -> ctypes.CDLL:
    spec = find_spec("pyrnnoise")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError("engine.kind: rnnoise is not installed; pip install -e '.[rnnoise]' in the checkout")
    path = Path(spec.submodule_search_locations[0]) / _LIBRARIES.get(sys.platform, "librnnoise.so")
    try:
        library = ctypes.CDLL(str(path))
        library.rnnoise_process_frame.argtypes = [ctypes.c_void_p] * 3
        library.rnnoise_process_frame.restype = ctypes.c_float
        library.rnnoise_init.argtypes = [ctypes.c_void_p] * 2
    except (OSError, AttributeError) as error:
        raise ConfigError(
            f"engine.kind: rnnoise does not load ({error}); pip install --force-reinstall pyrnnoise"
        ) from None
    return library
