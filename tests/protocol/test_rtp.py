import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import PeerError
from gateway.protocol import rtp

U16 = st.integers(0, 0xFFFF)
U32 = st.integers(0, 0xFFFFFFFF)
PACKETS = st.fixed_dictionaries(
    {
        "payload": st.binary(max_size=64),
        "payload_type": st.integers(0, 127),
        "marker": st.booleans(),
        "sequence": U16,
        "timestamp": U32,
        "ssrc": U32,
        "csrcs": st.lists(U32, max_size=15).map(tuple),
        "extension": st.none()
        | st.tuples(U16, st.integers(0, 5).flatmap(lambda n: st.binary(min_size=4 * n, max_size=4 * n))),
        "padding": st.integers(0, 20),
    }
).filter(lambda p: not (p["marker"] and 64 <= p["payload_type"] <= 95))
"""What can be RTP beside RTCP on one port (RFC 5761)."""


def slab_of(*datagrams: bytes, width: int = 256, fill: int = 0xFF) -> tuple[np.ndarray, np.ndarray]:
    """Datagrams as a receive leaves them: rows of a slab that still holds the bytes of earlier packets."""
    slab = np.full((len(datagrams) + 2, width), fill, np.uint8)
    for row, datagram in enumerate(datagrams):
        slab[row, : len(datagram)] = np.frombuffer(datagram, np.uint8)
    return slab, np.array([len(d) for d in datagrams], np.int64)


def plain(payload: bytes = b"x" * 160, **fields: int) -> bytes:
    return rtp.pack(payload, **({"payload_type": 0, "sequence": 7, "timestamp": 160, "ssrc": 0xDEADBEEF} | fields))


@given(st.lists(PACKETS, max_size=6))
def test_every_field_of_every_packet_in_a_batch_is_read(packets):
    slab, lengths = slab_of(*(rtp.pack(**p) for p in packets), width=512)
    headers = rtp.parse(slab, lengths)
    assert headers.valid.all() and not headers.rtcp.any()
    for row, packet in enumerate(packets):
        for name in ("payload_type", "marker", "sequence", "timestamp", "ssrc"):
            assert getattr(headers, name)[row] == packet[name]
        start = headers.offset[row]
        assert slab[row, start : start + headers.size[row]].tobytes() == packet["payload"]


@given(PACKETS)
def test_unpack_gives_back_what_pack_was_given(packet):
    unpacked = rtp.unpack(rtp.pack(**packet))
    assert unpacked == rtp.Packet(**{name: value for name, value in packet.items() if name != "padding"})


@given(st.lists(st.binary(max_size=80), max_size=5), st.integers(0, 255))
def test_arbitrary_bytes_are_judged_and_never_read_beyond_their_end(datagrams, stale):
    slab, lengths = slab_of(*datagrams, width=96, fill=stale)
    headers = rtp.parse(slab, lengths)
    assert not (headers.valid & headers.rtcp).any()
    good = headers.valid
    assert (headers.offset[good] >= 12).all() and (headers.size[good] >= 0).all()
    assert (headers.offset[good] + headers.size[good] <= lengths[good]).all()


@given(st.lists(st.binary(max_size=40), max_size=5))
def test_a_verdict_does_not_depend_on_what_an_earlier_packet_left_in_the_row(datagrams):
    clean = rtp.parse(*slab_of(*datagrams, fill=0))
    stale = rtp.parse(*slab_of(*datagrams, fill=0xFF))
    assert (clean.valid == stale.valid).all() and (clean.rtcp == stale.rtcp).all()
    for before, after in zip(clean, stale, strict=True):
        assert (before[clean.valid] == after[clean.valid]).all()


@given(st.binary(max_size=80))
def test_unpack_raises_nothing_but_a_fault_of_the_peer(datagram):
    try:
        rtp.unpack(datagram)
    except rtp.RtpError as error:
        assert isinstance(error, PeerError)


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        plain()[:11],
        b"\x00" + plain()[1:],
        b"\x40" + plain()[1:],
        b"\xc0" + plain()[1:],
        b"\x8f" + plain(b"12345678")[1:],
        b"\x90" + plain(b"123")[1:],
        b"\x90" + plain(b"\xbe\xde\x00\x02aaaa")[1:],
        b"\xa0" + plain(b"abc\x00")[1:],
        b"\xa0" + plain(b"abc\x05")[1:],
        b"\xa0" + plain(b"")[1:],
    ],
    ids=[
        "empty", "short", "version 0", "version 1", "version 3", "CSRCs beyond the end", "no room for an extension",
        "extension beyond the end", "padding of 0", "padding longer than the payload", "padding in the header",
    ],
)  # fmt: skip
def test_garbage_is_not_valid(datagram):
    assert not rtp.parse(*slab_of(datagram)).valid[0]


def test_a_datagram_longer_than_its_row_is_not_valid():
    slab, _ = slab_of(plain(b""), width=64)
    headers = rtp.parse(slab, np.array([65]))
    assert not headers.valid[0]


@pytest.mark.parametrize("kind, rtcp", [(191, False), (192, True), (200, True), (207, True), (223, True), (224, False)])
def test_rtcp_is_told_by_its_packet_type(kind, rtcp):
    headers = rtp.parse(*slab_of(bytes([0x81, kind]) + plain()[2:]))
    assert headers.rtcp[0] == rtcp and headers.valid[0] != rtcp


def test_an_empty_receiver_report_of_eight_bytes_is_rtcp():
    headers = rtp.parse(*slab_of(bytes.fromhex("80c9000112345678")))
    assert headers.rtcp[0]


def test_no_datagrams_give_no_headers():
    assert all(len(column) == 0 for column in rtp.parse(*slab_of()))


@given(PACKETS, st.integers(-(2**40), 2**40), st.integers(-(2**40), 2**40), U32, st.integers(0, 127), st.booleans())
def test_write_replaces_the_fields_wrapped_and_nothing_else(packet, sequence, timestamp, ssrc, payload_type, marker):
    bystander = plain(b"bystander")
    slab, lengths = slab_of(bystander, rtp.pack(**packet), bystander, width=512)
    before = slab.copy()
    fields = {"sequence": sequence, "timestamp": timestamp, "ssrc": ssrc, "payload_type": payload_type}
    columns = {name: np.array([value]) for name, value in fields.items()}
    rtp.write(slab, np.array([1]), **columns, marker=np.array([marker]))
    assert (slab[[0, 2]] == before[[0, 2]]).all()
    written = slab[1, : lengths[1]].tobytes()
    expected = rtp.pack(**(packet | fields | {"marker": marker}))
    assert written == expected


@given(st.integers(0, 2**40), st.integers(-0x8000, 0x7FFF))
def test_an_extended_sequence_number_is_the_nearest_one(reference, step):
    assert rtp.extend_u16(reference, reference + step & 0xFFFF) == reference + step


@given(st.integers(0, 2**50), st.integers(-(2**31), 2**31 - 1))
def test_an_extended_timestamp_is_the_nearest_one(reference, step):
    assert rtp.extend_u32(reference, reference + step & 0xFFFFFFFF) == reference + step


@given(U16, st.integers(-0x8000, 0x7FFF))
def test_a_difference_of_sequence_numbers_has_a_sign(b, step):
    assert rtp.delta_u16(b + step & 0xFFFF, b) == step


def test_differences_work_on_arrays():
    a, b = np.array([0, 65535, 5]), np.array([65535, 0, 5])
    assert rtp.delta_u16(a, b).tolist() == [1, -1, 0]
    assert rtp.delta_u32(np.array([0]), np.array([2**32 - 160])).tolist() == [160]
    assert rtp.extend_u16(np.array([65535, 65536]), np.array([0, 65535])).tolist() == [65536, 65535]
