"""Writes what was measured into the file that `denoise-gateway plan` reads, a section at a time; the rest stays."""

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import msgspec

from gateway import capacity
from gateway.capacity import Client, Codecs, Core, Figures, Gpu, Memory, SetUps, Source, Speed
from loadtest.gpu import Report as GpuReport
from loadtest.report import FEW_LEGS, MANY_LEGS, machine

MODELS = Path(__file__).parent.parent / "models"
SETUPS_PER_S = 100.0
"""What `loadtest capacity` asks for."""


def source(command: str, here: dict[str, Any] | None = None) -> Source:
    """This machine, or the one of a report (`machine`); today, unless that knows better."""
    here = here or machine()
    day = here.get("date", date.today().isoformat())
    return Source(f"{here['cpu']}, {here['cores']} cores", str(day), command)


def calls(figures: Figures, report: dict[str, Any], model: str, done: list[str]) -> Figures:
    """Figures with what a run of `loadtest capacity` (its JSON) found. done: gets what was renewed."""
    where = source(f"python -m loadtest capacity --parts denoise --model {model} --renew", report.get("machine"))
    held = [stage for stage in report["stages"] if stage["what"] == "denoised" and stage["held"]]
    if best := max(held, key=lambda stage: stage["legs"], default=None):
        shares, p99 = best["cpu_share"], best["added_delay_ms"]["p99"]
        core = Core(best["legs"], best["media_core"], shares["engine"], p99, where)
        figures = msgspec.structs.replace(figures, cores=figures.cores | {model: core})
        done.append(f"legs a core of {model}: {core.legs}")
    few, many = (_stage(report, legs) for legs in (FEW_LEGS, MANY_LEGS))
    if few and many:
        worker, total = ([stage["rss_mb"][name] for stage in (few, many)] for name in ("media_worker", "total"))
        rest = (total[0] - worker[0], total[1] - worker[1])
        memory = Memory((FEW_LEGS, MANY_LEGS), (worker[0], worker[1]), (round(rest[0], 1), round(rest[1], 1)), where)
        figures = msgspec.structs.replace(figures, memory=memory)
        done.append("memory")
    if (found := report["setups"]) and not found["refused"] + found["unanswered"]:
        of = source("python -m loadtest capacity --parts setups --renew", report.get("machine"))
        figures = msgspec.structs.replace(figures, setups=SetUps(SETUPS_PER_S, found["p99_ms"], of))
        done.append("set-ups")
    return speeds(figures, model)


def _stage(report: dict[str, Any], legs: int) -> dict[str, Any] | None:
    found = [s for s in report["stages"] if s["what"] == "denoised" and s["legs"] == legs and s["valid"]]
    return found[0] if found else None


def speeds(figures: Figures, model: str) -> Figures:
    """The network's own speed at each rate, from its cards."""
    cards = {rate: MODELS / f"{model}_{rate // 1000}k.json" for rate in (8000, 16000)}
    if not all(card.exists() for card in cards.values()):
        return figures
    by_rate = {str(rate): float(json.loads(card.read_text())["streams_per_core"]["64"]) for rate, card in cards.items()}
    where = Source("the cards' machine", date.today().isoformat(), f"python -m models.export --model {model}")
    return msgspec.structs.replace(figures, speeds=figures.speeds | {model: Speed(by_rate, where)})


def codecs(figures: Figures, microseconds: dict[str, float]) -> Figures:
    return msgspec.structs.replace(figures, codecs=Codecs(microseconds, source("python -m loadtest codecs --renew")))


def triton(figures: Figures, rate: int, slots: int, client_ms: float) -> Figures:
    """CPU of a client for a batch of one frame a slot. Figures of batches of another size are dropped."""
    before = figures.triton.microseconds if figures.triton.slots == slots else {}
    microseconds = before | {str(rate): round(client_ms * 1000 / slots, 2)}
    where = source("python -m loadtest triton --renew, and with --rate 16000")
    return msgspec.structs.replace(figures, triton=Client(microseconds, slots, where))


def gpus(figures: Figures, report: GpuReport) -> Figures:
    """The best path of each network. Raises ValueError for a dry run: a processor's figures are none of a GPU."""
    if report.device.startswith("CPU"):
        raise ValueError("a dry run on a processor is not written down")
    where = Source(report.device, date.today().isoformat(), "python -m loadtest gpu --renew")
    found: dict[str, Gpu] = {}
    for model, path in dict.fromkeys((timed.model, timed.path) for timed in report.timed):
        best = report.best(model, path)
        if best and (model not in found or found[model].streams < best.rows):
            found[model] = Gpu(best.rows, best.p99_ms, path, where)
    return msgspec.structs.replace(figures, gpus=figures.gpus | found)


def renew(change: Callable[[Figures], Figures], path: Path = capacity.FILE) -> None:
    """Read, change, write."""
    capacity.write(change(capacity.read(path)), path)
