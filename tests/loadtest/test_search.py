"""The search for the most legs."""

import pytest

from loadtest.search import ATTEMPTS, RESOLUTION, STEP, Search

LADDER = (50, 300, 500, 700, 850, 1000)


def climb(search: Search, limit: int, tries: int = 100) -> list[int]:
    """Run the search against something that holds up to `limit` legs; returns what was tried."""
    tried: list[int] = []
    while (legs := search.next()) is not None and len(tried) < tries:
        tried.append(legs)
        search.note(legs, held=legs <= limit)
    assert len(tried) < tries, "the search has no end"
    return tried


@pytest.mark.parametrize("limit", [0, 60, 310, 777, 999, 1000, 1234, 4000])
def test_the_answer_is_held_and_near_the_limit(limit):
    search = Search(LADDER)
    climb(search, limit)
    assert search.best <= limit
    assert limit - search.best <= max(RESOLUTION * limit, 2 * STEP) + STEP or limit < LADDER[0]


def test_it_climbs_the_ladder_and_halves_after_the_failure():
    tried = climb(Search(LADDER), limit=860)
    assert tried == [50, 300, 500, 700, 850, 1000, 1000, 920, 920, 880, 880]


def test_the_ladder_goes_on_beyond_its_end():
    assert climb(Search((100, 200)), limit=250)[:3] == [100, 200, 240]


def test_one_hiccup_is_not_a_limit():
    search = Search(LADDER)
    search.note(50, held=True)
    search.note(300, held=False)
    assert search.next() == 300
    search.note(300, held=True)
    assert (search.best, search.least_failed, search.next()) == (300, None, 500)


def test_a_generator_that_gives_up_is_named_and_is_no_result():
    search = Search((50, 100))
    search.note(50, held=True)
    for _ in range(ATTEMPTS):
        search.note(100, held=True, valid=False)
    assert search.best == 50
    assert search.generator_limited


def test_even_legs_only_since_a_call_has_two():
    assert all(legs % 2 == 0 for legs in climb(Search(LADDER), limit=777))
