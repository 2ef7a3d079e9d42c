"""The tone plans as data: enough countries, well-formed, and tones that times tell apart."""

import numpy as np
import pytest

from gateway.detect import plans


def test_at_least_thirty_countries_have_all_main_tones():
    kinds = {country: {tone.kind for tone in plans.TONES if tone.country == country} for country in plans.COUNTRIES}
    complete = [country for country, have in kinds.items() if {"dial", "ringback", "busy", "sit"} <= have]
    assert len(complete) >= 30


def test_every_tone_belongs_to_a_country_and_has_each_kind_once_or_in_variants():
    assert {tone.country for tone in plans.TONES} == set(plans.COUNTRIES)
    assert {tone.kind for tone in plans.TONES} == set(plans.KINDS)


@pytest.mark.parametrize("tone", plans.TONES, ids=lambda tone: f"{tone.country}-{tone.kind}-{tone.text}")
def test_a_tone_reads_as_it_was_written_and_is_what_telephones_use(tone: plans.Tone):
    assert plans.parse(tone.text) == tone.steps
    assert all(300 <= hz <= 2000 for sound in tone.sounds for hz in plans.sound_of(sound).hz)
    assert all(ms == np.inf or 30 <= ms <= 15000 for burst in tone.bursts for ms in burst if ms)


def test_a_modulated_tone_has_three_lines():
    assert plans.sound_of("400*25") == plans.Sound("400*25", (375.0, 400.0, 425.0), True)
    assert plans.sound_of("440+350").hz == (350.0, 440.0)


def test_times_within_the_tolerance_fit_and_others_do_not():
    ringback = plans.Tone("us", "ringback", plans.parse("440+480/2000,0/4000"))
    assert plans.misfit(ringback, [(2000, 4000)]) == 0.0
    assert plans.misfit(ringback, [(1900, 4200)]) == pytest.approx(0.05)
    assert plans.misfit(ringback, [(1000, 4000)]) is None
    assert plans.misfit(ringback, [], 2050) == pytest.approx(0.025)


def test_a_cadence_fits_from_any_of_its_bursts():
    warble = plans.Tone("uk", "congestion", plans.parse("400/400,0/350,400/225,0/525"))
    assert plans.misfit(warble, [(225, 525), (400, 350)]) == 0.0
    assert plans.misfit(warble, [(225, 350)]) is None


def test_a_continuous_tone_has_no_burst_that_ends():
    dial = plans.Tone("us", "dial", plans.parse("350+440"))
    assert plans.misfit(dial, [(1000, 200)]) is None


def test_a_name_lists_all_meanings_and_few_countries():
    tones = [tone for tone in plans.TONES if tone.text == "425/500,0/500"]
    assert plans.name([(0.0, tone) for tone in tones]).startswith("busy/congestion be,bg,ch,+")
    assert plans.name([(0.0, tones[0]), (0.5, tones[1])]) == f"busy {tones[0].country}"


def test_sounds_are_found_by_frequency_nearest_first():
    assert [sound.text for sound in plans.sounds_at((424.0,))] == ["425", "420"]
    assert [sound.text for sound in plans.sounds_at((352.0, 438.0))] == ["350+440"]
    assert plans.sounds_at((500.0,)) == () == plans.sounds_at((350.0, 480.0))


def test_special_information_is_known_by_its_part():
    assert [plans.sit_part((hz,)) for hz in (950.0, 913.8, 1400.0, 1776.7, 1000.0, 700.0)] == [0, 0, 1, 2, 0, None]
