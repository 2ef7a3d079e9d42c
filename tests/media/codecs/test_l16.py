import numpy as np

from gateway.media.codecs.l16 import L16

NO_SLOTS = np.empty(0, np.int64)


def test_samples_are_in_network_byte_order():
    payload = np.array([[0x80, 0x00, 0x00, 0x01, 0x7F, 0xFF]], np.uint8)
    assert (L16(8000).decode(NO_SLOTS, payload) * 32768).tolist() == [[-32768, 1, 32767]]


def test_every_sample_survives_decoding_and_encoding():
    codec = L16(16000)
    payload = np.arange(-32768, 32768).astype(">i2").view(np.uint8)[None]
    assert (codec.encode(NO_SLOTS, codec.decode(NO_SLOTS, payload)) == payload).all()
