"""A stream between its client and the media plane, without either: time is an argument, the media plane an echo."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.control.stream import LIVE_PATIENCE_S, Stream
from gateway.control.stream_coding import EXPANDED, choose
from gateway.control.stream_errors import StreamError
from gateway.control.stream_pace import Credits, Pace
from gateway.media.codecs import build
from gateway.messages import Reason
from gateway.protocol import rtp, stream_packet


class Media:
    """A media process as credits see it: its legs, how busy it is, and the timers they have asked for."""

    def __init__(self, legs=0, busy=0.6):
        self.legs, self.busy, self.now, self._timers = legs, busy, 0.0, []
        self.credits = Credits(lambda: self.busy, lambda: self.legs, self._later)

    def _later(self, delay_s, work) -> None:
        self._timers.append((self.now + delay_s, work))

    def run(self, until: float) -> None:
        """Let time pass."""
        while self._timers and (first := min(self._timers, key=lambda timer: timer[0]))[0] <= until:
            self._timers.remove(first)
            self.now = max(self.now, first[0])
            first[1](self.now)
        self.now = until


class Echo:
    """A stream, and a media plane that delays the payload by 10 ms."""

    def __init__(self, rate=8000, encoding="S16LE", credits=None, account=None, ready=lambda _: None):
        self.coding = choose(rate, encoding)
        self.credits = credits or Media().credits
        self.sent, self.delay = [], self.coding.engine_rate_hz // 100
        self._tail = self.coding.inner_silence * self.coding.inner_frame_bytes
        self.stream = Stream(
            self.coding, self.delay, self.sent.append, self.credits, account or Pace(0.0, 1.0), lambda: ready(1),
            quality=True,
        )  # fmt: skip

    def answer(self, now, reason=Reason.NONE) -> None:
        sent, self.sent[:] = list(self.sent), []
        for datagram in sent:
            payload = rtp.unpack(datagram).payload
            late, self._tail = (self._tail + payload)[: len(payload)], (self._tail + payload)[-len(self._tail) :]
            head = bytearray(datagram[: -len(payload)])
            head[stream_packet.NOTES_AT] = reason
            self.stream.receive(bytes(head) + late, now)

    def heard(self, now=0.0) -> bytes:
        audio = b"".join(piece.audio for piece in self.stream.take())
        self.stream.written(now)
        return audio


@given(
    st.lists(st.integers(0, 900), max_size=12),
    st.sampled_from([(8000, "S16LE"), (16000, "S16LE"), (8000, "MULAW"), (8000, "ALAW")]),
)
def test_any_sizes_give_back_the_same_samples_late_by_the_delay(sizes, kind):
    echo = Echo(*kind)
    size = echo.coding.sample_bytes
    pieces = [np.random.default_rng(i).bytes(n * size) for i, n in enumerate(sizes)]
    out, now = b"", 0.0
    for piece in pieces:
        echo.stream.feed(piece, now)
        now += 1.0
        echo.answer(now)
        out += echo.heard(now)
    echo.stream.end(now)
    echo.answer(now)
    out += echo.heard(now)
    assert out == echo.coding.silence * echo.stream.delay + b"".join(pieces) and echo.stream.finished


@pytest.mark.parametrize(("rate", "encoding"), [(48000, "S16LE"), (48000, "F32LE"), (8000, "F32LE")])
def test_resampled_and_float_audio_keeps_its_length_and_its_place(rate, encoding):
    echo = Echo(rate, encoding)
    pcm = (0.3 * np.sin(2 * np.pi * 440 * np.arange(rate // 2) / rate)).astype(np.float32)
    audio = (pcm * 32768).astype("<i2") if encoding == "S16LE" else pcm.astype("<f4")
    echo.stream.feed(audio.tobytes(), 0.0)
    out = b""
    for now in range(1, 8):
        echo.answer(now)
        out += echo.heard(now)
    echo.stream.end(8.0)
    echo.answer(8.0)
    out += echo.heard(8.0)
    heard = np.frombuffer(out, audio.dtype).astype(np.float32) / (32768 if encoding == "S16LE" else 1)
    assert len(heard) == len(pcm) + echo.stream.delay
    inner = slice(rate // 20, -rate // 20)
    assert np.abs(heard[echo.stream.delay :][inner] - pcm[inner]).max() < 2e-3


def test_what_does_not_come_back_is_the_clients_own_audio_as_soon_as_what_is_behind_it_comes():
    echo = Echo()
    echo.stream.feed(np.arange(1600, dtype="<i2").tobytes(), 0.0)
    echo.sent.pop(1)
    echo.answer(0.01)
    assert len(echo.heard()) == 3200
    assert (echo.stream.lost_frames, echo.stream.reasons[Reason.FAULT]) == (6, 6)


def test_live_audio_is_waited_for_a_second():
    echo = Echo()
    echo.stream.feed(bytes(160), 0.0)
    echo.sent.clear()
    echo.stream.expire(LIVE_PATIENCE_S - 0.01)
    assert echo.heard() == b""
    echo.stream.expire(LIVE_PATIENCE_S)
    assert len(echo.heard()) == 160


def test_the_clients_own_audio_is_as_late_as_the_rest():
    echo = Echo()
    audio = np.arange(1, 961, dtype="<i2").tobytes()
    echo.stream.feed(audio, 0.0)
    echo.sent.clear()
    echo.stream.expire(1.0)
    assert echo.heard() == bytes(160) + audio[:-160]


def test_live_audio_goes_at_once_whatever_uploads_wait():
    media = Media(legs=2)
    live, upload = Echo(credits=media.credits), Echo(credits=media.credits)
    upload.stream.feed(bytes(16000 * 20), 0.0)
    assert upload.stream.waiting_s > 10
    for k in range(100):
        live.stream.feed(bytes(160), k / 100)
        assert len(live.sent) == 1
        live.answer(k / 100)


def test_a_live_client_whose_network_paused_catches_up_at_once():
    echo = Echo(credits=Media(legs=2).credits)
    for k in range(100):
        echo.stream.feed(bytes(320), k / 50)
    echo.sent.clear()
    echo.stream.feed(bytes(16000), 3.0)
    assert len(echo.sent) == 17 and not echo.stream.waiting_s


def test_an_upload_gets_its_answers_in_larger_pieces_and_all_of_them():
    media, ready = Media(legs=2), []
    echo = Echo(credits=media.credits, ready=ready.append)
    echo.stream.feed(bytes(16000 * 20), 0.0)
    echo.answer(0.0)
    echo.heard()
    ready.clear()
    heard = 0
    for step in range(1, 101):
        media.run(step / 100)
        echo.answer(step / 100)
        if ready:
            ready.clear()
            piece = echo.heard(step / 100)
            assert len(piece) >= 1600
            heard += len(piece)
    assert heard >= 16000 * 2.5


def test_an_upload_whose_client_does_not_read_waits():
    echo = Echo()
    echo.stream.feed(bytes(16000 * 20), 0.0)
    for _ in range(200):
        echo.answer(0.1)
    assert echo.stream.unread_s < 2.0 and not echo.sent
    echo.heard()
    echo.heard()
    assert echo.sent


@pytest.mark.parametrize("datagram", [b"", b"x" * 100, stream_packet.pack(99, 0, 0, 1, bytes(160))])
def test_what_nobody_waits_for_is_ignored(datagram):
    echo = Echo()
    echo.stream.feed(bytes(160), 0.0)
    echo.stream.receive(datagram, 0.0)
    assert echo.heard() == b""


def test_half_a_sample_is_refused_and_says_so():
    with pytest.raises(StreamError, match="3 bytes of audio: a sample has 2 bytes, send whole ones"):
        Echo().stream.feed(bytes(3), 0.0)


@pytest.mark.parametrize(
    ("rate", "encoding", "message"),
    [(44100, "S16LE", "use 8000, 16000 or 48000"), (16000, "MULAW", "8000 Hz"), (8000, "OPUS", "unknown")],
)
def test_what_cannot_be_coded_is_refused(rate, encoding, message):
    with pytest.raises(StreamError, match=message):
        choose(rate, encoding)


@pytest.mark.parametrize("codec", ["PCMU", "PCMA"])
def test_g711_is_measured_as_it_is_decoded(codec):
    every = np.arange(256, dtype=np.uint8)[None]
    padded = np.concatenate([every, np.zeros((1, 64), np.uint8)], axis=1)
    assert np.array_equal(build(1)[codec, 8000].decode(np.array([0]), padded)[0, :256] * 32768, EXPANDED[codec])
