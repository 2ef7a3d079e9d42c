"""Debian's libspandsp through ctypes: telephony receivers and transmitters that we did not write.

Stands beside `signals` (its transmitters are a second opinion on ours) and under `judges` (its receivers). Only what
the laboratory needs is bound: DTMF, the connect tones of faxes and modems, and whole fax machines.
"""

import ctypes
import ctypes.util
from collections.abc import Callable
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np

from tests.tonelab.levels import PACKET, Floats

PACKAGE = "libspandsp2"
NAMES = ("libspandsp.so.2", "libspandsp.so.3", "libspandsp.so")
CONNECT_TONES = {
    "cng": 1, "ans": 2, "ans-reversed": 3, "ansam": 4, "ansam-reversed": 5, "v21-preamble": 6, "bell-answer": 8,
    "calling-tone": 9,
}  # fmt: skip
"""MODEM_CONNECT_TONES_* of its header, by what this laboratory calls them."""
MADE = ("cng", "ans", "ans-reversed", "ansam", "ansam-reversed")
"""Those that its generator makes."""
DTMF_LIMITS = (12, 8, -45)
"""Low above high tone, high above low, dB, and lowest level, dBm0: beyond Q.24, so that its edges are judged too."""
_NAME_OF_TONE = {code: name for name, code in CONNECT_TONES.items()}
_V27TER_V29_V17 = 7

_Report = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_int)
_PhaseE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int)


@cache
def library() -> ctypes.CDLL | None:
    """The library, or None where it is not installed."""
    for name in (*NAMES, ctypes.util.find_library("spandsp")):
        try:
            return _typed(ctypes.CDLL(name)) if name else None
        except OSError:
            continue
    return None


def _typed(lib: ctypes.CDLL) -> ctypes.CDLL:
    """Pointers are wider than the int that ctypes takes everything for."""
    for name in ("dtmf_rx", "dtmf_tx", "modem_connect_tones_rx", "modem_connect_tones_tx", "fax"):
        getattr(lib, f"{name}_init").restype = ctypes.c_void_p
        getattr(lib, f"{name}_free").argtypes = [ctypes.c_void_p]
    for name in ("dtmf_rx", "dtmf_tx", "modem_connect_tones_rx", "modem_connect_tones_tx", "fax_rx", "fax_tx"):
        getattr(lib, name).argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int]
    lib.dtmf_rx_get.restype = ctypes.c_size_t
    lib.fax_get_t30_state.restype = ctypes.c_void_p
    return lib


def _linear(pcm: Floats) -> np.ndarray:
    return np.clip(np.rint(pcm * 32768.0), -32768, 32767).astype(np.int16)


def _floats(linear: np.ndarray) -> Floats:
    return linear.astype(np.float32) / np.float32(32768)


@contextmanager
def _object(name: str, *arguments):
    """A state of its own, given back at the end. Raises RuntimeError without the library."""
    lib = library()
    if lib is None:
        raise RuntimeError(f"libspandsp is not installed (Debian: apt-get install {PACKAGE})")
    state = ctypes.c_void_p(getattr(lib, f"{name}_init")(None, *arguments))
    try:
        yield lib, state
    finally:
        getattr(lib, f"{name}_free")(state)


def dtmf_digits(pcm: Floats) -> str:
    """What its DTMF receiver hears."""
    linear, digits = _linear(pcm), b""
    text = ctypes.create_string_buffer(129)
    with _object("dtmf_rx", None, None) as (lib, state):
        lib.dtmf_rx_parms(state, 0, *DTMF_LIMITS)
        for at in range(0, len(linear), PACKET):
            block = linear[at : at + PACKET]
            lib.dtmf_rx(state, block.ctypes.data, len(block))
            count = lib.dtmf_rx_get(state, text, 128)
            digits += text.raw[:count]
    return digits.decode("ascii")


def dtmf_tones(digits: str, on_ms: int = 50, off_ms: int = 55, dbm0: int = -10, twist_db: int = 0) -> Floats:
    """Digits of its generator; dbm0: of the low tone."""
    out = np.zeros((on_ms + off_ms) * 8 * len(digits), np.int16)
    with _object("dtmf_tx") as (lib, state):
        lib.dtmf_tx_set_level(state, dbm0, twist_db)
        lib.dtmf_tx_set_timing(state, on_ms, off_ms)
        lib.dtmf_tx_put(state, digits.encode("ascii"), len(digits))
        made = 0
        while made < len(out) and (count := lib.dtmf_tx(state, out[made:].ctypes.data, len(out) - made)):
            made += count
    return _floats(out)


def connect_tone(pcm: Floats, kind: str) -> list[str]:
    """What its receiver for one kind of connect tone reports, in order.

    kind: of `CONNECT_TONES`; the receivers for ANS and ANSam tell their variants apart.
    """
    linear, heard = _linear(pcm), []
    report = _Report(lambda _user, code, _level, _delay: heard.append(code))
    with _object("modem_connect_tones_rx", CONNECT_TONES[kind], report, None) as (lib, state):
        for at in range(0, len(linear), PACKET):
            block = linear[at : at + PACKET]
            lib.modem_connect_tones_rx(state, block.ctypes.data, len(block))
    return [_NAME_OF_TONE.get(code, str(code)) for code in heard if code]


def made_connect_tone(kind: str, seconds: float) -> Floats:
    """A connect tone of its generator, at most so long; kind: one of `MADE`, others end the process."""
    if kind not in MADE:
        raise ValueError(f"spandsp's generator does not make {kind}: {', '.join(MADE)}")
    out = np.zeros(round(seconds * 8000), np.int16)
    with _object("modem_connect_tones_tx", CONNECT_TONES[kind]) as (lib, state):
        made = lib.modem_connect_tones_tx(state, out.ctypes.data, len(out))
    return _floats(out[:made])


class FaxMachine:
    """A T.30 fax machine that speaks and hears audio, 20 ms at a time. Close it."""

    def __init__(self, calling: bool, page: Path, corrected: bool = False) -> None:
        """A caller sends the TIFF at `page`; an answerer writes what it gets there. corrected: with ECM."""
        lib = library()
        if lib is None:
            raise RuntimeError(f"libspandsp is not installed (Debian: apt-get install {PACKAGE})")
        self._lib, self._state = lib, ctypes.c_void_p(lib.fax_init(None, int(calling)))
        self.outcome: int | None = None
        """0 when all went well, another code of spandsp's when not, None before the end."""
        self._ended: Callable = _PhaseE(self._note_end)
        session = ctypes.c_void_p(lib.fax_get_t30_state(self._state))
        lib.fax_set_transmit_on_idle(self._state, 1)
        lib.t30_set_ecm_capability(session, int(corrected))
        lib.t30_set_supported_modems(session, _V27TER_V29_V17)
        lib.t30_set_phase_e_handler(session, self._ended, None)
        name = str(page).encode()
        if calling:
            lib.t30_set_tx_file(session, name, -1, -1)
        else:
            lib.t30_set_rx_file(session, name, -1)

    def _note_end(self, _session: int, _user: int, code: int) -> None:
        self.outcome = code

    def speak(self) -> Floats:
        """The next 20 ms."""
        out = np.zeros(PACKET, np.int16)
        self._lib.fax_tx(self._state, out.ctypes.data, PACKET)
        return _floats(out)

    def hear(self, pcm: Floats) -> None:
        """What came."""
        linear = _linear(pcm)
        self._lib.fax_rx(self._state, linear.ctypes.data, len(linear))

    def close(self) -> None:
        """End the session and write the page."""
        self._lib.fax_free(self._state)
