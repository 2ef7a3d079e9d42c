"""WAV headers: ours are read by others and by us, and garbage is an error that says what to do."""

import io

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import CallerError
from gateway.protocol import wav


@pytest.mark.parametrize(
    ("subtype", "encoding"), [("PCM_16", "S16LE"), ("FLOAT", "F32LE"), ("ULAW", "MULAW"), ("ALAW", "ALAW")]
)
@pytest.mark.parametrize("form", ["WAV", "WAVEX"])
def test_recordings_are_read_and_what_we_write_is_read_by_libsndfile(subtype, encoding, form):
    pcm, file = np.sin(np.arange(999) / 9) / 3, io.BytesIO()
    soundfile.write(file, pcm, 16000, subtype=subtype, format=form)
    data = file.getvalue()
    found = wav.parse(data[: wav.HEADER_BYTES], len(data))
    assert (found.encoding, found.rate_hz) == (encoding, 16000)
    samples = data[found.begin : found.begin + found.size]
    again, rate = soundfile.read(io.BytesIO(wav.header(encoding, 16000, found.size) + samples))
    assert rate == 16000 and np.array_equal(again, soundfile.read(io.BytesIO(data))[0])


@given(st.binary(max_size=300), st.booleans())
def test_garbage_is_refused(body, with_head):
    head = b"RIFF\0\0\0\0WAVE" + body if with_head else body
    try:
        found = wav.parse(head, len(head))
    except CallerError:
        return
    assert 0 <= found.begin <= len(head) and found.begin + found.size <= len(head)


def test_two_channels_are_refused_with_a_way_out():
    file = io.BytesIO()
    soundfile.write(file, np.zeros((10, 2)), 8000, format="WAV")
    with pytest.raises(CallerError, match="2 channels: send one request a channel"):
        wav.parse(file.getvalue(), len(file.getvalue()))
