"""RFC 4733 events: each is told once."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.media.events import Events
from gateway.protocol.telephone_event import Event, pack


def packet(digit: int, duration: int = 160, end: bool = False) -> bytes:
    return pack(Event(digit, end, 10, duration))


def test_an_event_is_told_once_with_its_digit_and_level():
    events = Events(2)
    told = [events.hear(1, 9000, packet(11, 160 * n, n > 4), 8000 + 160 * n) for n in range(8)]
    assert told[0] is not None and told[1:] == [None] * 7
    assert (told[0].slot, told[0].kind, told[0].value, told[0].begin, told[0].level_dbm0) == (
        1,
        "event",
        "#",
        8000,
        -10,
    )


def test_the_same_digit_again_is_another_event():
    events = Events(2)
    assert events.hear(0, 1000, packet(5), 0) is not None
    assert events.hear(0, 3000, packet(5), 2000) is not None
    assert events.hear(1, 3000, packet(5), 2000) is not None


def test_an_event_of_which_only_the_end_arrives_is_told():
    assert Events(1).hear(0, 1000, packet(5, end=True), 0) is not None


def test_other_events_keep_their_number():
    assert Events(1).hear(0, 1000, packet(36), 0).value == "36"


def test_a_new_leg_has_heard_nothing():
    events = Events(1)
    events.hear(0, 1000, packet(5), 0)
    events.open_leg(0)
    assert events.hear(0, 1000, packet(5), 0) is not None


@given(st.binary(max_size=20))
def test_garbage_is_counted(payload):
    events = Events(1)
    assert (events.hear(0, 1, payload, 0) is None) == (len(payload) < 4) == bool(events.malformed)
