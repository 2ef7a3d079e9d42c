"""What becomes of batches on their way when servers are slow, flap or take turns: fake servers, and a fake clock."""

import pytest

from gateway.denoise.engine import Ticket
from gateway.denoise.triton.engine import GRACE_S, KEEP_S, LATE_LIMIT, RETURN_S
from gateway.errors import EngineError
from tests.denoise.triton.fakes import Site

DEADLINE_S = 0.015


@pytest.fixture
def site(monkeypatch) -> Site:
    return Site(monkeypatch, deadline_s=DEADLINE_S)


def waited_s(site: Site) -> float:
    return site.engine.counters["microseconds"] / 1e6


def late(site: Site) -> None:
    """A batch that has no answer at its deadline."""
    ticket = site.send()
    site.clock.now += DEADLINE_S
    assert site.collect(ticket) is None


def test_an_answer_in_time_counts_as_long_as_it_took(site):
    link = site.serve()
    ticket = site.send()
    site.clock.now += 0.004
    link.calls[-1].answer(epoch=1)
    site.clock.now += 0.003  # the loop had other things to do
    assert site.collect(ticket) is not None
    assert waited_s(site) == pytest.approx(0.004)


def test_a_late_batch_counts_its_wait_at_once_and_the_rest_when_its_answer_comes(site):
    link = site.serve()
    late(site)
    assert waited_s(site) == pytest.approx(DEADLINE_S)
    site.clock.now += 0.3
    link.calls[-1].answer(epoch=1)
    site.tend(0.1)
    assert waited_s(site) == pytest.approx(DEADLINE_S + 0.3)
    site.tend()
    assert waited_s(site) == pytest.approx(DEADLINE_S + 0.3)


def test_a_late_batch_without_an_answer_counts_until_it_is_given_up(site):
    link = site.serve()
    late(site)
    site.clock.now += GRACE_S
    link.calls[-1].fail()
    site.tend(0.1)
    assert waited_s(site) == pytest.approx(DEADLINE_S + GRACE_S)


def test_batches_of_a_server_that_was_left_for_being_slow_count_in_full(site):
    link = site.serve()
    for _ in range(LATE_LIMIT):
        late(site)
    assert not site.engine.ready
    site.clock.now += 0.5
    for call in link.calls[-LATE_LIMIT:]:
        call.answer(epoch=1)
    site.tend()
    sent_before_s = DEADLINE_S * sum(range(LATE_LIMIT + 1))
    assert waited_s(site) == pytest.approx(sent_before_s + LATE_LIMIT * 0.5)
    assert site.engine.counters["failed"] == 1


def test_a_server_that_answers_its_opening_too_late_is_not_ready_and_says_why(site):
    link = site.links[0]
    link.come(site.clock.now)
    site.tend()
    site.clock.now += 0.0404
    link.calls[-1].answer(epoch=1)
    site.tend()
    assert not site.engine.ready and site.engine.epoch == 0 and link.slow == 1
    assert "server0:8001: it answers 1 rows in 40 ms, the deadline is 15 ms" in site.engine.fault


def test_how_long_an_opening_took_is_not_how_late_it_was_looked_at(site):
    link = site.links[0]
    link.come(site.clock.now)
    site.tend()
    link.calls[-1].answer(epoch=1)
    site.tend(0.3)
    assert site.engine.ready


def test_an_opening_has_as_many_rows_as_the_last_batch_and_none_of_them_goes_on(site):
    link = site.serve()
    site.send(2, 4, 6)
    link.calls[-1].fail()
    site.tend()
    with pytest.raises(EngineError):
        site.collect(Ticket(site.engine._flight.tickets[0]))
    site.serve(epoch=2)
    assert len(link.calls[-1].tensor("SLOTS")) == 3
    site.send(0, 1, 5)
    assert link.calls[-1].tensor("RESET").tolist() == [1, 1, 1]


def test_an_opening_follows_the_calls_that_there_are_without_a_server(site):
    link = site.serve()
    site.send(*range(8))
    for _ in range(LATE_LIMIT):
        late(site)
    for _ in range(3):
        with pytest.raises(EngineError):
            site.send(1, 2)
        site.engine.flush()
    link.come(site.clock.now)
    site.tend()
    assert len(link.calls[-1].tensor("SLOTS")) == 2


def test_a_server_that_is_late_again_and_again_is_slow(site):
    link = site.serve()
    for _ in range(LATE_LIMIT):
        late(site)
    assert link.slow == 1


def test_batches_without_rows_count_no_time(site):
    link = site.serve()
    site.tend(KEEP_S)
    site.clock.now += 0.5
    link.calls[-1].answer(epoch=1)
    site.tend()
    assert len(link.calls) == 2 and waited_s(site) == 0.0


@pytest.fixture
def two(monkeypatch) -> Site:
    """The second of two servers has the rows; the first is well again, and about to get them."""
    site = Site(monkeypatch, servers=2, deadline_s=DEADLINE_S)
    site.serve(1, epoch=2)
    site.links[0].come(site.clock.now)
    site.tend()
    site.tend(RETURN_S)
    assert len(site.links[0].calls) == 1
    return site


def move(site: Site) -> None:
    site.links[0].calls[0].answer(epoch=1)
    site.tend()
    assert site.engine._link is site.links[0]


def test_a_batch_that_is_out_while_the_rows_move_is_heard_and_blames_nobody(two):
    ticket = two.send()
    move(two)
    two.links[1].calls[-1].answer(epoch=2)
    assert two.collect(ticket).frames[0, 0, 0] == 0.25
    assert two.engine._link is two.links[0] and two.links[0].failures == []
    assert two.engine.counters["failed"] == 0


def test_a_batch_that_fails_after_the_rows_have_moved_is_not_the_new_servers_fault(two):
    ticket = two.send()
    move(two)
    epoch = two.engine.epoch
    two.links[1].calls[-1].fail()
    with pytest.raises(EngineError, match="UNAVAILABLE"):
        two.collect(ticket)
    assert two.links[0].failures == [] and (two.engine.epoch, two.engine.counters["failed"]) == (epoch, 0)


def test_a_batch_that_is_late_after_the_rows_have_moved_is_not_held_against_the_new_server(two):
    ticket = two.send()
    move(two)
    two.clock.now += DEADLINE_S
    assert two.collect(ticket) is None
    for _ in range(LATE_LIMIT - 1):
        late(two)
    assert two.engine.ready and two.engine.counters["late"] == LATE_LIMIT
    late(two)
    assert not two.engine.ready


def test_a_batch_that_was_not_given_its_time_says_nothing_of_the_server(site):
    site.serve()
    for _ in range(2 * LATE_LIMIT):
        assert site.engine.collect(site.send(), site.clock.now) is None
    assert site.engine.ready and site.engine.counters["late"] == 2 * LATE_LIMIT
    for _ in range(LATE_LIMIT):
        late(site)
    assert not site.engine.ready


def test_one_failure_is_counted_once_though_two_batches_bring_the_news(site):
    link = site.serve()
    late(site)
    ticket = site.send()
    for call in link.calls[-2:]:
        call.fail()
    site.tend()
    with pytest.raises(EngineError):
        site.collect(ticket)
    assert site.engine.counters["failed"] == 1 and len(link.failures) == 1


def test_a_second_part_of_a_late_batch_is_late_and_not_counted_again(site):
    site.serve()
    late(site)
    assert site.collect(Ticket(site.engine._flight.tickets[0])) is None
    assert site.engine.counters["late"] == 1 and waited_s(site) == pytest.approx(DEADLINE_S)


def test_a_server_that_failed_while_it_began_a_new_sequence_does_not_get_the_rows(site):
    link = site.serve()
    site.tend(KEEP_S)
    link.calls[-1].fail()
    site.tend()
    opening = link.calls[-1]
    for _ in range(LATE_LIMIT):
        late(site)
    assert link.failures and not link.ready
    opening.answer(epoch=2)
    site.tend()
    assert not site.engine.ready, "the link is going to close that connection"


def test_a_server_that_has_just_come_waits_its_own_time_before_it_gets_the_rows(monkeypatch):
    site = Site(monkeypatch, servers=3, deadline_s=DEADLINE_S)
    site.serve(2, epoch=3)
    site.links[1].come(site.clock.now)
    site.tend()
    site.tend(RETURN_S - 0.1)
    site.links[0].come(site.clock.now)
    site.tend(0.2)
    assert site.links[0].calls == []
    site.tend(RETURN_S)
    assert len(site.links[0].calls) == 1


def test_what_is_wrong_with_one_of_two_servers_is_told_though_the_other_serves(monkeypatch):
    site = Site(monkeypatch, servers=2)
    site.links[0].failed("it has another model", site.clock.now)
    site.links[1].fault = ""
    site.serve(1)
    assert site.engine.fault == "" and site.engine.endpoint_faults == {"server0:8001": "it has another model"}
    site.tend()
    assert [link.serving for link in site.links] == [False, True]
    site.links[0].come(site.clock.now)
    site.tend()
    site.tend(RETURN_S)
    move(site)
    assert site.links[0].serving, "its opening showed how it is"
    assert site.engine.endpoint_faults == {}


def spoil(site: Site, every: int, batches: int) -> None:
    """So many batches, of which each so many-th has a row without numbers."""
    for number in range(batches):
        ticket = site.send()
        site.links[0].calls[-1].answer(epoch=1, probability=0.0 if number % every else float("nan"))
        site.collect(ticket)
        if not site.engine.ready:
            return


@pytest.mark.parametrize("every", [1, 2, 4])
def test_a_model_that_gives_no_numbers_again_and_again_is_not_to_be_used(site, every):
    site.serve()
    spoil(site, every, batches=200)
    assert "no numbers" in site.links[0].failures[0]


def test_a_row_without_numbers_now_and_then_is_no_fault_of_the_model(site):
    site.serve()
    spoil(site, every=10, batches=1000)
    assert site.engine.ready


def test_one_server_is_the_engine(site):
    site.links[0].failed("it is gone", site.clock.now)
    assert "it is gone" in site.engine.fault and site.engine.endpoint_faults == {}


def test_a_wrong_answer_to_the_opening_is_counted_as_one(site):
    link = site.links[0]
    link.come(site.clock.now)
    site.tend()
    link.calls[-1].answer(epoch=1, shift=1)
    site.tend()
    assert "it answered batch" in link.failures[0]
    assert site.engine.counters["bad_answers"] == 1 and site.engine.counters["failed"] == 0
