"""Packets between the control plane and the media plane: what goes in comes out, and nothing a datagram has raises."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import PeerError
from gateway.protocol import rtp, stream_packet


@given(st.integers(0, 2**32 - 1), st.integers(1, stream_packet.MAX_FRAMES), st.sampled_from([80, 160, 320]))
def test_a_packet_is_rtp_with_its_payload_and_its_index_comes_back(index, frames, frame_bytes):
    payload = bytes(range(80)) * (frames * frame_bytes // 80)
    datagram = stream_packet.pack(index, 7, 9, frames, payload)
    parsed = rtp.unpack(datagram)
    assert (parsed.payload, parsed.sequence, parsed.timestamp, parsed.ssrc) == (payload, index & 0xFFFF, 7, 9)
    assert len(datagram) - len(payload) == stream_packet.payload_at(frames)
    number, ssrc, notes, back = stream_packet.unpack(datagram, frame_bytes)
    assert (number, ssrc, notes, back) == (index, 9, bytes(stream_packet.NOTE_BYTES * frames), payload)


@given(st.binary(max_size=200))
def test_garbage_is_an_error_of_the_peer(datagram):
    with pytest.raises(PeerError):
        stream_packet.unpack(datagram, 80)


def test_notes_are_written_beside_the_payload_and_read_again():
    packet = stream_packet.pack(1, 0, 1, 2, bytes(320))
    slab = np.zeros((3, 2048), np.uint8)
    slab[1, : len(packet)] = np.frombuffer(packet, np.uint8)
    probabilities = np.array([[[0.0, 1.0, 0.5, np.nan], [2.0, -1.0, 0.2, 0.0]]], np.float32)
    stream_packet.note(slab, np.array([1]), np.array([[5, 0]], np.uint8), probabilities)
    _, _, notes, payload = stream_packet.unpack(slab[1, : len(packet)].tobytes(), 160)
    assert list(notes) == [5, 0, 255, 128, 0, 0, 255, 0, 51, 0] and payload == bytes(320)
