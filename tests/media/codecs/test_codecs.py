import numpy as np
import pytest

from gateway.media import codecs

SLOTS = 4
KEYS = [("PCMU", 8000), ("PCMA", 8000), ("G722", 8000), ("L16", 8000), ("L16", 16000)]


@pytest.fixture
def built():
    return codecs.build(SLOTS)


def test_every_codec_of_the_packet_path_is_built_by_name_and_rtp_clock(built):
    assert {key: (codec.name, codec.rate, codec.frame_bytes) for key, codec in built.items()} == {
        ("PCMU", 8000): ("PCMU", 8000, 80),
        ("PCMA", 8000): ("PCMA", 8000, 80),
        ("G722", 8000): ("G722", 16000, 80),
        ("L16", 8000): ("L16", 8000, 160),
        ("L16", 16000): ("L16", 16000, 320),
    }


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("frames", [1, 2, 3, 6])
def test_lengths_are_kept_from_the_first_packet_on(built, key, frames):
    codec, slots = built[key], np.arange(SLOTS)
    payload = np.full((SLOTS, frames * codec.frame_bytes), codec.silence, np.uint8)
    for _ in range(3):
        pcm = codec.decode(slots, payload)
        assert pcm.shape == (SLOTS, frames * codec.rate // 100) and pcm.dtype == np.float32
        coded = codec.encode(slots, pcm)
        assert coded.shape == payload.shape and coded.dtype == np.uint8


@pytest.mark.parametrize("key", KEYS)
def test_silence_is_silent(built, key):
    codec = built[key]
    payload = np.full((1, 2 * codec.frame_bytes), codec.silence, np.uint8)
    for _ in range(10):
        pcm = codec.decode(np.array([0]), payload)
    assert np.abs(pcm).max() <= 8 / 32768


@pytest.mark.parametrize("key", KEYS)
def test_too_loud_is_clipped_and_not_wrapped(built, key):
    codec = built[key]
    length = codec.rate // 50
    square = np.where(np.arange(length) % 40 < 20, 1.5, -1.5).astype(np.float32)[None]
    legal = np.clip(square, -1, 32767 / 32768)
    assert (codec.encode(np.array([0]), square) == codec.encode(np.array([1]), legal)).all()


@pytest.mark.parametrize("key", KEYS)
def test_a_row_does_not_depend_on_its_neighbours(built, key):
    codec = built[key]
    pcm = np.random.default_rng(1).uniform(-1, 1, (3, codec.rate // 50)).astype(np.float32)
    together = codec.encode(np.array([0, 1, 2]), pcm)
    assert (together[1] == codec.encode(np.array([3]), pcm[1:2])[0]).all()
    decoded = codec.decode(np.array([0, 1, 2]), together)
    assert (decoded[1] == codec.decode(np.array([3]), together[1:2])[0]).all()


@pytest.mark.parametrize("key", KEYS)
def test_payload_may_be_a_view_into_a_slab(built, key):
    codec = built[key]
    slab = np.random.default_rng(2).integers(0, 256, (2, 1024), np.uint8)
    payload = slab[:, 12 : 12 + codec.frame_bytes]
    assert (codec.decode(np.array([0, 1]), payload) == codec.decode(np.array([2, 3]), payload.copy())).all()


@pytest.mark.parametrize("key", KEYS)
def test_an_empty_batch_is_an_empty_batch(built, key):
    codec, none = built[key], np.empty(0, np.int64)
    assert codec.decode(none, np.empty((0, 160), np.uint8)).shape[0] == 0
    assert codec.encode(none, np.empty((0, 160), np.float32)).shape[0] == 0
    codec.reset(none)


@pytest.mark.parametrize("key", KEYS)
def test_numbers_that_are_none_do_no_harm(built, key):
    codec = built[key]
    pcm = np.full((1, codec.rate // 100), np.nan, np.float32)
    assert codec.encode(np.array([0]), pcm).shape == (1, codec.frame_bytes)
