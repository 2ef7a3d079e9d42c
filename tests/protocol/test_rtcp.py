import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import PeerError
from gateway.protocol import rtcp
from gateway.protocol.rtcp import APP, BYE, PSFB, RR, RTPFB, SDES, SR, XR, Packet, ReportMap, RtcpError, SenderMap

ALICE, ALICE_OUT = 0xA11CE000, 0x0A0A0A0A  # what Alice calls herself, and what we send her stream on as
BOB, BOB_OUT = 0xB0B00000, 0x0B0B0B0B  # what Bob calls himself, and what we send his stream to Alice as
STRANGER = 0x5174A63E
SENDER = {ALICE: SenderMap(ALICE_OUT, timestamp_offset=1000, packets=77, octets=12320)}
REPORTER = {BOB_OUT: ReportMap(BOB, sequence_offset=500)}


def u32(*values: int) -> bytes:
    return struct.pack(f">{len(values)}I", *values)


def report_block(ssrc: int, highest: int = 70_000) -> bytes:
    return u32(ssrc, 0x19000003, highest, 42, 0x11112222, 0x00008000)


def sender_report(ssrc: int, *blocks: bytes, timestamp: int = 8000) -> Packet:
    return Packet(SR, len(blocks), u32(ssrc, 0xE0000001, 0x80000000, timestamp, 50, 8000) + b"".join(blocks))


def receiver_report(ssrc: int, *blocks: bytes) -> Packet:
    return Packet(RR, len(blocks), u32(ssrc) + b"".join(blocks))


def description(*ssrcs: int, name: bytes = b"alice@example") -> Packet:
    chunk = bytes([1, len(name)]) + name
    chunk += bytes(4 - len(chunk) % 4)
    return Packet(SDES, len(ssrcs), b"".join(u32(ssrc) + chunk for ssrc in ssrcs))


def map_one(packet: Packet, default_ssrc: int | None = None) -> Packet | None:
    mapped = rtcp.rewrite(rtcp.join([packet]), SENDER, REPORTER, default_ssrc)
    return None if mapped is None else rtcp.split(mapped)[0]


def test_a_sender_report_moves_to_our_ssrc_timestamps_and_counts_and_keeps_its_ntp_time():
    assert map_one(sender_report(ALICE)) == Packet(SR, 0, u32(ALICE_OUT, 0xE0000001, 0x80000000, 9000, 77, 12320))


def test_a_sender_report_keeps_its_own_counts_where_we_have_none():
    mapped = rtcp.rewrite(rtcp.join([sender_report(ALICE)]), {ALICE: SenderMap(ALICE_OUT, -8001)}, {})
    assert mapped == rtcp.join([Packet(SR, 0, u32(ALICE_OUT, 0xE0000001, 0x80000000, 0xFFFFFFFF, 50, 8000))])


@pytest.mark.parametrize("report", [sender_report, receiver_report])
def test_a_report_block_goes_back_to_its_origin_with_loss_jitter_and_times_untouched(report):
    mapped = map_one(report(ALICE, report_block(BOB_OUT)))
    assert mapped.detail == 1
    assert mapped.body.endswith(u32(BOB, 0x19000003, 69_500, 42, 0x11112222, 0x00008000))


def test_blocks_about_unknown_streams_are_left_out_and_a_profiles_extension_stays():
    packet = receiver_report(ALICE, report_block(STRANGER), report_block(BOB_OUT), report_block(BOB))
    mapped = map_one(packet._replace(body=packet.body + b"more"))
    assert mapped == Packet(RR, 1, u32(ALICE_OUT) + report_block(BOB, 69_500) + b"more")


@pytest.mark.parametrize(
    "extended, offset, origin",
    [
        (0x0001_0005, 0x0000_0006, 0x0000_FFFF),
        (0x0000_FFFF, -2, 0x0001_0001),
        (0x0000_0010, 0xF000, 0x1010),
        (0x0000_0010, 0x3_F000, 0x1010),
        (0xFFFF_FFFF, -1, 0),
    ],
    ids=[
        "cycle taken back",
        "cycle begun",
        "counted from a later start",
        "stream began cycles ago",
        "wraps at 32 bits",
    ],
)
def test_cycles_of_the_highest_sequence_number_stay_sensible(extended, offset, origin):
    assert rtcp.map_sequence(extended, offset) == origin


def test_the_report_of_a_replaced_or_foreign_ssrc_is_dropped_from_the_compound():
    compound = rtcp.join(
        [sender_report(STRANGER, report_block(BOB_OUT)), receiver_report(ALICE), description(STRANGER)]
    )
    assert rtcp.rewrite(compound, SENDER, REPORTER) == rtcp.join([receiver_report(ALICE_OUT)])


def test_nothing_left_is_none():
    assert rtcp.rewrite(rtcp.join([sender_report(STRANGER), description(STRANGER)]), SENDER, REPORTER) is None


def test_a_party_that_only_receives_reports_under_the_default_ssrc():
    compound = rtcp.join([receiver_report(STRANGER, report_block(BOB_OUT)), description(STRANGER)])
    assert rtcp.rewrite(compound, {}, REPORTER, default_ssrc=ALICE_OUT) == rtcp.join(
        [receiver_report(ALICE_OUT, report_block(BOB, 69_500)), description(ALICE_OUT)]
    )


@pytest.mark.parametrize("last", [Packet(BYE, 1, u32(STRANGER)), sender_report(STRANGER)])
def test_an_unknown_ssrc_that_sends_or_leaves_is_never_taken_for_the_default(last):
    compound = rtcp.join([receiver_report(STRANGER), description(STRANGER), last])
    assert rtcp.rewrite(compound, SENDER, REPORTER, default_ssrc=ALICE_OUT) is None


def test_a_description_keeps_its_items():
    assert map_one(description(STRANGER, ALICE)) == description(ALICE_OUT)


def test_the_bye_of_the_current_ssrc_is_relayed_with_its_reason():
    assert map_one(Packet(BYE, 2, u32(STRANGER, ALICE) + b"\x03bye")) == Packet(BYE, 1, u32(ALICE_OUT) + b"\x03bye")


def test_the_bye_of_a_replaced_ssrc_is_not_relayed():
    assert map_one(Packet(BYE, 1, u32(STRANGER))) is None


def test_an_application_packet_keeps_its_name_and_data():
    assert map_one(Packet(APP, 3, u32(ALICE) + b"NAMEdata")) == Packet(APP, 3, u32(ALICE_OUT) + b"NAMEdata")


def test_a_nack_asks_the_origin_for_its_own_sequence_numbers():
    nack = Packet(RTPFB, 1, u32(ALICE, BOB_OUT) + struct.pack(">HHHH", 600, 0x8001, 100, 0))
    assert map_one(nack) == Packet(RTPFB, 1, u32(ALICE_OUT, BOB) + struct.pack(">HHHH", 100, 0x8001, 65136, 0))


@pytest.mark.parametrize("kind, detail", [(PSFB, 1), (PSFB, 15), (RTPFB, 15)])
def test_other_feedback_has_both_its_ssrcs_mapped(kind, detail):
    assert map_one(Packet(kind, detail, u32(ALICE, BOB_OUT) + b"same")) == Packet(
        kind, detail, u32(ALICE_OUT, BOB) + b"same"
    )


@pytest.mark.parametrize("kind, detail", [(PSFB, 4), (RTPFB, 3), (RTPFB, 4)])
def test_feedback_entries_are_mapped_one_by_one(kind, detail):
    packet = Packet(kind, detail, u32(ALICE, 0) + u32(STRANGER, 1, BOB_OUT, 2))
    assert map_one(packet) == Packet(kind, detail, u32(ALICE_OUT, 0) + u32(BOB, 2))
    assert map_one(packet._replace(body=u32(ALICE, 0, STRANGER, 1))) is None


@pytest.mark.parametrize(
    "kind, detail, body",
    [
        (PSFB, 1, u32(ALICE, STRANGER)),
        (PSFB, 1, u32(STRANGER, BOB_OUT)),
        (RTPFB, 1, u32(ALICE, 0, 0x00010000)),
        (RTPFB, 11, u32(ALICE, BOB_OUT, 1, 2)),
        (PSFB, 15, u32(ALICE, 0) + b"REMB" + u32(0x01000000, STRANGER)),
    ],
    ids=["unknown media", "unknown sender", "NACK of nothing", "RFC 8888", "REMB"],
)
def test_feedback_that_cannot_be_mapped_is_dropped(kind, detail, body):
    assert map_one(Packet(kind, detail, body)) is None


def extended(kind: int, data: bytes, specific: int = 0) -> bytes:
    return struct.pack(">BBH", kind, specific, len(data) // 4) + data


def test_extended_reports_are_mapped_block_by_block():
    voip = bytes(range(28))
    blocks = [
        extended(4, u32(0xE0000001, 0)),
        extended(5, u32(STRANGER, 1, 2, BOB_OUT, 0x1111, 0x2222)),
        extended(1, u32(BOB_OUT) + struct.pack(">HHHH", 600, 400, 0xC000, 0)),
        extended(6, u32(BOB_OUT) + struct.pack(">HH", 501, 600) + bytes(28), specific=0xE0),
        extended(7, u32(BOB_OUT) + voip),
        extended(3, u32(BOB_OUT, 0x00010002, 9)),
        extended(7, u32(STRANGER) + voip),
        extended(2, u32(BOB_OUT, 0x00010002, 0), specific=3),
        extended(99, u32(BOB_OUT)),
    ]
    assert map_one(Packet(XR, 0, u32(ALICE) + b"".join(blocks))).body == u32(ALICE_OUT) + b"".join(
        [
            extended(4, u32(0xE0000001, 0)),
            extended(5, u32(BOB, 0x1111, 0x2222)),
            extended(1, u32(BOB) + struct.pack(">HHHH", 100, 65436, 0xC000, 0)),
            extended(6, u32(BOB) + struct.pack(">HH", 1, 100) + bytes(28), specific=0xE0),
            extended(7, u32(BOB) + voip),
        ]
    )


def test_extended_reports_without_a_known_block_are_dropped():
    assert map_one(Packet(XR, 0, u32(ALICE) + extended(99, b"what"))) is None


def test_unknown_packet_types_are_dropped():
    assert map_one(Packet(195, 1, u32(7))) is None


def test_padding_is_taken_off():
    padded = bytearray(rtcp.join([receiver_report(ALICE), Packet(RR, 0, u32(ALICE) + bytes(7) + b"\x08")]))
    padded[8] |= 0x20
    assert rtcp.rewrite(bytes(padded), SENDER, {}) == rtcp.join([receiver_report(ALICE_OUT)] * 2)


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        b"\x80\xc9\x00",
        b"\x40\xc9\x00\x01" + u32(ALICE),
        b"\x80\x00\x00\x01" + u32(ALICE),
        b"\x80\xc9\x00\x02" + u32(ALICE),
        b"\x80\xc9\x00\x00",
        b"\x81\xc9\x00\x01" + u32(ALICE),
        b"\x80\xc8\x00\x01" + u32(ALICE),
        b"\x82\xcb\x00\x01" + u32(ALICE),
        b"\x81\xca\x00\x02" + u32(ALICE) + b"\x01\x05ab",
        b"\x81\xca\x00\x01" + u32(ALICE),
        b"\x80\xcc\x00\x01" + u32(ALICE),
        b"\x81\xcd\x00\x01" + u32(ALICE),
        b"\x80\xcf\x00\x02" + u32(ALICE, 0x04000002),
        b"\xa0\xc9\x00\x01" + u32(ALICE)[:3] + b"\x00",
        b"\xa0\xc9\x00\x01" + u32(ALICE)[:3] + b"\x08",
        b"\xa0\xc9\x00\x02" + u32(ALICE, 3),
        b"\xa0\xc9\x00\x02" + u32(ALICE, 4) + rtcp.join([receiver_report(ALICE)]),
        rtcp.join([receiver_report(ALICE)]) + b"\x80",
    ],
    ids=[
        "empty", "short", "version 1", "packet type 0", "longer than the datagram", "report without SSRC",
        "missing block", "missing sender info", "missing BYE SSRC", "item beyond the end", "chunk without end",
        "APP without name", "feedback without media", "XR block beyond the end", "padding of 0",
        "padding longer than the packet", "padding of 3", "padding before the last packet", "rest",
    ],
)  # fmt: skip
def test_malformed_compounds_are_the_peers_fault(datagram):
    with pytest.raises(RtcpError):
        rtcp.rewrite(datagram, SENDER, REPORTER)


SSRCS = st.sampled_from([ALICE, BOB_OUT, STRANGER, 0])
BODIES = st.lists(SSRCS | st.integers(0, 0xFFFFFFFF), max_size=20).map(lambda words: u32(*words))
SHAPED = st.lists(st.builds(Packet, st.integers(192, 223), st.integers(0, 31), BODIES), max_size=4).map(rtcp.join)


@given(st.binary(max_size=200) | SHAPED, st.none() | st.just(ALICE_OUT))
def test_arbitrary_bytes_raise_nothing_but_a_fault_of_the_peer_and_what_goes_out_is_well_formed(datagram, default):
    try:
        mapped = rtcp.rewrite(datagram, SENDER, REPORTER, default)
    except RtcpError as error:
        assert isinstance(error, PeerError)
    else:
        assert mapped is None or (rtcp.split(mapped) and len(mapped) <= len(datagram))


BLOCKS = st.lists(st.builds(report_block, st.just(BOB), st.integers(0, 0xFFFFFFFF)), max_size=3)
REPORTS = st.one_of(
    st.builds(lambda blocks, at: sender_report(ALICE, *blocks, timestamp=at), BLOCKS, st.integers(0, 0xFFFFFFFF)),
    st.builds(lambda blocks: receiver_report(ALICE, *blocks), BLOCKS),
    st.builds(lambda name: description(ALICE, BOB, name=name), st.binary(max_size=30)),
    st.builds(lambda reason: Packet(BYE, 1, u32(ALICE) + reason), st.sampled_from([b"", b"\x03bye"])),
    st.builds(lambda data: Packet(APP, 0, u32(ALICE) + b"test" + u32(*data)), st.lists(st.integers(0, 9), max_size=3)),
    st.builds(lambda pid: Packet(RTPFB, 1, u32(ALICE, BOB, pid)), st.integers(0, 0xFFFFFFFF)),
    st.builds(
        lambda pid: Packet(XR, 0, u32(ALICE) + extended(6, u32(BOB, pid) + bytes(28))), st.integers(0, 0xFFFFFFFF)
    ),
)


@given(st.lists(REPORTS, min_size=1, max_size=5).map(rtcp.join))
def test_maps_that_change_nothing_change_nothing(compound):
    same = {ssrc: SenderMap(ssrc, 0) for ssrc in (ALICE, BOB)}
    assert rtcp.rewrite(compound, same, {BOB: ReportMap(BOB, 0)}) == compound
