"""What the legs say."""

import numpy as np
import pytest

from gateway.media.codecs import g711
from loadtest.material import RATE_HZ, Material, linear_to_ulaw, ulaw_to_linear


@pytest.fixture(scope="module")
def material() -> Material:
    """Without recordings: what a machine has that knows none."""
    return Material(folders=())


def test_pcmu_agrees_with_the_gateways_table():
    codes = np.arange(256, dtype=np.uint8)
    assert np.array_equal(ulaw_to_linear(codes), g711.mu_law_decode_table())


def test_pcmu_round_trip_keeps_every_value_but_the_sign_of_zero():
    codes = np.arange(256, dtype=np.uint8)
    again = linear_to_ulaw(ulaw_to_linear(codes))
    assert np.flatnonzero(again != codes).tolist() == [0x7F]


def test_the_same_leg_says_the_same(material):
    assert np.array_equal(material.pcmu(5, 50), material.loops(6, 50)[5])


def test_no_two_legs_say_the_same(material):
    loops = material.loops(40, 10)
    assert len({loop.tobytes() for loop in loops}) == 40


def test_levels_are_those_of_telephony(material):
    pcm = ulaw_to_linear(material.loops(20, 5 * RATE_HZ // 160)).astype(float).reshape(20, -1)
    dbov = 20 * np.log10(pcm.std(axis=1) / 32768)
    assert dbov.min() > -45
    assert dbov.max() < -12
