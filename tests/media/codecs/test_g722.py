import av
import numpy as np
import pytest

from gateway.media.codecs.g722 import G722

FILTER_DELAY = 22


def tone(packets: int, samples: int = 320) -> np.ndarray:
    """float32 [packets, 1, samples]: 700 Hz at -13 dB of full scale."""
    pcm = 0.3 * np.sin(2 * np.pi * 700 / 16000 * np.arange(packets * samples))
    return pcm.astype(np.float32).reshape(packets, 1, samples)


def decode_by_ffmpeg(payload: bytes) -> np.ndarray:
    decoder = av.CodecContext.create("g722", "r")
    decoder.sample_rate, decoder.layout = 16000, "mono"
    (frame,) = decoder.decode(av.Packet(payload))
    return frame.to_ndarray()[0]


def encode(codec: G722, pcm: np.ndarray, slot: int = 0) -> bytes:
    return b"".join(codec.encode(np.array([slot]), packet).tobytes() for packet in pcm)


def decode(codec: G722, payload: bytes, size: int = 160, slot: int = 0) -> np.ndarray:
    rows = np.frombuffer(payload, np.uint8).reshape(-1, 1, size)
    return np.concatenate([codec.decode(np.array([slot]), row)[0] for row in rows])


def test_what_is_encoded_in_packets_is_one_stream_to_another_decoder():
    pcm = tone(50)
    heard = decode_by_ffmpeg(encode(G722(1), pcm)) / 32768
    error = heard[8000:] - pcm.ravel()[8000 - FILTER_DELAY : -FILTER_DELAY]
    assert np.mean(error**2) < np.mean(pcm**2) / 10**4.5


@pytest.mark.parametrize("size", [80, 160, 240, 480])
def test_packets_of_any_length_decode_to_the_same_stream(size):
    payload = encode(G722(1), tone(12))
    assert (decode(G722(1), payload, size) * 32768 == decode_by_ffmpeg(payload)).all()


@pytest.mark.parametrize("samples", [160, 480, 960])
def test_packets_of_any_length_encode_to_the_same_stream(samples):
    pcm = tone(12)
    assert encode(G722(1), pcm.reshape(-1, 1, samples)) == encode(G722(1), pcm)


def test_a_stream_may_change_its_packet_length():
    codec, pcm = G722(1), tone(30, samples=160).reshape(-1)
    lengths = [320] * 5 + [160] * 3 + [480] * 3 + [160]
    starts = np.cumsum([0, *lengths])
    payload = b"".join(encode(codec, pcm[None, None, a : a + n]) for a, n in zip(starts[:-1], lengths, strict=True))
    assert len(payload) == sum(lengths) // 2
    heard = decode_by_ffmpeg(payload)[-960:] / 32768
    assert np.abs(heard - pcm[starts[-1] - 960 - FILTER_DELAY : starts[-1] - FILTER_DELAY]).max() < 0.05
    assert codec.failures == 0


def test_slots_have_their_own_memory():
    codec, loud = G722(2), tone(4)
    quiet = loud / 8
    both = [codec.encode(np.array([0, 1]), np.concatenate([a, b])) for a, b in zip(loud, quiet, strict=True)]
    assert b"".join(rows[0].tobytes() for rows in both) == encode(G722(1), loud)
    assert b"".join(rows[1].tobytes() for rows in both) == encode(G722(1), quiet)


def test_a_reset_slot_begins_a_new_stream():
    codec = G722(2)
    first = encode(codec, tone(3), slot=1)
    heard = decode(codec, first, slot=1)
    codec.reset(np.array([1]))
    assert encode(codec, tone(3), slot=1) == first
    assert (decode(codec, first, slot=1) == heard).all()


def test_a_coder_that_fails_costs_its_own_row_and_is_replaced():
    codec, pcm = G722(2), np.concatenate([tone(1)[0]] * 2)
    slots, payload = np.array([0, 1]), np.full((2, 160), 0x55, np.uint8)
    codec.decode(slots[:1], payload[:1])
    codec._decoders[0].decode(None)  # an ended stream: FFmpeg refuses what comes after
    codec.encode(slots[:1], pcm[:1])
    codec._encoders[0]._context.encode(None)
    heard, coded = codec.decode(slots, payload), codec.encode(slots, pcm)
    assert codec.failures == 2
    assert not heard[0].any() and (coded[0] == codec.silence).all()
    assert (heard[1] == G722(1).decode(np.array([0]), payload[1:])[0]).all()
    assert (coded[1] == G722(1).encode(np.array([0]), pcm[1:])[0]).all()
    assert (codec.decode(np.array([0]), payload[:1])[0] == heard[1]).all()
    assert (codec.encode(np.array([0]), pcm[:1])[0] == coded[1]).all()


def test_an_empty_payload_is_no_end_of_the_stream():
    codec = G722(1)
    payload = encode(G722(1), tone(4))
    heard = decode(codec, payload[:320])
    assert codec.decode(np.array([0]), np.empty((1, 0), np.uint8)).shape == (1, 0)
    heard = np.concatenate([heard, decode(codec, payload[320:])])
    assert (heard * 32768 == decode_by_ffmpeg(payload)).all()
    assert codec.encode(np.array([0]), np.empty((1, 0), np.float32)).shape == (1, 0)
    assert codec.failures == 0
