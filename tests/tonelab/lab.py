"""The laboratory: every case as three calls through one gateway, and one row of figures for each.

The three treatments of a case go at the same time in the same gateway, so that nothing but the treatment differs.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtest.ng import NgError
from tests.tonelab import spandsp, special
from tests.tonelab.calls import PACKET_S, ROOT, Conversation, Phone, Recorder, Site, gateway, hold, talk
from tests.tonelab.cases import Case, programme
from tests.tonelab.levels import RATE_HZ, encode
from tests.tonelab.measure import Figures, dry_share, figures, heard, reported

SETTINGS = {
    "on": ("detectors on", (("denoise", "both"), ("denoise-bypass", "auto"))),
    "off": ("detectors off", (("denoise", "both"), ("denoise-bypass", "off"))),
    "dry": ("denoise=off", (("denoise", "none"),)),
}
DELAY = 80
"""Samples by which content lies behind on a leg that may be denoised; none with `denoise=none`."""
PAGE_S = 43.0
ATTEMPTS = 3
"""How often a case is played when packets were lost, each time with half as many calls at once."""
COMPLAINTS = 10
"""Lines of the gateway's own that are shown."""


@dataclass(slots=True)
class Trial:
    """One call to be made, and how it is measured afterwards."""

    section: str
    row: str
    name: str
    treatment: str
    """Key of `SETTINGS`."""
    seconds: float
    conversation: Conversation
    measure: Callable[[Conversation], Figures]
    figures: Figures | None = None


def trials(sections: tuple[str, ...], quick: bool) -> list[Trial]:
    """Every case under every treatment."""
    planned = [
        trial
        for case in programme(sections, quick)
        for trial in (_of_case(case, treatment) for treatment in SETTINGS)
    ]  # fmt: skip
    for treatment in SETTINGS:
        planned += [_of_events(treatment)] if "events" in sections else []
        if "page" in sections and spandsp.library() is not None:
            planned += [_of_page(treatment, corrected) for corrected in ((False,) if quick else (False, True))]
    return planned


def _conversation(treatment: str, a: Phone, b: Phone, law: str) -> Conversation:
    return Conversation(a, b, law, SETTINGS[treatment][1])


def _of_case(case: Case, treatment: str) -> Trial:
    a = Recorder(talk(encode(case.sent, case.law), case.law, case.gone))
    b = Recorder(() if case.back is None else talk(encode(case.back, case.law), case.law))
    delay = 0 if treatment == "dry" else DELAY

    def measure(done: Conversation) -> Figures:
        there = heard(case, case.sent, b.heard, delay)
        back = None if case.back is None else heard(case, case.back, a.heard, delay)
        found = figures(case, there, back, reported(done.reports))
        found["dry"] = dry_share(done.reports)
        return found if delay else found | {"latched": None}  # a leg that is only relayed is no latched one

    return Trial(case.section, case.row, case.name, treatment, case.seconds,
                 _conversation(treatment, a, b, case.law), measure)  # fmt: skip


def _of_events(treatment: str) -> Trial:
    packets = special.events_stream()
    b = Recorder()
    return Trial(
        "events", "RFC 4733 digits, comfort noise, silence", "events", treatment, len(packets) * PACKET_S,
        _conversation(treatment, Recorder(packets), b, "PCMU"), lambda _: special.events_kept(packets, b.heard),
    )  # fmt: skip


def _of_page(treatment: str, corrected: bool) -> Trial:
    call = special.FaxCall("PCMU", corrected)
    return Trial(
        "page", f"a page between two spandsp machines{', ECM' if corrected else ''}", "page", treatment, PAGE_S,
        _conversation(treatment, call.a, call.b, "PCMU"), lambda _: call.finish(),
    )  # fmt: skip


def waves(planned: Sequence[Trial], calls: int) -> Iterator[list[Trial]]:
    """As many at once as may be; calls of like length together, all treatments of a case in one wave."""
    cases = [list(group) for _, group in itertools.groupby(planned, key=lambda t: (t.section, t.row, t.name))]
    cases.sort(key=lambda group: -group[0].seconds)
    wave: list[Trial] = []
    for case in cases:
        if wave and len(wave) + len(case) > calls:
            yield wave
            wave = []
        wave += case
    if wave:
        yield wave


def run(
    planned: Sequence[Trial], calls: int, checkout: Path = ROOT, passed: Callable[[float], None] = lambda _s: None
) -> list[str]:
    """Hold every call and put its figures into its trial. passed: told of seconds of calls that went by.

    Calls that lost packets that were sent are made again: the machine stood still, and nothing is known of signals.
    Returns what one should know to read the figures. Raises NgError when the gateway does not start or refuses.
    """
    notes = []
    with gateway(calls, checkout) as site:
        due: Sequence[Trial] = planned
        for attempt in range(ATTEMPTS):
            for wave in waves(due, calls >> attempt):
                _hold_wave(site, wave, passed)
            for trial in due:
                trial.figures = trial.measure(trial.conversation)
            due = _disturbed(planned)
            if not due:
                break
            notes.append(f"{len(due)} calls were disturbed in round {attempt + 1}, of {ATTEMPTS}")
            if attempt < ATTEMPTS - 1:
                _forget(due)
        shed, complaints = site.shed_frames(), site.complaints()
    notes += [f"{shed / 100:.1f} s of audio went dry because the machine was too busy"] if shed else []
    return notes + [f"the gateway says: {line}" for line in complaints][:COMPLAINTS]


def _disturbed(planned: Sequence[Trial]) -> list[Trial]:
    """All treatments of the cases of which any lost packets."""
    cases = {(trial.row, trial.name) for trial in planned if trial.figures and trial.figures.get("missing")}
    return [trial for trial in planned if (trial.row, trial.name) in cases]


def _forget(trials: Sequence[Trial]) -> None:
    for trial in trials:
        trial.conversation.reports.clear()
        for phone in (trial.conversation.a, trial.conversation.b):
            if isinstance(phone, Recorder):
                phone.forget()


def _hold_wave(site: Site, wave: Sequence[Trial], passed: Callable[[float], None]) -> None:
    conversations = [trial.conversation for trial in wave]
    hold(site, conversations, passed)
    deaf = [each for each in conversations if isinstance(each.b, Recorder) and not each.b.heard]
    if deaf:
        raise NgError(f"nothing came out of the gateway in {len(deaf)} of {len(wave)} calls")


def real_time_s(planned: Sequence[Trial], calls: int) -> float:
    """How long all calls take together."""
    return sum(max(trial.seconds for trial in wave) for wave in waves(planned, calls))


__all__ = ["RATE_HZ", "SETTINGS", "Trial", "real_time_s", "run", "trials", "waves"]
