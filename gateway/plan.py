"""How many cores, GPUs, ports and bits a second so many calls take: arithmetic on measured figures.

Nothing is measured here. What is assumed stands in `Plan.assumptions`, so that whoever reads a plan can judge it.
"""

from dataclasses import dataclass
from math import ceil

from gateway.capacity import Core, Figures
from gateway.errors import CallerError

CODECS = {"PCMU": (8000, 64_000), "PCMA": (8000, 64_000), "G722": (16000, 64_000), "L16": (16000, 256_000)}
"""Rate of the network in Hz, and bits of payload a second (RFC 3551 §4.5)."""
PTIMES_MS = (10, 20, 30, 40, 60)
LEGS_A_CALL = 2
MEASURED_PTIME_MS = 20
FRAMES_S = 100
"""Of each leg: the network's frames are 10 ms."""
RTP_BYTES, UDP_BYTES, IP_BYTES = 12, 8, {4: 20, 6: 40}
"""RFC 3550 §5.1, RFC 768, RFC 791 and RFC 8200; no extensions."""
ETHERNET_BYTES = 38
"""Header 14, check sequence 4, preamble 8, gap 12 (IEEE 802.3)."""
PORT_PAIRS = (65536 - 1024) // 2
"""RTP and RTCP of a leg; one address has so many."""
SYSTEM_CORES = 2
"""Of each gateway, beside its workers: the control plane, and the kernel's network interrupts."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be carried."""

    calls: int
    codec: str = "PCMU"
    ptime_ms: int = 20
    model: str = "light"
    ip: int = 4
    headroom: float = 0.2
    """Share of each core and GPU that stays free."""
    call_s: float = 180.0
    """Mean length of a call: how often ports change hands and calls are set up."""
    host_cores: int = 32
    """Cores of a machine that gateways run on."""
    port_rest_s: float = 30.0
    streams_per_gpu: int | None = None
    """Given by the operator; None: as measured."""
    gpu: bool = True
    """Use GPUs where it is known what they carry."""

    @property
    def rate(self) -> int:
        return CODECS[self.codec][0]

    @property
    def network(self) -> str:
        """The graph's name: `light_8k`."""
        return f"{self.model}_{self.rate // 1000}k"


@dataclass(frozen=True, slots=True)
class Plan:
    """What it takes. Bits, packets and memory are of all gateways together, each way."""

    legs: int
    legs_a_worker: int
    workers: int
    gateways: int
    gateway_cores: int
    memory_mb: int
    packets_s: int
    """Received; as many are sent."""
    media_bits_s: int
    """IP packets received; as many are sent."""
    ethernet_bits_s: int
    """The same with framing, as a link is filled."""
    ports: int
    """UDP, of all gateways."""
    setups_s: float
    gpus: int
    triton_instances: int
    triton_bits_s: int
    """Audio from the workers to Triton; as much comes back."""
    gpu_reason: str
    assumptions: tuple[str, ...]


def plan(wish: Wish, figures: Figures) -> Plan:
    """Raises CallerError for what cannot be planned."""
    core = _checked(wish, figures)
    legs = LEGS_A_CALL * wish.calls
    streams, gpu_reason = _streams_per_gpu(wish, figures)
    a_worker = legs_a_worker(wish, figures, core, remote=streams > 0)
    workers, setups_s = ceil(legs / a_worker), wish.calls / wish.call_s
    pairs = legs + ceil(LEGS_A_CALL * setups_s * wish.port_rest_s)
    gateways = max(
        ceil(workers / (wish.host_cores - SYSTEM_CORES)),
        ceil(setups_s / figures.setups.per_s),
        ceil(pairs / PORT_PAIRS),
    )
    gpus = ceil(legs / (streams * (1 - wish.headroom))) if streams else 0
    packets_s = legs * 1000 // wish.ptime_ms
    payload = CODECS[wish.codec][1] * wish.ptime_ms // 8000
    packet = payload + RTP_BYTES + UDP_BYTES + IP_BYTES[wish.ip]
    return Plan(
        legs=legs,
        legs_a_worker=a_worker,
        workers=workers,
        gateways=gateways,
        gateway_cores=workers + SYSTEM_CORES * gateways,
        memory_mb=_memory_mb(figures, legs, workers, gateways),
        packets_s=packets_s,
        media_bits_s=packets_s * packet * 8,
        ethernet_bits_s=packets_s * (packet + ETHERNET_BYTES) * 8,
        ports=2 * pairs,
        setups_s=setups_s,
        gpus=gpus,
        triton_instances=gpus,
        triton_bits_s=legs * wish.rate * 16 if streams else 0,
        gpu_reason=gpu_reason,
        assumptions=tuple(_assumptions(wish, figures, core, remote=streams > 0)),
    )


def legs_a_worker(wish: Wish, figures: Figures, core: Core, remote: bool) -> int:
    """Legs of one media core, an even number since a call's legs share a worker. remote: the network runs elsewhere."""
    busy = core.busy * (1 - wish.headroom)
    return max(int(busy / leg_share(wish, figures, core, remote)) // LEGS_A_CALL * LEGS_A_CALL, LEGS_A_CALL)


def leg_share(wish: Wish, figures: Figures, core: Core, remote: bool) -> float:
    """Share of a core that a leg takes: network, or the way to Triton, a frame; everything else a packet; and the codec
    beside PCMU."""
    speeds, codecs = figures.speeds[wish.model].by_rate, figures.codecs.microseconds
    if remote:
        microseconds = figures.triton.microseconds.get(str(wish.rate))
        if microseconds is None:
            raise CallerError(
                f"talking to Triton at {wish.rate} Hz: not measured; "
                f"python -m loadtest triton --rate {wish.rate} --renew measures it"
            )
        engine = microseconds * 1e-6 * FRAMES_S
    else:
        engine = core.engine / core.legs * speeds["8000"] / speeds[str(wish.rate)]
    packets = MEASURED_PTIME_MS / wish.ptime_ms
    around = (core.busy - core.engine) / core.legs * packets
    dearer_us = max(codecs[f"{wish.codec}/{wish.rate}"] - codecs["PCMU/8000"], 0.0)
    return engine + around + dearer_us * 1e-6 * 1000 / MEASURED_PTIME_MS * max(packets, 1.0)


def _checked(wish: Wish, figures: Figures) -> Core:
    if wish.codec not in CODECS:
        raise CallerError(
            f"codec {wish.codec}: found none of {', '.join(CODECS)}; other codecs are relayed, not denoised"
        )
    if wish.ptime_ms not in PTIMES_MS:
        raise CallerError(f"ptime {wish.ptime_ms}: expected one of {', '.join(map(str, PTIMES_MS))} ms")
    core = figures.cores.get(wish.model)
    if core is None or wish.model not in figures.speeds:
        known = ", ".join(sorted(figures.cores))
        raise CallerError(
            f"model {wish.model}: not measured, there are {known}; "
            f"python -m loadtest capacity --parts denoise --model {wish.model} --renew measures it"
        )
    if wish.host_cores <= SYSTEM_CORES:
        raise CallerError(f"cores of a host: found {wish.host_cores}, expected more than {SYSTEM_CORES}")
    return core


def _streams_per_gpu(wish: Wish, figures: Figures) -> tuple[int, str]:
    """(streams, 0 without GPUs; why)."""
    measured = figures.gpus.get(wish.network)
    if not wish.gpu:
        return 0, "none, as asked"
    if wish.streams_per_gpu is not None:
        return wish.streams_per_gpu, f"{wish.streams_per_gpu:,} streams a GPU, given by you, not measured"
    if measured is None:
        return 0, f"none planned, for no GPU was measured with {wish.network} (--streams-per-gpu N plans with them)"
    return measured.streams, f"{measured.streams:,} streams on {measured.source.machine} ({measured.path}), as measured"


def _memory_mb(figures: Figures, legs: int, workers: int, gateways: int) -> int:
    """Straight lines through two measured points: worker by worker, and once a gateway for what is not a worker."""
    memory = figures.memory
    few, many = memory.legs

    def line(points: tuple[float, float], at: float) -> float:
        return max(points[0] + (points[1] - points[0]) / (many - few) * (at - few), 0.0)

    return ceil(workers * line(memory.worker_mb, legs / workers) + gateways * line(memory.rest_mb, legs / gateways))


def _assumptions(wish: Wish, figures: Figures, core: Core, remote: bool) -> list[str]:
    measured = (
        f"a media core like that of {core.source.machine}: {core.legs} legs of PCMU at {core.busy:.0%} of it, "
        f"p99 {core.p99_ms:g} ms, measured {core.source.date}; {wish.headroom:.0%} of that stays free"
    )
    found = [
        "two legs a call, both denoised all the time, no silence suppression; RTCP (below 1 %) and signalling left out",
        measured,
        "every further core carries as much as the one measured: not measured beyond one",
        f"calls of {wish.call_s:g} s on average; ports rest {wish.port_rest_s:g} s; one gateway sets up "
        f"{figures.setups.per_s:g} calls a second",
        f"machines of {wish.host_cores} cores, {SYSTEM_CORES} of them for the control plane and the kernel (assumed)",
    ]
    if wish.rate != 8000 and not remote:
        found.append("16 kHz: the network's share grows as its cost alone does; not measured with calls")
    if wish.codec != "PCMU":
        found.append(f"{wish.codec}: its cost a packet was measured alone, beside PCMU; not with calls")
    if wish.ptime_ms != MEASURED_PTIME_MS:
        found.append("packets of other lengths than 20 ms: all but the network costs as much a packet; not measured")
    if not remote:
        found.append("the network runs on the workers' cores; `python -m loadtest gpu --renew` measures a GPU")
    if remote:
        found.append(f"what a worker pays to talk to Triton was measured in batches of {figures.triton.slots} frames, "
                     "without calls; smaller ones cost more a frame")  # fmt: skip
        found.append("streams a GPU are those of the bare network, without Triton around it: expect fewer through it")
        found.append(f"{wish.headroom:.0%} of each GPU stays free; none is spare for the failure of another: add one")
    return found
