import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocol import telephone_event
from gateway.protocol.telephone_event import Event, TelephoneEventError

EVENTS = st.builds(Event, st.integers(0, 255), st.booleans(), st.integers(0, 63), st.integers(0, 0xFFFF))


def test_the_end_of_a_pound_key_as_a_phone_sends_it():
    assert telephone_event.parse(bytes.fromhex("0b8a0320")) == Event(event=11, end=True, volume=10, duration=800)


def test_the_reserved_bit_is_ignored():
    assert telephone_event.parse(bytes.fromhex("054a00a0")) == Event(5, False, 10, 160)


@given(EVENTS, st.binary(max_size=8))
def test_parse_gives_back_what_pack_was_given_whatever_follows(event, rest):
    assert telephone_event.parse(telephone_event.pack(event) + rest) == event


def test_an_event_that_outlasts_its_field_stays_at_the_greatest_duration():
    assert telephone_event.pack(Event(1, False, 99, 70_000)) == bytes.fromhex("013fffff")


@given(st.binary(max_size=3))
def test_a_short_payload_is_the_peers_fault(payload):
    with pytest.raises(TelephoneEventError):
        telephone_event.parse(payload)
