"""Denoises a recording the way a call is: as RTP packets through the media plane's pipeline, under a clock of its own.

Each channel becomes one leg of a call with 20 ms packets. What a leg sends is put together again, freed of the
engine's delay, and brought back to the recording's rate, length and sample type.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from gateway.config import Config, DenoiseConfig
from gateway.denoise.engine import Engine, Ints, RemoteEngine
from gateway.denoise.engines import build, connect
from gateway.detect.detection import Detection
from gateway.errors import CallerError
from gateway.measure import change_db, find_pauses
from gateway.media import codecs
from gateway.media.pipeline import Pipeline
from gateway.messages import LegSpec, Payload, Reason
from gateway.outage import Outage
from gateway.protocol import rtp

log = logging.getLogger(__name__)

Floats = npt.NDArray[np.float32]
Progress = Callable[[float], object]
"""Told the seconds of audio that another packet has brought."""

CONNECT_PATIENCE_S = 5.0
SERVER_PATIENCE_S = 60.0
"""How long a recording waits, in all, for servers that go while it runs: nobody listens, but somebody waits for it."""
PACKET_S = 0.02
PAYLOAD_TYPE = 96
G722_DELAY = 22
"""Samples at 16 kHz that an encoder and a decoder hold back together: G.722 filter banks, 24 taps each."""
CLOCKS_HZ = {"PCMU": 8000, "PCMA": 8000, "G722": 8000}
LATE = "its answers took longer than engine.deadline_ms"
SPOILT = "its network gave no numbers"
LOSSLESS = ("WAV", "FLAC", "AIFF", "W64", "CAF", "AU", "RF64")


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a file."""

    seconds: float
    """Length of the recording."""
    took_s: float
    """Time in the pipeline."""
    pauses_db: float
    """How much quieter the pauses are; NaN where none was found."""
    signals: list[Detection]
    """What the detectors heard; `slot` is twice the channel."""
    outage: Outage = field(default_factory=Outage)
    """What the engine has left dry."""


class _Line(NamedTuple):
    """How one channel travels."""

    name: str
    clock_hz: int
    rate_hz: int


def denoise_file(source: Path, target: Path, config: Config, codec: str, progress: Progress) -> Report:
    """Denoise `source` into `target`. Raises CallerError when a file cannot be read or written, or no server is there
    for an engine that needs one."""
    pcm, rate_hz, subtype = _read(source)
    engines = build(config.engine, slots=2 * pcm.shape[1])
    line = _line(codec, rate_hz)
    connect({line.rate_hz: engines[line.rate_hz]}, CONNECT_PATIENCE_S)
    _check(engines[line.rate_hz])
    started = time.perf_counter()
    signals: list[Detection] = []
    outage = Outage()
    clean = denoise_pcm(pcm, rate_hz, codec, config.denoise, engines, progress, signals, outage)
    took_s = time.perf_counter() - started
    _write(target, clean, rate_hz, subtype)
    before, after = pcm.mean(axis=1), clean.mean(axis=1)
    quieter_db = -change_db(before, after, find_pauses(before, rate_hz), rate_hz)
    return Report(len(pcm) / rate_hz, took_s, quieter_db, signals, outage)


def _check(engine: Engine) -> None:
    """A call goes on dry without its server; a recording that comes out as it went in helps nobody."""
    if isinstance(engine, RemoteEngine) and engine.fault and not engine.substitute:
        raise CallerError(
            f"{engine.fault}; start that server, name another in engine.endpoints, or set engine.fallback to ort "
            "(docs/triton.md)"
        )


def denoise_pcm(
    pcm: Floats,
    rate_hz: int,
    codec: str,
    controls: DenoiseConfig,
    engines: dict[int, Engine],
    progress: Progress,
    signals: list[Detection] | None = None,
    outage: Outage | None = None,
) -> Floats:
    """The audio as the other party of a call would hear it, without the delay.

    pcm: float32 [samples, channels], -1..1, at `rate_hz`; codec: PCMU, PCMA, G722 or L16 (8 kHz for recordings of at
    most that, else 16 kHz); engines: by rate, with two slots a channel; signals: gets what the detectors hear; outage:
    gets what no engine has denoised though it was to. Returns the same shape.
    """
    line = _line(codec, rate_hz)
    samples, channels = pcm.shape
    delay = _delay(line, controls, engines[line.rate_hz])
    packet = round(line.rate_hz * PACKET_S)
    inside = _resample(pcm, rate_hz, line.rate_hz)
    packets = -(-(len(inside) + delay) // packet)
    padded = np.zeros((packets * packet, channels), np.float32)
    padded[: len(inside)] = inside
    pipeline = _open(line, channels, controls, engines)

    def lost(index: int, why: str) -> None:
        begin_s = index * PACKET_S - delay / line.rate_hz
        if outage is not None:
            outage.note(max(begin_s, 0.0), min(begin_s + PACKET_S, samples / rate_hz), why)

    sent = _call(pipeline, padded.reshape(packets, packet, channels), line, progress, lost)
    if signals is not None:
        pipeline.voice.listen()
        signals += pipeline.voice.ear.found
    return _fit(_resample(sent[delay : delay + len(inside)], line.rate_hz, rate_hz), samples)


def _delay(line: _Line, controls: DenoiseConfig, engine: Engine) -> int:
    """Samples by which the other party hears later: the engine, and G.722 once for the phones, once more for us."""
    delayed = controls.denoise == "both"
    codec = G722_DELAY * (1 + delayed) if line.name == "G722" else 0
    return codec + (engine.delay if delayed else 0)


def _call(pipeline: Pipeline, pcm: Floats, line: _Line, progress: Progress, lost: Callable[[int, str], None]) -> Floats:
    """Run packets [packets, samples, channels] through a pipeline. Returns [packets * samples, channels].

    lost: told the number of a packet that no engine has denoised though it was to, and why.
    """
    packets, packet, channels = pcm.shape
    phone = codecs.build(channels)[line.name, line.clock_hz]
    far_phone = codecs.build(channels)[line.name, line.clock_hz]
    heard = np.zeros_like(pcm)
    rows = np.arange(channels)
    units = round(line.clock_hz * PACKET_S)
    waited_s = 0.0
    for i in range(packets):
        waited_s += _await_server(pipeline.voice.remotes.get(line.rate_hz), waited_s)
        payload = phone.encode(rows, np.ascontiguousarray(pcm[i].T))
        for row in range(channels):
            datagram = rtp.pack(
                payload[row].tobytes(), payload_type=PAYLOAD_TYPE, sequence=i, timestamp=i * units, ssrc=row + 1
            )
            pipeline.slab[row, : len(datagram)] = np.frombuffer(datagram, np.uint8)
            pipeline.lengths[row], pipeline.slots[row] = len(datagram), 2 * row
        pipeline.step(channels, now=i * PACKET_S)
        sent = pipeline.slab[:channels, rtp.HEADER_BYTES : rtp.HEADER_BYTES + payload.shape[1]]
        heard[i] = far_phone.decode(rows, sent).T
        if _left_dry(pipeline, 2 * rows):
            lost(i, _why(pipeline, 2 * rows, line.rate_hz))
        progress(PACKET_S)
    return heard.reshape(packets * packet, channels)


def _await_server(engine: RemoteEngine | None, waited_s: float) -> float:
    """Wait until one is back, unless something else denoises meanwhile. Returns the seconds it took.

    waited_s: how long the recording has waited already.
    """
    patience_s = SERVER_PATIENCE_S - waited_s
    if engine is None or not engine.fault or engine.substitute or patience_s <= 0:
        return 0.0
    if not waited_s:
        log.warning("%s; waiting up to %.0f s for a server", engine.fault, patience_s)
    began_s = time.monotonic()
    connect({engine.rate: engine}, patience_s)
    return time.monotonic() - began_s


def _left_dry(pipeline: Pipeline, slots: Ints) -> bool:
    """Whether the packets just sent are not denoised though no control and no detector objects.

    An engine that has failed hears a stream for a while before it is heard again: its frames have no reason then.
    """
    voice = pipeline.voice
    return bool(((voice.wet[slots] == 0.0) & np.isin(voice.reason[slots], (Reason.NONE, Reason.FAULT))).any())


def _why(pipeline: Pipeline, slots: Ints, rate_hz: int) -> str:
    """What the engine says of these; empty where it works again."""
    voice = pipeline.voice
    remote = voice.remotes.get(rate_hz)
    fault = voice.faulty.get(rate_hz) or (remote.fault if remote is not None else "")
    if fault:
        return fault
    if (voice.reason[slots] == Reason.FAULT).any():
        return LATE
    return SPOILT if voice.total_spoilt else ""


def _open(line: _Line, channels: int, controls: DenoiseConfig, engines: dict[int, Engine]) -> Pipeline:
    """A pipeline with one call a channel: the even slot hears the recording, the odd one sends it on."""
    pipeline = Pipeline(2 * channels, engines, hold_s=0.0, rows=channels, seed=0)
    payload = Payload(PAYLOAD_TYPE, line.name, line.clock_hz, 1, PAYLOAD_TYPE)
    for slot in range(2 * channels):
        pipeline.open(
            LegSpec(
                slot=slot, generation=1, call_id="file", peer=slot ^ 1, payloads=(payload,),
                denoise=controls.denoise == "both", level=controls.level, keep_music=controls.music == "pass",
                bypass=controls.bypass,
            )
        )  # fmt: skip
    return pipeline


def _line(codec: str, rate_hz: int) -> _Line:
    if codec == "L16":
        clock_hz = 8000 if rate_hz <= 8000 else 16000
        return _Line(codec, clock_hz, clock_hz)
    if codec not in CLOCKS_HZ:
        raise CallerError(f"codec {codec}: unknown; the codecs are L16, {', '.join(CLOCKS_HZ)}")
    return _Line(codec, CLOCKS_HZ[codec], 16000 if codec == "G722" else 8000)


def _read(path: Path) -> tuple[Floats, int, str]:
    try:
        if not path.is_file():
            raise CallerError(f"{path}: no such file")
        info = soundfile.info(path)
        pcm, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise CallerError(f"{path}: {_reason(path, error)}") from None
    return np.nan_to_num(pcm, posinf=1.0, neginf=-1.0), int(rate_hz), str(info.subtype)


def _write(path: Path, pcm: Floats, rate_hz: int, subtype: str) -> None:
    """Same sample type as the recording where the target's format has it, else the format's own default."""
    kind = path.suffix[1:].upper()
    chosen = subtype if kind in LOSSLESS and soundfile.check_format(kind, subtype) else None
    try:
        soundfile.write(path, pcm, rate_hz, subtype=chosen)
    except (soundfile.LibsndfileError, OSError, TypeError, ValueError) as error:
        raise CallerError(f"{path}: {_reason(path, error)}") from None


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if not path.parent.is_dir():
        return "no such folder"
    if isinstance(error, soundfile.LibsndfileError):
        return str(error.error_string).rstrip(".") if path.exists() else "cannot be written"
    return f"not a format that can be written; use one of .{', .'.join(kind.lower() for kind in LOSSLESS)}"


def _resample(pcm: Floats, from_hz: int, to_hz: int) -> Floats:
    if from_hz == to_hz or not len(pcm):
        return pcm
    return np.asarray(soxr.resample(pcm, from_hz, to_hz), np.float32)


def _fit(pcm: Floats, samples: int) -> Floats:
    """Cut or filled with silence to so many samples; resampling there and back may be off by one."""
    fitted = np.zeros((samples, pcm.shape[1]), np.float32)
    fitted[: len(pcm)] = pcm[:samples]
    return fitted
