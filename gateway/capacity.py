"""Measured figures that plans are made from: `capacity.json` beside this file, written by `python -m loadtest`.

A figure that nobody measured is not in the file. Each says on what machine it was measured, when, and by which command.
"""

from pathlib import Path

import msgspec

from gateway.errors import ConfigError

FILE = Path(__file__).with_name("capacity.json")


class Source(msgspec.Struct, frozen=True):
    """Where a figure comes from."""

    machine: str
    date: str
    command: str
    """What measures it again and writes it here."""


class Core(msgspec.Struct, frozen=True):
    """The most denoised legs (PCMU, 20 ms) one media core held, and what it did meanwhile."""

    legs: int
    busy: float
    """Share of the core, 0..1."""
    engine: float
    """Share of the core that the network took."""
    p99_ms: float
    """Of the added delay, 10 ms of it algorithmic."""
    source: Source


class Memory(msgspec.Struct, frozen=True):
    """Resident memory at two numbers of legs on one worker, in MB."""

    legs: tuple[int, int]
    worker_mb: tuple[float, float]
    rest_mb: tuple[float, float]
    """Control plane and warm spare."""
    source: Source


class SetUps(msgspec.Struct, frozen=True):
    """Calls a second that one gateway set up beside running ones."""

    per_s: float
    p99_ms: float
    source: Source


class Speed(msgspec.Struct, frozen=True):
    """Streams in real time on one core, network alone, by rate in Hz: what another rate costs beside 8 kHz."""

    by_rate: dict[str, float]
    source: Source


class Codecs(msgspec.Struct, frozen=True):
    """µs to decode and encode a packet of 20 ms, by name and rate of PCM in Hz."""

    microseconds: dict[str, float]
    source: Source


class Client(msgspec.Struct, frozen=True):
    """µs of a core for a worker's frame of 10 ms that goes to Triton, by rate in Hz: its engine and gRPC's threads."""

    microseconds: dict[str, float]
    slots: int
    """Frames of the batches that it was measured with; smaller ones cost more a frame."""
    source: Source


class Gpu(msgspec.Struct, frozen=True):
    """Streams one GPU held, its name in `source.machine`."""

    streams: int
    p99_ms: float
    path: str
    """What ran the network: torch-bf16, torch-fp32 or onnx."""
    source: Source


class Figures(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    cores: dict[str, Core]
    """By model."""
    memory: Memory
    setups: SetUps
    speeds: dict[str, Speed]
    """By model."""
    codecs: Codecs
    triton: Client
    gpus: dict[str, Gpu]
    """By model and rate: `light_8k`. Empty: no GPU was measured."""


def read(path: Path = FILE) -> Figures:
    """Raises ConfigError when the file is not there or not as it should be."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Figures)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except msgspec.MsgspecError as error:
        raise ConfigError(f"{path}: {error}; python -m loadtest capacity --renew writes this file") from None


def write(figures: Figures, path: Path = FILE) -> None:
    path.write_bytes(msgspec.json.format(msgspec.json.encode(figures), indent=2) + b"\n")
