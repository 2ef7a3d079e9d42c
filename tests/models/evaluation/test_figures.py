"""Means, word error rates and intervals that evaluation makes of the figures of single clips."""

import numpy as np
import pytest

from models.evaluation import report, targets
from models.evaluation.figures import Difference, Results, at_snr, paired_interval
from models.evaluation.testset import SNRS_DB, Clip


def clip(part: str, number: int, snr_db: int | None = 0, noise: str = "wind") -> Clip:
    return Clip(f"{part}-{snr_db}-{number}", part, noise, snr_db, "fr", "G.711 A-law", "", 0)


CLIPS = [clip("noisy", i, snr) for snr in SNRS_DB for i in range(8)] + [clip("clean", i, None) for i in range(4)]
CLIPS += [clip("words", i, snr) for snr in (*SNRS_DB, None) for i in range(4)]


def results(gains: dict[str, float], errors: dict[str, float], streams: dict[str, float]) -> Results:
    """Systems that add a constant to PESQ, OVRL and STOI of clips that differ a lot among themselves."""
    rng = np.random.default_rng(3)
    base = {c.id: {"pesq": 2.0 + rng.normal(0, 0.5), "ovrl": 2.5, "stoi": 0.8, "words": 20.0} for c in CLIPS}

    def row(c: Clip, system: str) -> dict[str, float]:
        if c.part == "words":
            return {"words": 20.0, "errors": errors[system]}
        plain = {k: v + gains[system] * (0.01 if k == "stoi" else 1) for k, v in base[c.id].items() if k != "words"}
        others = {"sig": 3.0, "bak": 3.0, "p808": 3.0, "si_sdr_db": 5.0, "pause_reduction_db": 9.0}
        return {**plain, **others, "speech_gain_db": -0.4}

    return Results(8000, CLIPS, {s: {c.id: row(c, s) for c in CLIPS} for s in gains}, streams)


TWO = results({"noisy": 0.0, "RNNoise": 0.3, "standard": 0.4}, {"noisy": 5, "RNNoise": 4, "standard": 3},
              {"RNNoise": 45.0, "standard": 1200.0})  # fmt: skip


def test_a_constant_gain_has_an_interval_without_width_however_much_clips_differ():
    base = np.random.default_rng(0).normal(2, 1, 50)
    found = paired_interval(base + 0.3, base)
    assert found.value == pytest.approx(0.3)
    assert (found.low, found.high) == pytest.approx((0.3, 0.3))


def test_about_nineteen_of_twenty_intervals_hold_the_true_difference():
    rng, held = np.random.default_rng(1), 0
    for _ in range(200):
        found = paired_interval(rng.normal(0.5, 1, 60), np.zeros(60))
        held += found.low <= 0.5 <= found.high
    assert 180 <= held <= 199


def test_the_interval_is_the_same_at_every_run_and_narrows_with_more_clips():
    values = np.random.default_rng(2).normal(0, 1, 400)
    few, many = paired_interval(values[:25], np.zeros(25)), paired_interval(values, np.zeros(400))
    assert few == paired_interval(values[:25], np.zeros(25))
    assert many.high - many.low < (few.high - few.low) / 2.5


def test_word_errors_are_summed_before_they_are_divided():
    found = paired_interval(np.array([10.0, 0.0]), np.zeros(2), weights=np.array([10.0, 90.0]))
    assert found.value == pytest.approx(0.1)
    assert TWO.word_errors("noisy") == pytest.approx(25.0)
    assert TWO.word_error_difference("standard", "noisy", 0, 5).value == pytest.approx(-10.0)


def test_a_mean_takes_the_noisy_clips_of_the_ratio_asked_for():
    alone = [TWO.rows["noisy"][c.id]["pesq"] for c in CLIPS if c.part == "noisy" and c.snr_db == 5]
    assert TWO.mean("noisy", "pesq", at_snr(5)) == pytest.approx(np.mean(alone))
    assert TWO.difference("standard", "RNNoise", "pesq").value == pytest.approx(0.1)


def test_targets_tell_what_is_reached_and_by_how_much_the_rest_falls_short():
    found = {t.what: t for t in targets.targets(TWO)}
    assert found["streams a core, batch 64, whole graph"].verdict == "yes, by 200"
    assert found["PESQ against RNNoise"].verdict == "NO, by 0.10"
    assert found["STOI above noisy at 10 dB"].reached
    assert found["clean speech in: change of level, dB"].reached
    assert found["word errors at 0 and 5 dB, points against noisy"].reached
    assert "PESQ against GTCRN" not in found
    table = targets.tables(TWO)
    assert "| PESQ against RNNoise | +0.100 | +0.100 … +0.100 | ≥ 0.20 | NO, by 0.10 |" in table


def test_the_report_has_a_row_a_system_in_every_table_and_the_json_says_the_same():
    about = {"cpu": "a CPU", "date": "2026-01-01"}
    text, data = report.text(TWO, about), report.as_json(TWO, about)
    tables = [part for part in text.split("\n\n") if part.startswith("|")]
    assert all(sum(line.startswith(("| standard |", "| standard,")) for line in t.splitlines()) == 1 for t in tables)
    assert data["systems"]["standard"]["differences"]["RNNoise"]["pesq"][0] == pytest.approx(0.1)
    assert data["systems"]["noisy"]["streams_per_core"] is None
    assert data["systems"]["standard"]["word_error_percent"] == pytest.approx(15.0)
    assert [t["reached"] for t in data["targets"] if t["what"].startswith("PESQ")] == [False]


def test_what_was_not_measured_is_a_dash():
    assert str(paired_interval(np.zeros(0), np.zeros(0))) == "–"
    assert report.number(TWO.mean("noisy", "pesq", at_snr(7))) == "–"


def test_a_difference_reads_as_a_number_with_its_interval():
    assert str(Difference(0.123, -0.05, 0.3)) == "+0.12 (-0.05 … +0.30)"


def test_the_plot_names_every_system_and_no_label_covers_another():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("Agg")
    systems = {
        name: {"streams_per_core": x, "pesq": y}
        for name, x, y in (("standard", 900, 2.4), ("light", 1500, 2.3), ("RNNoise", 45, 2.3), ("DTLN", 50, 2.31),
                           ("GTCRN", 44, 2.33), ("SpeexDSP", 1100, 2.0), ("noisy", None, 1.9))
    }  # fmt: skip
    figure, axes = pyplot.subplots(figsize=(6, 4.6))
    report.panel(axes, systems, "pesq", {"standard", "light"})
    report.label_points(axes, report.placed(systems, "pesq"), {"standard", "light"})
    figure.canvas.draw()
    labels = {t.get_text(): t.get_window_extent() for t in axes.texts}
    pyplot.close(figure)
    assert labels.keys() == {"standard", "light", "RNNoise", "DTLN", "GTCRN", "SpeexDSP", "noisy input"}
    boxes = list(labels.values())
    assert all(report.overlap(a, b) == 0 for i, a in enumerate(boxes) for b in boxes[:i])
