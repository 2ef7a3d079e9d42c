"""The laboratory in short: some signals of each kind through one running gateway, under all three treatments."""

import math

import pytest

from tests.tonelab import judges, lab, report

CHOSEN = ("pcma", "us busy", "CED -13 dBm0", "2100 Hz, 0.5 s", "pink 0", "events")


@pytest.fixture(scope="module")
def found():
    """Figures by the name of the case and the treatment."""
    planned = [
        trial
        for trial in lab.trials(("dtmf", "progress", "fax", "beeps", "speech", "events"), quick=True)
        if trial.name in CHOSEN
    ]
    lab.run(planned, calls=len(planned))
    assert {trial.name for trial in planned} == set(CHOSEN)
    return {(trial.name, trial.treatment): trial.figures for trial in planned}


@pytest.mark.parametrize("treatment", lab.SETTINGS)
def test_no_packet_is_lost(found, treatment):
    assert not any(figures.get("missing", 0) for (_, own), figures in found.items() if own == treatment)


@pytest.mark.parametrize("name", ["pcma", "us busy", "CED -13 dBm0"])
def test_tones_keep_their_level_and_their_onsets(found, name):
    figures = found[name, "on"]
    assert abs(figures["level"]) <= 0.5
    assert figures["onset"] <= 10.0


@pytest.mark.parametrize("judge", [judges.SPANDSP_DTMF, judges.MULTIMON_DTMF], ids=lambda judge: judge.name)
def test_every_digit_that_is_heard_at_the_input_is_heard_at_the_output(judged, found, judge):
    judged(judge)
    got, of = found["pcma", "on"][judge.name]
    assert got == of > 0


def test_every_digit_is_reported_and_nothing_else(found):
    assert found["pcma", "on"]["reported"] == (32, 32)
    assert found["pcma", "on"]["false"] == ()


def test_cadences_keep_their_edges(found):
    assert found["us busy", "on"]["edges"] <= 10.0


def test_a_fax_tone_latches_both_directions_and_only_with_detectors(found):
    assert found["CED -13 dBm0", "on"]["identical"] < 1000
    assert found["CED -13 dBm0", "on"]["identical back"] < 3000
    assert math.isinf(found["CED -13 dBm0", "off"]["identical"])


def test_a_beep_on_a_faxs_frequency_latches_nothing(found):
    assert found["2100 Hz, 0.5 s", "on"]["latched"] == (0, 1)


def test_speech_is_still_denoised_and_nothing_is_found_in_it(found):
    assert found["pink 0", "on"]["pauses"] < -6
    assert found["pink 0", "on"]["false"] == ()
    assert found["pink 0", "on"]["dry"] < 0.05  # its first 0.4 s might have been music


def test_what_is_no_audio_passes_as_it_is(found):
    for treatment in lab.SETTINGS:
        figures = found["events", treatment]
        assert figures["events"] == (160, 160)
        assert figures["comfort noise"] == (3, 3)
        assert figures["invented"] == 0


def test_a_leg_that_is_off_is_relayed_bit_for_bit(found):
    assert found["CED -13 dBm0", "dry"]["identical"] == 0
    assert found["us busy", "dry"]["level"] == 0


def test_the_table_has_a_row_for_each_treatment(found):
    trials = [
        lab.Trial("dtmf", "PCMA", name, treatment, 1.0, None, None, figures)
        for (name, treatment), figures in found.items()
        if name == "pcma"
    ]
    table = report.markdown(report.rows(trials))
    for name, _ in lab.SETTINGS.values():
        assert f"| PCMA | {name} | 1 |" in table
