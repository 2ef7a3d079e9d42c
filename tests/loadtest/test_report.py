"""Verdicts, tables and JSON."""

import json
from dataclasses import replace

import pytest

from loadtest import report
from loadtest.report import Report, Tried, verdict
from loadtest.same import Sameness
from loadtest.setups import SetUps
from loadtest.stage import Media, Stage

LIMIT_MS = 20.0
MEDIA = Media(35_000, 0, 0, 0, 0, 0, 0, {"p50": 2.0, "p99": 4.0, "p999": 6.0}, 0.3, 0.2)
SHARE = {"receive": 0.1, "engine": 0.5, "detect": 0.1, "arrays": 0.05, "send": 0.2}
STAGE = Stage(700, MEDIA, 10.0, 0.85, SHARE, 0.0, 0.01, 0, (130.0, 320.0), True)


def tried(what: str = "denoised", legs: int = 700, stage: Stage = STAGE, **media: object) -> Tried:
    """A stage with some of the generator's figures changed."""
    stage = replace(stage, legs=legs, media=replace(stage.media, **media))
    return Tried(what, stage, stage.faults(LIMIT_MS))


def test_a_stage_without_faults_is_held():
    assert tried().held
    assert verdict(tried()) == "held"


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"lost": 2}, "2 packets lost"),
        ({"delay_ms": {"p50": 2.0, "p99": 10.5, "p999": 30.0}}, "p99 20.5 ms"),
        ({"duplicates": 1}, "1 duplicates"),
        ({"unknown": 3}, "3 packets nobody sent"),
    ],
)
def test_each_fault_of_the_media_is_named(changed, text):
    assert verdict(tried(**changed)) == text
    assert not tried(**changed).held


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"dry_share": 0.02, "legs_shed": 14}, "2.0% of the frames dry, 14 legs shed"),
        ({"left_alone_share": 0.3}, "30.0% of the frames left alone"),
        ({"alive": False}, "media process died"),
    ],
)
def test_each_fault_of_the_gateway_is_named(changed, text):
    assert verdict(tried(stage=replace(STAGE, **changed))) == text


@pytest.mark.parametrize("changed", [{"generator_cpu": 0.81}, {"generator_late_ms": 2.01}])
def test_a_generator_at_its_limit_makes_no_result(changed):
    assert verdict(tried(**changed)).startswith("invalid")
    assert Report(LIMIT_MS, [tried(**changed)]).best("denoised") is None


def full() -> Report:
    """A run of all parts."""
    stages = [tried(legs=50), tried(legs=700), tried(legs=1000, lost=5), tried("relay", 2400), tried("rtpengine", 3000)]
    setups = SetUps(4, latencies_s=[0.001, 0.002, 0.004], refused=1)
    return Report(LIMIT_MS, stages, 0.7, setups, Sameness(20, 1000, 1000, 20, 0), None, ["a note"])


def test_json_has_the_figures_that_programs_read():
    found = json.loads(json.dumps(report.to_json(full())))
    assert found["legs_per_core"] == 700
    assert found["added_delay_ms"] == {"p50": 12.0, "p99": 14.0, "p999": 16.0, "algorithmic": 10.0}
    assert found["egress_loss"] == 0
    assert found["cpu_share"] == SHARE
    assert found["rss_mb"] == {"media_worker": 130.0, "total": 320.0}
    assert found["relay"]["ratio"] == 0.8
    assert found["p99_ms_at_50_legs"] == 14.0
    assert found["setups"]["refused"] == 1
    assert [stage["held"] for stage in found["stages"]] == [True, True, False, True, True]


def test_parts_that_were_not_run_are_null_and_leave_no_row():
    found = report.to_json(Report(LIMIT_MS, [tried()]))
    assert found["setups"] is None
    assert found["relay"] == {"relay_legs": None, "rtpengine_legs": None, "ratio": None, "untouched": None}
    assert "rtpengine" not in report.to_text(Report(LIMIT_MS, [tried()]))


def test_text_names_every_stage_and_every_figure_beside_its_goal():
    text = report.to_text(full())
    assert "| denoised | 1000 | 5 |" in text
    assert "| 700, p99 14.0 ms | ≥ 700 |" in text
    assert "2400 / 3000 = 0.80" in text
    assert "1 of 4 failed" in text
    assert "20 of 20 legs identical" in text
    assert text.endswith("a note")


def test_a_stage_run_twice_counts_by_its_better_try():
    found = Report(LIMIT_MS, [tried(lost=1), tried()])
    assert found.at("denoised", 700).media.lost == 0
