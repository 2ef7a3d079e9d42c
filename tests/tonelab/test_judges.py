"""Decoders from elsewhere understand what our generators say: two that agree are seldom both wrong."""

import numpy as np
import pytest

from tests.tonelab import judges, page, signals, spandsp
from tests.tonelab.levels import through_g711

DIGITS = "0123456789ABCD*#"


@pytest.mark.parametrize("judge", [judges.SPANDSP_DTMF, judges.MULTIMON_DTMF], ids=lambda judge: judge.name)
@pytest.mark.parametrize("dbm0", [0, -36])
def test_digits_are_heard(judged, judge, dbm0):
    judged(judge)
    assert judge.hear(through_g711(signals.around(signals.dtmf(DIGITS, 50, 50, dbm0)))) == DIGITS


def test_silence_has_no_digits(judged):
    judged(judges.SPANDSP_DTMF)
    assert spandsp.dtmf_digits(np.zeros(8000, np.float32)) == ""


@pytest.mark.parametrize(
    ("tone", "name"),
    [
        (signals.cng(), "cng"),
        (signals.ced(), "ans"),
        (signals.ans_reversed(), "ans-reversed"),
        (signals.ansam(reversed_phase=False), "ansam"),
        (signals.ansam(), "ansam-reversed"),
        (signals.v21_preamble(2000), "v21-preamble"),
        (signals.answer_2225(), "bell-answer"),
        (signals.tty("HELLO"), ""),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_connect_tones_are_told_apart(judged, tone, name):
    judged(judges.SPANDSP_TONES)
    assert judges.SPANDSP_TONES.hear(signals.around(tone)) == name


@pytest.mark.parametrize("kind", spandsp.MADE)
def test_spandsp_hears_its_own_tones(judged, kind):
    judged(judges.SPANDSP_TONES)
    assert judges.connect_tones(signals.around(spandsp.made_connect_tone(kind, 5.0))) == kind


def test_a_text_telephone_is_read(judged):
    judged(judges.MINIMODEM_TTY)
    assert judges.MINIMODEM_TTY.hear(signals.around(signals.tty("HELLO 123 GA"))) == "HELLO 123 GA"


@pytest.mark.parametrize("answering", [False, True])
def test_a_modem_of_300_baud_is_read(judged, answering):
    judge = judges.MINIMODEM_300_ANSWER if answering else judges.MINIMODEM_300
    judged(judge)
    assert judge.hear(signals.around(signals.bell_103("Hello, world", answering=answering))) == "Hello, world"


def test_a_judge_that_is_not_installed_says_how_to_get_it():
    nobody = judges.Judge("nobody", "no-such-program", lambda pcm: "")
    assert nobody.missing() == "nobody is not installed: apt-get install no-such-program"


def exchange(tmp_path, spoil):
    """A page between two machines on a wire of our own; spoil: what happens to every 20 ms on it."""
    sent, came = page.write_page(tmp_path / "sent.tif"), tmp_path / "came.tif"
    machines = [spandsp.FaxMachine(True, sent), spandsp.FaxMachine(False, came)]
    for _ in range(50 * 90):
        said = [spoil(through_g711(machine.speak())) for machine in machines]
        for machine, other in zip(machines, reversed(said), strict=True):
            machine.hear(other)
        if None not in [machine.outcome for machine in machines]:
            break
    outcomes = [machine.outcome for machine in machines]
    for machine in machines:
        machine.close()
    return outcomes, page.wrong_lines(sent, came)


def test_a_fax_page_goes_over_a_clean_line(judged, tmp_path):
    judged(judges.SPANDSP_TONES)
    assert exchange(tmp_path, lambda pcm: pcm) == ([0, 0], 0)


def test_a_fax_page_does_not_go_over_a_line_that_eats_it(judged, tmp_path):
    judged(judges.SPANDSP_TONES)
    outcomes, wrong = exchange(tmp_path, lambda pcm: 0.001 * pcm)
    assert outcomes != [0, 0]
    assert wrong
