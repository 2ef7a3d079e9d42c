"""A plan for a person to read, and the same for programs."""

from dataclasses import asdict

from gateway.capacity import Figures, Source
from gateway.plan import Plan, Wish

Json = dict[str, object]


def to_text(wish: Wish, plan: Plan, figures: Figures) -> str:
    """Two columns, then what the plan rests on."""
    lines = [f"{wish.calls:,} calls, {wish.codec}, packets of {wish.ptime_ms} ms over IPv{wish.ip}, {wish.network}", ""]
    lines += [f"  {name:<20}{value}" for name, value in _rows(wish, plan)]
    lines += ["", "Assumed:", *(f"  - {text}" for text in plan.assumptions)]
    lines += ["", "Measured figures, and what renews them:"]
    lines += [f"  - {name}: {_source(source)}" for name, source in sources(wish, plan, figures).items()]
    return "\n".join(lines)


def to_json(wish: Wish, plan: Plan, figures: Figures) -> Json:
    """Everything, numbers as numbers."""
    found = {name: {**_plain(source)} for name, source in sources(wish, plan, figures).items()}
    return {"wish": asdict(wish), "plan": asdict(plan), "measured": found}


def sources(wish: Wish, plan: Plan, figures: Figures) -> dict[str, Source]:
    """Where the figures come from that this plan used."""
    found = {
        "legs a core": figures.cores[wish.model].source,
        "network by rate": figures.speeds[wish.model].source,
        "codecs": figures.codecs.source,
        "memory": figures.memory.source,
        "set-ups": figures.setups.source,
    }
    if plan.gpus:
        found["talking to Triton"] = figures.triton.source
    gpu = figures.gpus.get(wish.network)
    return found | ({"streams a GPU": gpu.source} if gpu else {})


def _rows(wish: Wish, plan: Plan) -> list[tuple[str, str]]:
    gateways = f"{plan.gateways:,} on machines of {wish.host_cores} cores: {plan.gateway_cores:,} cores in all"
    gpus = f"{plan.gpus:,} ({plan.gpu_reason})" if plan.gpus else plan.gpu_reason
    rows = [
        ("legs", f"{plan.legs:,}"),
        ("workers", f"{plan.workers:,}, one a core, {plan.legs_a_worker:,} legs each"),
        ("gateways", gateways),
        ("memory", f"{plan.memory_mb / 1000:,.1f} GB"),
        ("GPUs", gpus),
    ]
    if plan.gpus:
        rows.append(("Triton instances", f"{plan.triton_instances:,}, one a GPU"))
        rows.append(("to and from Triton", f"{_bits(plan.triton_bits_s)} of audio each way"))
    return [
        *rows,
        ("packets", f"{plan.packets_s:,} a second in, as many out"),
        ("media", f"{_bits(plan.media_bits_s)} in, as much out ({_bits(plan.ethernet_bits_s)} on Ethernet)"),
        ("UDP ports", f"{plan.ports:,}, of all gateways; {-(-plan.ports // plan.gateways):,} each"),
        ("set-ups", f"{plan.setups_s:,.1f} calls a second"),
    ]


def _bits(bits_s: int) -> str:
    return f"{bits_s / 1e9:,.2f} Gbit/s" if bits_s >= 10**9 else f"{bits_s / 1e6:,.1f} Mbit/s"


def _source(source: Source) -> str:
    return f"{source.command} ({source.machine}, {source.date})"


def _plain(source: Source) -> dict[str, str]:
    return {"machine": source.machine, "date": source.date, "command": source.command}
