"""Every message between the planes.

Commands go down to a media worker, events come up, over one SOCK_SEQPACKET socket a worker; an `OpenLeg` carries the
leg's sockets beside it (SCM_RIGHTS). A leg's description is declarative: whenever anything about it changes, the
control plane sends it whole, and the worker works out what is different.
"""

from enum import IntEnum, StrEnum
from typing import NamedTuple

import msgspec
import numpy as np

Address = tuple[str, int]
"""Numeric host and port."""


class Lease(NamedTuple):
    """The right to a row of a worker's arrays; a stale generation is ignored."""

    slot: int
    generation: int


class Kind(StrEnum):
    """How a leg's packets are treated."""

    AUDIO = "audio"
    """RTP: parsed, own header, denoised."""
    RAW = "raw"
    """Any datagrams (video, T.38, unknown): relayed as they are."""


class Latch(StrEnum):
    """Which sources a leg learns its peer from."""

    STRICT = "strict"
    """Best source within `latch_s`, then pinned."""
    ASYMMETRIC = "asymmetric"
    """Packets go to the SDP's address, whatever they come from."""
    HANDOVER = "handover"
    """Follows the peer to a new source at any time (`media handover`)."""


class Reason(IntEnum):
    """Why a leg's audio is not denoised."""

    NONE = 0
    """It is denoised."""
    ASKED = 1
    """`denoise`, `level` or `bypass` say so."""
    LOAD = 2
    """The worker is too busy."""
    FAULT = 3
    """The engine has failed, or there is none for this rate."""
    TRIAL = 4
    """It looks like a tone, or begins a stream that may be music; withdrawn unless a detector confirms it."""
    MUSIC = 5
    PROGRESS = 6
    """A call-progress tone, or the silent part of its cadence; or another steady tone."""
    DTMF = 7
    FAX = 8
    """A fax, modem or text telephone; when latched, to the end of the call."""


class Payload(msgspec.Struct, frozen=True, array_like=True):
    """One payload type that a party may send."""

    payload_type: int
    """As received, 0..127."""
    codec: str
    """Upper-case encoding name: PCMU, PCMA, G722, L16, CN, TELEPHONE-EVENT, …"""
    clock_hz: int
    """RTP clock (8000 for G722)."""
    channels: int
    out_payload_type: int
    """What the other party calls the same codec."""


class LegSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a worker has to know of a leg: one party's end of one m-line."""

    slot: int
    generation: int
    call_id: str
    kind: Kind = Kind.AUDIO
    peer: int = -1
    """Slot of the leg that sends out what this one receives; -1: received, sent nowhere."""
    rtp_remote: Address | None = None
    """Address in the party's SDP; None before it is known or while it is 0.0.0.0 (nothing is sent)."""
    rtcp_remote: Address | None = None
    """None with rtcp_mux, and where the party takes no RTCP."""
    rtcp_mux: bool = False
    """RTCP shares the RTP port of this party."""
    received_from: str | None = None
    """Address the proxy saw the party's signalling come from."""
    latch: Latch = Latch.STRICT
    epoch: int = 0
    """Grows with each offer or answer of the party: a new one opens latching again and lets a new SSRC in at once."""
    pinned: Address | None = None
    """Where an earlier worker had pinned RTP to."""
    pinned_rtcp: Address | None = None
    payloads: tuple[Payload, ...] = ()
    denoise: bool = True
    """Take the noise out of the audio received from this party."""
    level: int = 80
    keep_music: bool = True
    bypass: str = "auto"
    latched: bool = False
    """A fax or modem was heard in this call: its audio passes untouched to the end."""
    noted: bool = False
    """Its packets have room for notes of what became of each frame: see `gateway.protocol.stream_packet`."""


class OpenLeg(msgspec.Struct, frozen=True, tag=True):
    """Begin a leg. Its sockets come along: RTP, then RTCP (none for RAW without)."""

    spec: LegSpec


class UpdateLeg(msgspec.Struct, frozen=True, tag=True):
    """Replace a leg's description."""

    spec: LegSpec


class CloseLeg(msgspec.Struct, frozen=True, tag=True):
    """End a leg and free its row."""

    lease: Lease


class ReadLegs(msgspec.Struct, frozen=True, tag=True):
    """Ask for the statistics of these slots now."""

    request_id: int
    slots: tuple[int, ...]


class Stop(msgspec.Struct, frozen=True, tag=True):
    """End the worker."""


Command = OpenLeg | UpdateLeg | CloseLeg | ReadLegs | Stop


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The worker has loaded its engines and takes legs."""

    pid: int
    delays: dict[int, int]
    """Engine delay in samples, by rate in Hz."""


class LegStats(msgspec.Struct, frozen=True, tag=True):
    """Rows of `LEG_STATS` as bytes: every second for all slots in use, or the answer to a `ReadLegs`."""

    rows: bytes
    request_id: int = 0
    """0: the regular report."""


class WorkerStats(msgspec.Struct, frozen=True, tag=True):
    """Totals of a worker since its start, once a second. Seconds are of the process's time."""

    counters: dict[str, int]
    """packets_in, packets_out, batches, frames by what became of them (`frames_wet`, `frames_dry_<reason>`), and drops
    by reason (`dropped_<reason>`)."""
    seconds: dict[str, float]
    """busy and idle, and the stages of a batch: receive, arrays, engine, send."""
    delay_buckets: list[int]
    """Packets by time in the gateway beside the algorithmic delay; upper bounds in `DELAY_BOUNDS_MS`."""


class Latched(msgspec.Struct, frozen=True, tag=True):
    """A leg's source is known; the control plane keeps it for the next worker."""

    lease: Lease
    rtp: Address | None
    rtcp: Address | None


class Detected(msgspec.Struct, frozen=True, tag=True):
    """A detector heard something in what a leg's party sent; see `gateway.detect.detection`."""

    lease: Lease
    kind: str
    value: str
    """Empty where it is private: the digits of DTMF, unless configured."""
    begin_ms: float
    """Since the leg's first packet."""
    lasting_ms: float | None
    """None while it lasts."""
    level_dbm0: float | None
    twist_db: float | None


class CallLatched(msgspec.Struct, frozen=True, tag=True):
    """A leg has heard a fax or modem: its call is left alone to the end."""

    lease: Lease


DETECTORS = 0
"""In the place of a rate: what failed are the detectors, and nothing is left alone for what it is."""


class EngineFault(msgspec.Struct, frozen=True, tag=True):
    """An engine, or one of its servers, failed (reason) or works again (empty reason)."""

    rate: int
    reason: str
    substitute: str = ""
    """The network that does its work meanwhile."""
    endpoint: str = ""
    """The server; empty is the engine itself, whose calls run without it."""


Event = Ready | LegStats | WorkerStats | Latched | Detected | CallLatched | EngineFault

DELAY_BOUNDS_MS = (1.0, 2.0, 3.0, 4.0, 5.0, 7.5, 10.0, 15.0, 20.0, 50.0, float("inf"))

LEG_STATS = np.dtype(
    [
        ("slot", np.int32),
        ("generation", np.int64),
        ("packets", np.int64),  # RTP and raw packets accepted
        ("bytes", np.int64),  # of those, headers included, UDP and IP not
        ("errors", np.int64),  # dropped: garbage, strangers, duplicates
        ("lost", np.int64),
        ("last_packet_s", np.float64),  # monotonic clock; 0 before the first
        ("ssrc_in", np.uint32),
        ("ssrc_out", np.uint32),  # of the stream sent to this leg's party
        ("packets_out", np.int64),  # sent to this leg's party
        ("bytes_out", np.int64),
        ("jitter_ms", np.float32),
        ("frames_wet", np.int64),
        ("frames_dry", np.int64),
        ("wet", np.bool_),  # now
        ("reason", np.uint8),  # why the last frame was not denoised: `Reason`
    ]
)

encoder = msgspec.msgpack.Encoder()
commands = msgspec.msgpack.Decoder(Command)
events = msgspec.msgpack.Decoder(Event)
