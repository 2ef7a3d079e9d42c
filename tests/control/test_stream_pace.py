"""Work that is not live goes in pulses, none of it is forgotten, and everybody keeps up with the clock."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.control.stream_pace import BUSY_FRAMES, PULSE_FRAMES, PULSE_S, QUIET_PACKETS, Pace
from gateway.protocol import rtp
from tests.control.test_stream import Echo, Media

LONG = bytes(8000 * 100)


def uploads(media: Media, count: int) -> list[Echo]:
    """Uploads in G.711 that have used up what may go as live."""
    echoes = [Echo(encoding="MULAW", credits=media.credits) for _ in range(count)]
    for echo in echoes:
        echo.stream.feed(LONG, media.now)
        while echo.sent and len(rtp.unpack(echo.sent[-1]).payload) > 160:
            echo.answer(media.now)
        echo.answer(media.now)
        echo.sent.clear()
        echo.heard(media.now)
    return echoes


def frames(echoes: list[Echo]) -> int:
    return sum(len(rtp.unpack(datagram).payload) // 80 for echo in echoes for datagram in echo.sent)


def go(media: Media, echoes: list[Echo], now: float) -> None:
    for echo in echoes:
        echo.answer(now)
        echo.heard(now)


@pytest.mark.parametrize("count", [1, 3, 8, 20, 50])
def test_beside_live_legs_uploads_go_together_and_no_more_than_a_pulse_holds(count):
    media = Media(legs=count + 1)
    echoes = uploads(media, count)
    for pulse in range(5):
        media.run(pulse * PULSE_S)
        assert 0 < frames(echoes) <= PULSE_FRAMES
        assert max(len(echo.sent) for echo in echoes) == 1
        go(media, echoes, media.now)
        media.run(media.now + PULSE_S * 0.9)
        assert frames(echoes) == 0


def test_uploads_take_turns():
    media = Media(legs=21)
    echoes = uploads(media, 20)
    served = [0] * 20
    for pulse in range(1, 101):
        media.run(pulse * PULSE_S)
        served = [n + len(echo.sent) for n, echo in zip(served, echoes, strict=True)]
        go(media, echoes, media.now)
    assert max(served) - min(served) <= 1


@pytest.mark.parametrize(("busy", "pulses"), [(0.0, 4), (0.2, 2), (0.4, 1), (0.8, 1)])
def test_the_less_there_is_to_do_the_more_often_uploads_go(busy, pulses):
    media = Media(legs=2, busy=busy)
    (echo,) = uploads(media, 1)
    sent = 0
    for step in range(1, 1001):
        media.run(step * PULSE_S / 100)
        sent += len(echo.sent)
        go(media, [echo], media.now)
    assert sent == pytest.approx(10 * pulses, abs=1)


def test_a_busy_process_gets_less():
    media = Media(legs=21, busy=0.9)
    echoes = uploads(media, 20)
    media.run(PULSE_S)
    assert frames(echoes) == BUSY_FRAMES


def test_a_process_that_does_not_answer_gets_no_more():
    media = Media(legs=101)
    echoes = uploads(media, 100)
    media.run(10 * PULSE_S)
    assert frames(echoes) == PULSE_FRAMES


def test_where_nobody_is_live_uploads_go_as_fast_as_they_are_answered():
    media = Media(legs=20)
    echoes = uploads(media, 20)
    media.run(0.0)
    assert sum(len(echo.sent) for echo in echoes) == QUIET_PACKETS
    for _ in range(10):
        go(media, echoes, media.now)
        assert sum(len(echo.sent) for echo in echoes) == QUIET_PACKETS


@pytest.mark.parametrize("busy", [0.1, 0.99])
def test_an_upload_never_falls_behind_the_clock(busy):
    media = Media(legs=101, busy=busy)
    echoes = uploads(media, 100)
    begun = sum(echo.stream.waiting_s for echo in echoes)
    for step in range(1, 301):
        now = step / 100
        media.run(now)
        for echo in echoes:
            echo.stream.expire(now)
        go(media, echoes, now)
    assert begun - sum(echo.stream.waiting_s for echo in echoes) >= 0.95 * 3.0 * 100


def test_a_fault_in_a_streams_turn_is_for_who_takes_from_it_and_the_others_have_theirs(monkeypatch):
    media = Media(legs=21)
    bad, *others = uploads(media, 20)
    monkeypatch.setattr(bad.stream, "pump", lambda now: [][1])
    served = [0] * len(others)
    for pulse in range(1, 101):
        media.run(pulse * PULSE_S)
        served = [n + len(echo.sent) for n, echo in zip(served, others, strict=True)]
        go(media, others, media.now)
    assert min(served) > 40 and not bad.sent
    with pytest.raises(IndexError):
        bad.stream.take()


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5), st.integers(0, 9000)), max_size=60), st.integers(0, 9))
def test_everything_is_given_back_however_streams_end(steps, legs):
    media = Media(legs=legs)
    echoes = [Echo(encoding="MULAW", credits=media.credits) for _ in range(6)]
    for what, who, size in steps:
        echo = echoes[who]
        if what == 0:
            echo.stream.feed(bytes(size), media.now)
        elif what == 1:
            echo.answer(media.now)
        elif what == 2:
            media.run(media.now + size / 10_000)
        elif what == 3:
            echo.stream.expire(media.now)
        else:
            echo.stream.close(media.now)
            echoes[who] = Echo(encoding="MULAW", credits=media.credits)
    for echo in echoes:
        echo.stream.close(media.now)
    media.run(media.now + 1.0)
    assert (media.credits._used, media.credits.ahead, len(media.credits._waiting)) == (0, 0, 0)


def test_a_pace_lets_through_its_rate_and_a_burst():
    pace, seconds = Pace(2.0, 1.0), 0.0
    for step in range(1000):
        while pace.permits(step / 100):
            pace.take(0.02, step / 100)
            seconds += 0.02
    assert seconds == pytest.approx(2.0 * (9.99 + 1.0), abs=0.05)


def test_a_pace_of_zero_is_no_limit():
    pace = Pace(0.0, 1.0)
    for _ in range(1000):
        assert pace.permits(0.0)
        pace.take(60.0, 0.0)
