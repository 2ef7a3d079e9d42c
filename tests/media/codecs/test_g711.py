import av
import numpy as np
import pytest

from gateway.media import codecs
from gateway.media.codecs import g711

NO_SLOTS = np.empty(0, np.int64)
CODES = np.arange(256, dtype=np.uint8)[None]
SAMPLES = np.arange(-32768, 32768)


@pytest.fixture(params=["PCMU", "PCMA"])
def codec(request):
    return codecs.build(1)[request.param, 8000]


def test_every_code_but_the_negative_zero_of_mu_law_survives_decoding_and_encoding(codec):
    again = codec.encode(NO_SLOTS, codec.decode(NO_SLOTS, CODES))
    assert CODES[again != CODES].tolist() == ([0x7F] if codec.name == "PCMU" else [])


def test_both_zeros_of_mu_law_are_the_same_sample():
    codec = codecs.build(1)["PCMU", 8000]
    zeros = codec.decode(NO_SLOTS, np.array([[0x7F, 0xFF]], np.uint8))
    assert zeros.tolist() == [[0.0, 0.0]]
    assert codec.encode(NO_SLOTS, zeros).tolist() == [[0xFF, 0xFF]]


def test_every_code_means_what_ffmpeg_takes_it_for(codec):
    decoder = av.CodecContext.create({"PCMU": "pcm_mulaw", "PCMA": "pcm_alaw"}[codec.name], "r")
    decoder.sample_rate, decoder.layout = 8000, "mono"
    (frame,) = decoder.decode(av.Packet(CODES.tobytes()))
    assert (codec.decode(NO_SLOTS, CODES) * 32768 == frame.to_ndarray()).all()


@pytest.mark.parametrize(
    "table, value, code",
    [
        (g711.mu_law_encode_table, 32767, 0x80),
        (g711.mu_law_encode_table, 0, 0xFF),
        (g711.mu_law_encode_table, -1, 0x7F),
        (g711.mu_law_encode_table, -32768, 0x00),
        (g711.mu_law_encode_table, 31 * 4, 0xEF),
        (g711.mu_law_encode_table, 31 * 4 - 1, 0xF0),
        (g711.mu_law_encode_table, 4063 * 4, 0x8F),
        (g711.mu_law_encode_table, 4063 * 4 - 1, 0x90),
        (g711.a_law_encode_table, 32767, 0xFF ^ 0x55),
        (g711.a_law_encode_table, 0, 0x80 ^ 0x55),
        (g711.a_law_encode_table, -1, 0x00 ^ 0x55),
        (g711.a_law_encode_table, -32768, 0x7F ^ 0x55),
        (g711.a_law_encode_table, 2048 * 8, 0xF0 ^ 0x55),
        (g711.a_law_encode_table, 2048 * 8 - 1, 0xEF ^ 0x55),
    ],
)
def test_decision_values_are_those_of_the_recommendation(table, value, code):
    """Decision values x of G.711 tables 1a and 2a, scaled to 16 bits: x itself belongs to the interval above it."""
    assert table()[value + 32768] == code


def test_quantisation_is_monotone_and_no_wider_than_its_segment(codec):
    decoded = codec.decode(NO_SLOTS, codec.encode(NO_SLOTS, (SAMPLES / 32768).astype(np.float32)[None]))[0] * 32768
    assert (np.diff(decoded) >= 0).all()
    inside = np.abs(SAMPLES) < 32000
    assert (np.abs(decoded - SAMPLES) <= np.maximum(16, np.abs(SAMPLES) / 16))[inside].all()


def test_pcm_is_rounded_to_the_nearest_sample(codec):
    whole = np.arange(-30000, 30001, 7, dtype=np.float32)
    for rest in (-0.4, 0.4):
        assert (
            codec.encode(NO_SLOTS, ((whole + rest) / 32768)[None]) == codec.encode(NO_SLOTS, (whole / 32768)[None])
        ).all()
