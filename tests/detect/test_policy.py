"""What becomes of a leg's frames when something is heard."""

import numpy as np
import pytest

from gateway.detect.policy import TRIAL_FRAMES, Policy
from gateway.messages import Reason


class Leg:
    """One slot among others."""

    def __init__(self) -> None:
        self.policy = Policy(8)
        self.slot = np.array([3])

    def hears(self, frames: int = 2, **heard: bool) -> Reason:
        kinds = ("toneish", "steady", "opening", "music", "progress", "dtmf", "fax")
        flags = {kind: np.array([heard.get(kind, False)]) for kind in kinds}
        return Reason(int(self.policy.decide(self.slot, frames, **flags)[0]))


def test_nothing_heard_is_denoised():
    assert Leg().hears() is Reason.NONE


@pytest.mark.parametrize("frames", [1, 2])
def test_what_looks_like_a_tone_goes_dry_at_once_and_only_so_long_without_proof(frames):
    leg = Leg()
    reasons = [leg.hears(frames, toneish=True) for _ in range(10)]
    believed = TRIAL_FRAMES // frames
    assert reasons == [Reason.TRIAL] * believed + [Reason.NONE] * (10 - believed)


def test_a_line_that_stands_steady_stays_on_trial_while_nothing_else_is_heard():
    leg = Leg()
    assert {leg.hears(toneish=True, steady=True) for _ in range(10)} == {Reason.TRIAL}
    assert leg.hears(toneish=False, steady=True) is Reason.NONE


def test_the_beginning_of_a_stream_is_on_trial_as_long_as_it_may_be_music():
    leg = Leg()
    assert {leg.hears(opening=True) for _ in range(20)} == {Reason.TRIAL}
    assert leg.hears(opening=True, music=True) is Reason.MUSIC
    assert leg.hears() is Reason.NONE


def test_a_new_tone_is_tried_anew():
    leg = Leg()
    for _ in range(10):
        leg.hears(toneish=True)
    leg.hears(toneish=False)
    assert leg.hears(toneish=True) is Reason.TRIAL


@pytest.mark.parametrize("kind", ["music", "progress", "dtmf", "fax"])
def test_what_a_detector_holds_stays_dry_until_it_lets_go(kind):
    leg = Leg()
    assert {leg.hears(toneish=True, **{kind: True}) for _ in range(50)} == {Reason[kind.upper()]}
    assert leg.hears() is Reason.NONE


def test_a_latch_lasts_and_a_new_leg_has_none():
    leg = Leg()
    leg.policy.latched[3] = True
    assert {leg.hears(toneish=tone) for tone in (True, False) for _ in range(10)} == {Reason.FAX}
    leg.policy.open_leg(3)
    assert leg.hears() is Reason.NONE


def test_rows_do_not_know_of_each_other():
    policy = Policy(4)
    policy.latched[2] = True
    no = np.zeros(3, np.bool_)
    toneish = np.array([True, False, False])
    for _ in range(5):
        codes = policy.decide(np.array([0, 1, 2]), 2, toneish, no, no, music=no, progress=no, dtmf=no, fax=no)
    assert codes.tolist() == [Reason.NONE, Reason.NONE, Reason.FAX]
    no = no[:2]
    toneish = np.array([True, False])
    codes = policy.decide(np.array([1, 0]), 2, toneish, no, no, music=no, progress=no, dtmf=no, fax=no)
    assert codes.tolist() == [Reason.TRIAL, Reason.NONE]
