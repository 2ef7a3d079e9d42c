"""What a run says: a table to read, and the same as JSON for programs."""

import os
import platform
from dataclasses import dataclass, field
from pathlib import Path

from loadtest.same import Sameness
from loadtest.setups import SetUps
from loadtest.stage import Stage

Json = dict[str, object]

GOAL_LEGS = 700
GOAL_P99_AT_50_MS = 14.0
GOAL_RSS_MB = 500.0
GOAL_READY_S = 3.0
GOAL_SETUP_P99_MS = 50.0
GOAL_RELAY_RATIO = 0.8
FEW_LEGS, MANY_LEGS = 50, 1000


@dataclass(frozen=True, slots=True)
class Tried:
    """A stage with its verdict."""

    what: str
    """`denoised`, `relay` or `rtpengine`."""
    stage: Stage
    faults: list[str]

    @property
    def held(self) -> bool:
        return self.stage.valid() and not self.faults


@dataclass(slots=True)
class Report:
    """Everything a run found; a part that was not run is None."""

    limit_ms: float
    tried: list[Tried] = field(default_factory=list)
    ready_s: float | None = None
    setups: SetUps | None = None
    same: Sameness | None = None
    relay_untouched: Sameness | None = None
    notes: list[str] = field(default_factory=list)

    def best(self, what: str) -> Stage | None:
        """The stage with the most legs that held."""
        held = [tried.stage for tried in self.tried if tried.what == what and tried.held]
        return max(held, key=lambda stage: stage.legs, default=None)

    def at(self, what: str, legs: int) -> Stage | None:
        """The best stage with so many legs, held or not."""
        found = [t for t in self.tried if t.what == what and t.stage.legs == legs and t.stage.valid()]
        return min(found, key=lambda tried: len(tried.faults)).stage if found else None

    def relay_ratio(self) -> float | None:
        """Bypassed legs that we relay, over those of rtpengine."""
        ours, theirs = self.best("relay"), self.best("rtpengine")
        return ours.legs / theirs.legs if ours and theirs else None


def to_json(report: Report) -> Json:
    """The whole report; figures of parts that were not run are null."""
    best, few, many = report.best("denoised"), report.at("denoised", FEW_LEGS), report.at("denoised", MANY_LEGS)
    relay, theirs = report.best("relay"), report.best("rtpengine")
    return {
        "legs_per_core": best.legs if best else None,
        "added_delay_ms": _delay(best) if best else None,
        "egress_loss": best.media.lost if best else None,
        "cpu_share": _rounded(best.cpu_share) if best else None,
        "rss_mb": _rss(best) if best else None,
        "p99_ms_at_50_legs": round(few.added_delay_ms("p99"), 2) if few else None,
        "rss_mb_at_1000_legs": _rss(many) if many else None,
        "start_to_ready_s": round(report.ready_s, 2) if report.ready_s else None,
        "setups": _setups(report.setups) if report.setups else None,
        "relay": {
            "relay_legs": relay.legs if relay else None,
            "rtpengine_legs": theirs.legs if theirs else None,
            "ratio": round(report.relay_ratio() or 0, 3) or None,
            "untouched": _same(report.relay_untouched),
        },
        "same_as_file": _same(report.same),
        "limit_ms": report.limit_ms,
        "stages": [_stage(tried) for tried in report.tried],
        "notes": report.notes,
        "machine": machine(),
    }


def machine() -> Json:
    """What it was measured on."""
    info = Path("/proc/cpuinfo").read_text()
    model = next((line.partition(": ")[2] for line in info.splitlines() if line.startswith("model name")), "unknown")
    system = {"kernel": platform.release(), "python": platform.python_version()}
    return {"cpu": model, "cores": len(os.sched_getaffinity(1)), **system}


def to_text(report: Report) -> str:
    """The tables, in Markdown: the stages, then each figure beside its goal."""
    return "\n".join([*_stage_table(report), "", *_goal_table(report), "", *report.notes])


def stage_line(tried: Tried) -> str:
    """One row of the table of stages."""
    stage, media = tried.stage, tried.stage.media
    share = " / ".join(f"{100 * stage.cpu_share[name]:.0f}" for name in stage.cpu_share) or "–"
    delay = " / ".join(f"{stage.added_delay_ms(name):.1f}" for name in ("p50", "p99", "p999"))
    cells = (
        tried.what, str(stage.legs), str(media.lost), delay, f"{100 * stage.media_cpu:.0f} %", share,
        f"{stage.rss_mb[0]:.0f} / {stage.rss_mb[1]:.0f}",
        f"{100 * media.generator_cpu:.0f} %, {media.generator_late_ms:.2f} ms", verdict(tried),
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def verdict(tried: Tried) -> str:
    """`held`, `invalid`, or what is wrong."""
    if not tried.stage.valid():
        return "invalid: generator too busy or late"
    return "; ".join(tried.faults) or "held"


STAGE_HEAD = (
    "| what | legs | lost | added delay p50 / p99 / p99.9, ms | media core "
    "| receive / engine / detect / arrays / send, % | RSS worker / all, MB | generator CPU, late p99 | verdict |"
)


def _stage_table(report: Report) -> list[str]:
    return [STAGE_HEAD, "|" + "---|" * 9, *map(stage_line, report.tried)]


def _goal_table(report: Report) -> list[str]:
    rows = [f"| {name} | {found} | {goal} |" for name, found, goal in _figures(report)]
    return ["| figure | measured | goal |", "|---|---|---|", *rows]


def _figures(report: Report) -> list[tuple[str, str, str]]:
    best, few, many = report.best("denoised"), report.at("denoised", FEW_LEGS), report.at("denoised", MANY_LEGS)
    rows: list[tuple[str, str, str]] = []
    if any(tried.what == "denoised" for tried in report.tried):
        legs = f"{best.legs}, p99 {best.added_delay_ms('p99'):.1f} ms" if best else "none"
        rows.append((f"denoised legs a core, p99 ≤ {report.limit_ms:g} ms, none lost", legs, f"≥ {GOAL_LEGS}"))
    if few:
        rows.append(
            ("p99 added delay at 50 legs", f"{few.added_delay_ms('p99'):.1f} ms", f"≤ {GOAL_P99_AT_50_MS:g} ms")
        )
    if many:
        rows.append(("memory at 1,000 legs, all processes", f"{many.rss_mb[1]:.0f} MB", f"< {GOAL_RSS_MB:g} MB"))
    if report.ready_s:
        rows.append(("start to ready", f"{report.ready_s:.2f} s", f"< {GOAL_READY_S:g} s"))
    if setups := report.setups:
        found = f"p50 {setups.percentile_ms(50):.1f} ms, p99 {setups.percentile_ms(99):.1f} ms"
        failed = f", {setups.refused + setups.unanswered} of {setups.asked} failed"
        rows.append(("100 set-ups a second beside 300 legs", found + failed, f"p99 ≤ {GOAL_SETUP_P99_MS:g} ms"))
    if ratio := report.relay_ratio():
        ours, theirs = report.best("relay"), report.best("rtpengine")
        found = f"{ours.legs} / {theirs.legs} = {ratio:.2f}" if ours and theirs else ""
        rows.append(("bypassed legs against rtpengine", found, f"≥ {GOAL_RELAY_RATIO:g}"))
    return rows + _same_rows(report)


def _same_rows(report: Report) -> list[tuple[str, str, str]]:
    pairs = (("calls against `denoise-gateway file`", report.same), ("relayed payloads", report.relay_untouched))
    return [
        (
            name,
            f"{same.legs_identical} of {same.legs} legs identical; samples {same.identical / max(same.samples, 1):.4%},"
            f" largest difference {same.largest_difference}",
            "all",
        )
        for name, same in pairs
        if same
    ]


def _stage(tried: Tried) -> Json:
    stage, media = tried.stage, tried.stage.media
    return {
        "what": tried.what,
        "legs": stage.legs,
        "valid": stage.valid(),
        "held": tried.held,
        "faults": tried.faults,
        "packets": media.packets,
        "egress_loss": media.lost,
        "lost_while_warming": media.lost_warming,
        "duplicates": media.duplicates,
        "reordered": media.reordered,
        "ssrc_changes": media.ssrc_changes,
        "added_delay_ms": _delay(stage),
        "media_core": round(stage.media_cpu, 3),
        "cpu_share": _rounded(stage.cpu_share),
        "dry_share": round(stage.dry_share, 5),
        "left_alone_share": round(stage.left_alone_share, 5),
        "legs_shed": stage.legs_shed,
        "rss_mb": _rss(stage),
        "generator": {"cpu": round(media.generator_cpu, 3), "late_p99_ms": round(media.generator_late_ms, 3)},
    }


def _delay(stage: Stage) -> Json:
    """Percentiles with the algorithmic delay, and that delay itself."""
    delays = {name: round(stage.added_delay_ms(name), 2) for name in ("p50", "p99", "p999")}
    return {**delays, "algorithmic": stage.algorithmic_ms}


def _rss(stage: Stage) -> Json:
    return {"media_worker": round(stage.rss_mb[0], 1), "total": round(stage.rss_mb[1], 1)}


def _setups(setups: SetUps) -> Json:
    figures = {f"p{at}_ms": round(setups.percentile_ms(at), 2) for at in (50, 99)}
    return {"calls": setups.asked, "refused": setups.refused, "unanswered": setups.unanswered, **figures}


def _same(same: Sameness | None) -> Json | None:
    if same is None:
        return None
    return {
        "legs": same.legs,
        "legs_identical": same.legs_identical,
        "samples": same.samples,
        "samples_identical": same.identical,
        "largest_difference": same.largest_difference,
    }


def _rounded(shares: dict[str, float]) -> dict[str, float]:
    return {name: round(share, 4) for name, share in shares.items()}
