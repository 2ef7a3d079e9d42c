"""Configuration: frozen, validated once at the start, every default explained where it stands.

Types and ranges stand in the annotations; `gateway.config_file` reads a file against them. Everything here can be
encoded by msgspec, so that a media worker gets its configuration as one message.
"""

from dataclasses import dataclass, field
from typing import Annotated, Literal, get_args

from msgspec import Meta

Port = Annotated[int, Meta(ge=1, le=65535)]
Share = Annotated[float, Meta(gt=0, le=100)]
Seconds = Annotated[float, Meta(ge=0)]
Positive = Annotated[float, Meta(gt=0)]
EngineKind = Literal["ort", "triton", "rnnoise", "speex", "passthrough"]
ENGINE_KINDS: tuple[EngineKind, ...] = get_args(EngineKind)


@dataclass(frozen=True, slots=True)
class InterfaceConfig:
    """A local address that media runs over; NG's `direction` names it."""

    address: str = "auto"
    """Local IPv4 or IPv6 address to bind; `auto` is the address the host reaches the world from."""
    advertise: str | None = None
    """Address written into SDP instead, when the gateway stands behind NAT."""


@dataclass(frozen=True, slots=True)
class NgConfig:
    """The NG control protocol, spoken by Kamailio and OpenSIPS."""

    listen: tuple[str, ...] = ("127.0.0.1:2223",)
    """UDP addresses to listen on."""
    allow: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    """Networks whose requests are answered; all others are counted and dropped."""


@dataclass(frozen=True, slots=True)
class AdminConfig:
    """Health, metrics and calls over HTTP."""

    listen: str = "127.0.0.1:8080"
    """TCP address to listen on."""
    allow: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    """Networks that may connect; connections of all others are closed at once, which the log says."""
    upload_max_mb: Annotated[int, Meta(ge=1, le=4096)] = 64
    """Longest recording that `POST /v1/denoise` takes, in MB (10^6 bytes); it is kept in a temporary file meanwhile."""


@dataclass(frozen=True, slots=True)
class GrpcConfig:
    """DenoiseStream over gRPC, for media servers that hold the audio themselves (docs/grpc.md)."""

    listen: str | None = None
    """TCP address to listen on, such as 127.0.0.1:50051; null is off."""
    tls_certificate: str | None = None
    """PEM file with the server's certificate and its chain; TLS is on when it and tls_key are given."""
    tls_key: str | None = None
    """PEM file with its private key."""
    tls_client_ca: str | None = None
    """PEM file with authorities whose clients are served (mutual TLS); null serves any client."""
    insecure: bool = False
    """Also speak plain text on addresses other than loopback."""
    tokens: str | None = None
    """YAML file of bearer tokens: `a-long-secret: {name: acme, max_streams: 200, max_rate: 400}`. With it or jwks,
    `POST /v1/denoise` takes a token too."""
    jwks: str | None = None
    """File or https address of a JWKS: signed tokens (JWT) are taken too."""
    jwks_audience: str | None = None
    """What `aud` of signed tokens must be; null does not look."""
    jwks_issuer: str | None = None
    """What `iss` of signed tokens must be; null does not look."""
    processes: Annotated[int, Meta(ge=1, le=64)] = 1
    """Processes that serve gRPC on this port: 1 is the control process itself. A connection stays with one of them;
    limits of tokens are counted in each."""
    max_streams: Annotated[int, Meta(ge=0)] = 0
    """Streams that a token without a limit of its own may have at once; 0 is no limit."""
    max_rate: Annotated[float, Meta(ge=0)] = 0.0
    """Seconds of audio a second that it may send over all its streams; more has to wait. 0 is no limit."""
    max_message_bytes: Annotated[int, Meta(ge=4096, le=16777216)] = 1048576
    """Longest message that is taken."""
    queue_ms: Annotated[int, Meta(ge=100, le=60000)] = 2000
    """A stream ends when so much audio waits for a client that does not read."""
    idle_timeout_s: Positive = 60.0
    """A stream ends when its client has sent nothing for so long."""


@dataclass(frozen=True, slots=True)
class MediaConfig:
    """Ports, workers and the timing of the packet path."""

    workers: Annotated[int, Meta(ge=0, le=1024)] = 0
    """Media processes, each of which fills one core; 0 is one a core."""
    slots: Annotated[int, Meta(ge=2, le=65536)] = 1000
    """Legs a worker takes at most (a two-party call has two)."""
    port_min: Port = 30000
    """First UDP port for media; even ports carry RTP, the next odd one RTCP."""
    port_max: Port = 39999
    """Last UDP port for media."""
    port_rest_s: Seconds = 30.0
    """A freed port is not used again for so long, lest a late packet meet a new call."""
    batch_interval_ms: Annotated[float, Meta(ge=0, le=100)] = 2.0
    """Shortest gap between two batches; longer saves CPU, shorter saves delay."""
    hold_ms: Annotated[float, Meta(ge=0, le=100)] = 5.0
    """How long later packets wait for a missing one."""
    dry_after_ms: Annotated[float, Meta(gt=0, le=1000)] = 15.0
    """When frames have waited longer than this for 250 ms on end, the newest legs go dry. The time that a Triton
    server takes does not count."""
    latch_s: Seconds = 3.0
    """How long a leg looks for its best source before it is pinned."""
    latch_any: bool = False
    """Also accept sources that neither SDP nor received-from names (NAT without a helping proxy)."""
    dscp: Annotated[int, Meta(ge=0, le=63)] | None = None
    """DSCP of outgoing packets, 0..63; NG's TOS overrides it for a call."""
    socket_buffer_bytes: Annotated[int, Meta(ge=2048)] = 131072
    """Receive buffer of a media socket."""


@dataclass(frozen=True, slots=True)
class CallsConfig:
    """Limits on calls."""

    max_sessions: Annotated[int, Meta(ge=0)] = 0
    """Calls at once; above it offers answer `Parallel session limit reached`. 0 is no limit."""
    load_limit_percent: Share = 95.0
    """Busy share of the least loaded media core above which new offers answer `load limit`."""
    media_timeout_s: Positive = 60.0
    """A call without media for so long is removed."""
    silent_timeout_s: Positive = 3600.0
    """The same for a call on hold."""
    final_timeout_s: Seconds = 43200.0
    """A call that is older is removed whatever it does; 0 is never."""
    delete_delay_s: Seconds = 0.0
    """A deleted call lives on for so long, unless `delete delay` says otherwise."""
    drain_timeout_s: Seconds = 3600.0
    """How long SIGTERM waits for calls to end."""


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """The denoising network."""

    kind: EngineKind = "ort"
    """`ort` (our networks and your own, in an embedded ONNX Runtime), `triton` (our networks on NVIDIA Triton, see
    docs/triton.md; pip install -e '.[triton]' in the checkout), `rnnoise` or `speex` (pip install -e '.[rnnoise]' or
    '.[speex]'; one call at a time), or `passthrough` (no denoising, for measurements)."""
    model: str = "light"
    """Of kind `ort`: `light` (500 legs a core), `standard` (sounds better, 280), another name for
    `models/<model>_8k.onnx` and `models/<model>_16k.onnx`, the same as a path, or the path of a YAML card that
    describes a model of your own (docs/models.md). Of kind `triton`: a name that was given to export-triton."""
    endpoints: tuple[str, ...] = ("127.0.0.1:8001",)
    """Of kind `triton`: `host:port` of the servers' gRPC. Workers spread over them, move on when one fails, and come
    back."""
    model_version: str = ""
    """Of kind `triton`: the version of the model, as the number of its folder; empty is the newest."""
    deadline_ms: Annotated[float, Meta(gt=0, le=1000)] = 15.0
    """Of kind `triton`: a batch whose answer takes longer leaves dry."""
    fallback: Literal["none", "ort"] = "none"
    """Of kind `triton`: what denoises while no server does; `ort` is the embedded `light`, `none` leaves calls dry."""


@dataclass(frozen=True, slots=True)
class DenoiseConfig:
    """Defaults of the controls that NG, HTTP and the command line can set for each call."""

    denoise: Literal["both", "none"] = "both"
    """`both` directions or `none`."""
    level: Annotated[int, Meta(ge=0, le=100)] = 80
    """Limit of attenuation, 0..100: 0.3 dB a step; 0 leaves the audio alone, 100 is unlimited."""
    music: Literal["pass", "suppress"] = "pass"
    """`pass` or `suppress` music."""
    bypass: Literal["auto", "on", "off"] = "auto"
    """`auto` (music, tones, digits and fax pass untouched), `on` (everything does) or `off` (nothing does)."""


@dataclass(frozen=True, slots=True)
class DetectConfig:
    """What is told of the signals that are recognised (music, tones, digits, fax)."""

    report_digits: bool = False
    """Name the digits of DTMF in events and logs. They may be PINs and card numbers: off, only that there was one."""


@dataclass(frozen=True, slots=True)
class LogConfig:
    """Logging to stderr."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """`debug`, `info`, `warning` or `error`."""
    format: Literal["json", "text"] = "json"
    """`json`, one object a line, or `text`."""


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration of a gateway."""

    ng: NgConfig = field(default_factory=NgConfig)
    admin: AdminConfig = field(default_factory=AdminConfig)
    grpc: GrpcConfig = field(default_factory=GrpcConfig)
    interfaces: dict[str, InterfaceConfig] = field(default_factory=lambda: {"default": InterfaceConfig()})
    media: MediaConfig = field(default_factory=MediaConfig)
    calls: CallsConfig = field(default_factory=CallsConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    denoise: DenoiseConfig = field(default_factory=DenoiseConfig)
    detect: DetectConfig = field(default_factory=DetectConfig)
    log: LogConfig = field(default_factory=LogConfig)
