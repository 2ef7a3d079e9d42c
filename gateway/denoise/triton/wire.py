"""Requests and answers of the remote engine as KServe v2 messages; sans-IO. `model.py` says what they hold.

Nothing that a server returns is believed: names, types, sizes, batch, order and epoch are checked before a sample is
used.
Source of the messages: KServe's open inference protocol v2 (grpc_service.proto), as Triton serves it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tritonclient.grpc import service_pb2

from gateway.denoise.engine import Floats, Ints, Result
from gateway.errors import EngineError

SCALE = np.float32(32768.0)
TYPES = {"BATCH": "INT64", "SLOTS": "INT32", "COUNTS": "INT32", "PCM": "INT16", "CONTROL": "FP32", "RESET": "UINT8"}
DTYPES: dict[str, Any] = {
    "BATCH": "<i8",
    "SLOTS": "<i4",
    "COUNTS": "<i4",
    "PCM": "<i2",
    "CONTROL": "<f4",
    "RESET": "u1",
}
OUTPUTS: dict[str, tuple[str, Any]] = {"BATCH": ("INT64", "<i8"), "PCM": ("INT16", "<i2"), "PROB": ("FP32", "<f4")}


class BadAnswerError(EngineError):
    """A server's answer that does not fit its request."""


@dataclass(frozen=True, slots=True)
class Part:
    """What the media plane submitted at once: unique slots [n], frames [n, k, hop], counts [n], control [n, 2]."""

    slots: Ints
    frames: Floats
    counts: Ints
    control: Floats


@dataclass(frozen=True, slots=True)
class Batch:
    """Parts merged: every slot once, its frames one after another."""

    slots: Ints
    """int64 [n], unique."""
    counts: Ints
    """int64 [n]"""
    pcm: npt.NDArray[np.int16]
    """int16 [all frames, hop]"""
    control: Floats
    places: tuple[npt.NDArray[np.intp], ...]
    """For each part, int [n, k]: where its frames are in `pcm`; -1 beyond a row's count."""
    whole: bool = False
    """One part, every row of which has all frames: `pcm` as it is."""


def merge(parts: list[Part]) -> Batch:
    """One batch of all parts, in the order of submission: a slot's later frames follow its earlier ones."""
    if len(parts) == 1 and (parts[0].counts == parts[0].frames.shape[1]).all():
        return _whole(parts[0])
    slots, first = np.unique(np.concatenate([part.slots for part in parts]), return_index=True)
    control = np.concatenate([part.control for part in parts])[first]
    rows = [np.searchsorted(slots, part.slots) for part in parts]
    counts = np.zeros(len(slots), np.int64)
    before = []
    for part, row in zip(parts, rows, strict=True):
        before.append(counts[row])
        counts[row] += part.counts
    begins = np.cumsum(counts) - counts
    pcm = np.zeros((int(counts.sum()), parts[0].frames.shape[2]), np.int16)
    places = []
    for part, row, earlier in zip(parts, rows, before, strict=True):
        frame = np.arange(part.frames.shape[1])
        place = np.where(frame < part.counts[:, None], (begins[row] + earlier)[:, None] + frame, -1)
        pcm[place[place >= 0]] = to_int16(part.frames[place >= 0])
        places.append(place)
    return Batch(slots, counts, pcm, control, tuple(places))


def _whole(part: Part) -> Batch:
    n, k, hop = part.frames.shape
    place = np.arange(n * k).reshape(n, k)
    return Batch(part.slots, part.counts, to_int16(part.frames.reshape(n * k, hop)), part.control, (place,), whole=True)


def to_int16(pcm: Floats) -> npt.NDArray[np.int16]:
    """float32 -1..1 as 16 bits, clipped."""
    scaled = pcm * SCALE
    np.rint(scaled, out=scaled)
    np.clip(scaled, -32768.0, 32767.0, out=scaled)
    return scaled.astype(np.int16)


def request(
    model: tuple[str, str],
    sequence: tuple[int, bool],
    batch_id: int,
    worker: tuple[int, int],
    batch: Batch,
    reset: npt.NDArray[Any],
) -> Any:
    """A ModelInferRequest.

    model: name and version, which may be empty; sequence: its id and whether this starts it; worker: its number,
    and how many slots it has; reset: bool [n], rows that begin a new stream.
    """
    tensors = {
        "BATCH": np.array([batch_id, *worker]), "SLOTS": batch.slots, "COUNTS": batch.counts, "PCM": batch.pcm,
        "CONTROL": batch.control, "RESET": reset,
    }  # fmt: skip
    message = service_pb2.ModelInferRequest(model_name=model[0], model_version=model[1], id=str(batch_id))
    for name, value in tensors.items():
        message.inputs.add(name=name, datatype=TYPES[name], shape=[1, *value.shape])
        message.raw_input_contents.append(value.astype(DTYPES[name], copy=False).tobytes())
    for name in OUTPUTS:
        message.outputs.add(name=name)
    message.parameters["sequence_id"].int64_param = sequence[0]
    message.parameters["sequence_start"].bool_param = sequence[1]
    return message


@dataclass(frozen=True, slots=True)
class Answer:
    """A checked answer."""

    epoch: int
    results: tuple[Result, ...]
    """For each part; rows without numbers are NaN."""
    spoilt: bool
    """There are such rows."""


def answer(message: Any, batch_id: int, batch: Batch) -> Answer:
    """Check a ModelInferResponse against its request. Raises BadAnswerError."""
    total, hop = batch.pcm.shape
    names = _tensor(message, "BATCH", (1, 2 + total))[0]
    if int(names[0]) != batch_id:
        raise BadAnswerError(f"it answered batch {int(names[0])} where {batch_id} was asked")
    if (names[2:] != np.repeat(batch.slots, batch.counts)).any():
        raise BadAnswerError("its frames are those of other slots than asked")
    pcm = _tensor(message, "PCM", (1, total, hop))[0]
    probabilities = _tensor(message, "PROB", (1, total, 4))[0]
    clean = pcm.astype(np.float32)
    clean *= np.float32(1 / SCALE)
    finite = np.isfinite(probabilities)
    spoilt = not finite.all()
    if spoilt:
        clean[~finite.all(axis=1)] = np.nan
    if batch.whole:
        n, k = batch.places[0].shape
        results: tuple[Result, ...] = (Result(clean.reshape(n, k, hop), probabilities.reshape(n, k, 4).copy()),)
    else:
        results = tuple(Result(clean[place], probabilities[place]) for place in batch.places)
    return Answer(int(names[1]), results, spoilt)


def _tensor(message: Any, name: str, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    index = next((i for i, output in enumerate(message.outputs) if output.name == name), None)
    if index is None:
        raise BadAnswerError(f"output {name} is missing")
    output = message.outputs[index]
    type_name, dtype = OUTPUTS[name]
    if output.datatype != type_name or tuple(output.shape) != shape:
        raise BadAnswerError(f"{name} is {output.datatype} {list(output.shape)}, expected {type_name} {list(shape)}")
    if index >= len(message.raw_output_contents):
        raise BadAnswerError(f"{name} has no content")
    raw = message.raw_output_contents[index]
    if len(raw) != np.dtype(dtype).itemsize * int(np.prod(shape)):
        raise BadAnswerError(f"{name} has {len(raw)} bytes, which is too short or too long for {list(shape)}")
    return np.frombuffer(raw, dtype).reshape(shape)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a model must say of itself."""

    wire: int
    rate: int
    hop: int
    delay: int


def mismatch(config: Any, wanted: Wanted) -> str:
    """What is wrong with a ModelConfig; empty when it is right."""
    parameters = {key: value.string_value for key, value in config.parameters.items()}
    for name in ("wire", "rate", "hop", "delay"):
        expected, found = str(getattr(wanted, name)), parameters.get(name)
        if found != expected:
            return (
                f"model {config.name} has {name} {found or 'not at all'}, expected {expected}: "
                "write its repository anew with denoise-gateway export-triton of this version"
            )
    shapes = {each.name: list(each.dims) for each in config.input}
    if shapes.get("PCM") != [-1, wanted.hop] or set(shapes) != set(TYPES):
        return f"model {config.name} takes {shapes}, which is not what denoise-gateway export-triton writes"
    return ""
