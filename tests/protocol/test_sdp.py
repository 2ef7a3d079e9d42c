from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocol import sdp

FIXTURES = Path(__file__).parent / "fixtures"
OURS = "203.0.113.9"


def load(name: str) -> str:
    return (FIXTURES / f"{name}.sdp").read_bytes().decode()


def body(*media: str, head: str = "c=IN IP4 192.0.2.1") -> str:
    """A session whose m-lines each stand with their attributes in one string, parted by blanks of two."""
    lines = ["v=0", "o=- 1 2 IN IP4 192.0.2.1", "s=call", *head.split("  "), "t=0 0"]
    return "".join(
        f"{line}\r\n" for line in lines + [line for section in media for line in section.split("  ")] if line
    )


AUDIO = "m=audio 6000 RTP/AVP 0 8 101  a=rtpmap:101 telephone-event/8000  a=fmtp:101 0-16  a=ptime:20"


def changed(before: str, after: str) -> tuple[list[str], list[str]]:
    """Lines that went and lines that came."""
    old, new = before.splitlines(), after.splitlines()
    return [line for line in old if line not in new], [line for line in new if line not in old]


def refused(text: str) -> str:
    with pytest.raises(sdp.SdpError) as caught:
        sdp.parse(text)
    return str(caught.value)


def test_an_offer_says_where_media_goes_and_which_codecs_it_has() -> None:
    session = sdp.parse(body(AUDIO))
    (media,) = session.media
    assert (media.kind, media.port, media.transport, media.formats) == ("audio", 6000, "RTP/AVP", ("0", "8", "101"))
    assert media.codecs == (
        sdp.Codec(0, "PCMU", 8000),
        sdp.Codec(8, "PCMA", 8000),
        sdp.Codec(101, "TELEPHONE-EVENT", 8000, 1, "0-16"),
    )
    assert (media.rtp_remote, media.rtcp_remote) == (("192.0.2.1", 6000), ("192.0.2.1", 6001))
    assert (media.direction, media.ptime_ms, media.rtcp_mux, media.is_secure) == ("sendrecv", 20, False, False)
    assert session.origin == sdp.Origin("-", "1", "2", "192.0.2.1")


def test_own_lines_of_an_m_line_override_the_sessions() -> None:
    session = sdp.parse(
        body(
            "m=audio 6000 RTP/AVP 0  c=IN IP4 192.0.2.7  a=sendonly",
            "m=video 7000 RTP/AVP 31",
            head="c=IN IP4 192.0.2.1  a=recvonly",
        )
    )
    audio, video = session.media
    assert (audio.address, audio.direction) == ("192.0.2.7", "sendonly")
    assert (video.address, video.direction) == ("192.0.2.1", "recvonly")


@pytest.mark.parametrize(
    ("attributes", "rtcp"),
    [
        ("", ("192.0.2.1", 6001)),
        ("a=rtcp:6005", ("192.0.2.1", 6005)),
        ("a=rtcp:6005 IN IP4 192.0.2.3", ("192.0.2.3", 6005)),
        ("a=rtcp:0", None),
    ],
)
def test_rtcp_goes_where_rfc_3605_says(attributes: str, rtcp: tuple[str, int] | None) -> None:
    assert sdp.parse(body(f"{AUDIO}  {attributes}")).media[0].rtcp_remote == rtcp


@pytest.mark.parametrize("family", ["IN IP4 0.0.0.0", "IN IP6 ::"])
def test_the_unspecified_address_is_a_hold(family: str) -> None:
    (media,) = sdp.parse(body(AUDIO, head=f"c={family}")).media
    assert media.is_held
    assert (media.rtp_remote, media.rtcp_remote, media.rejected) == (None, None, False)


def test_port_zero_is_a_rejected_m_line_that_needs_no_address() -> None:
    (media,) = sdp.parse(body("m=audio 0 RTP/AVP 0", head="")).media
    assert media.rejected
    assert (media.address, media.rtp_remote) == (None, None)


def test_static_payload_types_have_their_rfc_3551_meaning_unless_mapped() -> None:
    (media,) = sdp.parse(
        body("m=audio 6000 RTP/AVP 9 10 11 18 96 97 0  a=rtpmap:97 opus/48000/2  a=rtpmap:0 L16/16000")
    ).media
    assert media.codecs == (
        sdp.Codec(9, "G722", 8000),
        sdp.Codec(10, "L16", 44100, 2),
        sdp.Codec(11, "L16", 44100, 1),
        sdp.Codec(18, "G729", 8000),
        sdp.Codec(97, "OPUS", 48000, 2),
        sdp.Codec(0, "L16", 16000),
    )


def test_broken_attributes_of_codecs_are_ignored_as_phones_send_many() -> None:
    (media,) = sdp.parse(
        body(
            "m=audio 6000 RTP/AVP 0 96 97  a=rtpmap:96 x  a=rtpmap:97 y/0  a=fmtp:999 z  a=ptime:x  a=rtpmap:\u0661 z/8"
        )
    ).media
    assert [codec.name for codec in media.codecs] == ["PCMU"]
    assert media.ptime_ms is None


@pytest.mark.parametrize("name", ["\u0390" * 11_000, "x" * 33, "a\udcffb", "a\x00b", "a\x7fb", "\u0131lbc"])
def test_an_encoding_name_that_is_no_short_token_leaves_its_payload_type_unknown(name: str) -> None:
    text = body(f"m=audio 6000 RTP/AVP 0 96 97  a=rtpmap:96 {name}/8000  a=rtpmap:97 vnd.x-y+z!/8000")
    session = sdp.parse(text)
    assert [codec.name for codec in session.media[0].codecs] == ["PCMU", "VND.X-Y+Z!"]
    assert session.media[0].formats == ("0", "96", "97") and session.render() == text


@pytest.mark.parametrize(
    ("transport", "attributes", "rtp", "secure", "udp"),
    [
        ("RTP/AVP", "", True, False, True),
        ("RTP/AVPF", "", True, False, True),
        ("RTP/AVP", "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x", True, True, True),
        ("RTP/SAVP", "", True, True, True),
        ("UDP/TLS/RTP/SAVPF", "a=fingerprint:sha-256 AA", True, True, True),
        ("udptl", "", False, False, True),
        ("TCP/MSRP", "", False, False, False),
    ],
)
def test_transports_are_told_apart(transport: str, attributes: str, rtp: bool, secure: bool, udp: bool) -> None:
    (media,) = sdp.parse(body(f"m=audio 6000 {transport} 0  {attributes}")).media
    assert (media.is_rtp, media.is_secure, media.is_udp) == (rtp, secure, udp)


def test_a_fax_line_has_no_codecs_and_no_rtcp() -> None:
    (media,) = sdp.parse(body("m=image 6000 udptl t38  a=T38FaxVersion:0")).media
    assert (media.kind, media.formats, media.codecs, media.rtcp_remote) == ("image", ("t38",), (), None)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "line 1 must be v=0, not ''"),
        ("v=1\r\n", "line 1 must be v=0"),
        ("v=0\r\ns=-\r\n", "the o= line is missing"),
        ("v=0\r\no=- 1 2 IN IP4\r\n", "the o= line needs six fields"),
        ("v=0\r\no=- 1 2 IN IP4 h\r\no=- 1 2 IN IP4 h\r\n", "more than one o= line"),
        (body(AUDIO) + "hello\r\n", "line 10 is no <type>=<value>: 'hello'"),
        (body("m=audio 6000 RTP/AVP"), "the m-line needs kind, port, transport and formats"),
        (body("m=audio 65536 RTP/AVP 0"), "'65536' is no port 0..65535"),
        (body("m=audio -1 RTP/AVP 0"), "'-1' is no port"),
        (body("m=audio 6000/x RTP/AVP 0"), "'6000/x' is no port"),
        (body("m=audio 6000 RTP/AVP 128"), "'128' is no payload type 0..127"),
        (body("m=audio 6000 RTP/AVP 0", head=""), "no c= line gives an address for 'm=audio 6000"),
        (body(AUDIO, head="c=IN IP4 pbx.example.com"), "numeric address is needed"),
        (body(AUDIO, head="c=IN IP4 224.2.1.1/127"), "multicast is not relayed"),
        (body(AUDIO, head="c=IN IP4 2001:db8::1"), "must be given as IN IP6"),
        (body(AUDIO, head="c=IN IP6 fe80::1%eth0"), "without a zone"),
        (body(AUDIO, head="c=192.0.2.1"), "the c= line needs network type"),
        (body(f"{AUDIO}  a=rtcp:x"), "expected a=rtcp:<port>"),
        (body(f"{AUDIO}  a=rtcp:"), "expected a=rtcp:<port>"),
        (body(f"{AUDIO}  a=rtcp:6001 IN IP4 evil.example"), "numeric address is needed"),
        (body(*["m=audio 6000 RTP/AVP 0"] * 33), "33 m-lines are more than 32"),
        (body(AUDIO) + "a=x\r\n" * 2000, "lines are more than 2000"),
        (body(AUDIO) + "a=" + "x" * 70000, "characters are more than 65536"),
    ],
)
def test_an_sdp_that_lies_is_refused_with_its_line(text: str, reason: str) -> None:
    assert reason in refused(text)


def test_rewriting_a_phones_offer_changes_address_port_and_rtcp_and_nothing_else() -> None:
    before = load("linphone_offer")
    after = sdp.rewrite(sdp.parse(before), [sdp.Endpoint(OURS, 30000, 30001), sdp.Endpoint(OURS, 30002, 30003)])
    gone, came = changed(before, after)
    assert gone == [
        "c=IN IP4 192.168.1.20",
        "m=audio 7078 RTP/AVP 96 0 8 9 97",
        "m=video 9078 RTP/AVP 98",
        "a=rtcp:9079",
    ]
    assert came == [
        f"c=IN IP4 {OURS}",
        "m=audio 30000 RTP/AVP 96 0 8 9 97",
        "a=rtcp:30001",
        "m=video 30002 RTP/AVP 98",
        "a=rtcp:30003",
    ]


def test_replace_names_what_else_is_changed() -> None:
    session = sdp.parse(body(f"{AUDIO}  c=IN IP4 192.0.2.7"))
    endpoints = [sdp.Endpoint(OURS, 30000)]
    assert "c=IN IP4 192.0.2.1\r\nt=0 0" in sdp.rewrite(session, endpoints), "the m-line has an address of its own"
    everything = {"origin", "session-connection", "username", "session-name"}
    after = sdp.rewrite(session, endpoints, replace=everything)
    assert after.startswith(f"v=0\r\no=- 1 2 IN IP4 {OURS}\r\ns=-\r\nc=IN IP4 {OURS}\r\nt=0 0\r\n")


def test_of_several_c_lines_only_the_first_is_replaced_and_the_others_go() -> None:
    session = sdp.parse(body(f"{AUDIO}  c=IN IP4 192.0.2.7  c=IN IP4 192.0.2.8", head="c=IN IP4 192.0.2.1  c=IN"))
    after = sdp.rewrite(session, [sdp.Endpoint(OURS, 30000)], replace={"session-connection"})
    assert after.count(f"c=IN IP4 {OURS}\r\n") == after.count("c=") == 2


def test_addresses_of_one_family_become_those_of_another() -> None:
    after = sdp.rewrite(sdp.parse(body(AUDIO)), [sdp.Endpoint("2001:db8::9", 30000)], replace={"origin"})
    assert "o=- 1 2 IN IP6 2001:db8::9\r\n" in after
    assert "c=IN IP6 2001:db8::9\r\n" in after
    assert sdp.parse(after).media[0].rtp_remote == ("2001:db8::9", 30000)


def test_a_hold_by_address_stays_one_unless_zero_address_is_replaced() -> None:
    session = sdp.parse(body(AUDIO, head="c=IN IP4 0.0.0.0"))
    kept = sdp.rewrite(session, [sdp.Endpoint(OURS, 30000)])
    assert (sdp.parse(kept).media[0].is_held, sdp.parse(kept).media[0].port) == (True, 30000)
    assert "c=IN IP6 ::\r\n" in sdp.rewrite(session, [sdp.Endpoint("2001:db8::9", 30000)])
    replaced = sdp.rewrite(session, [sdp.Endpoint(OURS, 30000)], replace={"zero-address"})
    assert sdp.parse(replaced).media[0].rtp_remote == (OURS, 30000)


def test_one_held_line_beside_a_live_one_stays_held() -> None:
    session = sdp.parse(body("m=audio 6000 RTP/AVP 0", "m=video 7000 RTP/AVP 31  c=IN IP4 0.0.0.0"))
    audio, video = sdp.parse(sdp.rewrite(session, [sdp.Endpoint(OURS, 30000), sdp.Endpoint(OURS, 30002)])).media
    assert (audio.rtp_remote, video.is_held, video.port) == ((OURS, 30000), True, 30002)


def test_a_line_on_another_of_our_addresses_gets_a_c_line_of_its_own() -> None:
    session = sdp.parse(body("m=audio 6000 RTP/AVP 0", "m=video 7000 RTP/AVP 31  i=title  a=x"))
    after = sdp.rewrite(session, [sdp.Endpoint(OURS, 30000), sdp.Endpoint("203.0.113.10", 30002)])
    assert after.endswith("m=video 30002 RTP/AVP 31\r\ni=title\r\nc=IN IP4 203.0.113.10\r\na=x\r\n")


def test_a_rejected_line_stays_and_a_line_without_endpoint_is_rejected() -> None:
    before = body("m=audio 6000 RTP/AVP 0", "m=video 0 RTP/AVP 31  a=old", "m=message 7000 TCP/MSRP *  a=path:x")
    after = sdp.rewrite(sdp.parse(before), [sdp.Endpoint(OURS, 30000), None, None])
    assert after.endswith("m=video 0 RTP/AVP 31\r\na=old\r\nm=message 0 TCP/MSRP *\r\na=path:x\r\n")
    assert [media.rejected for media in sdp.parse(after).media] == [False, True, True]


def test_all_lines_without_endpoint_leave_the_session_untouched() -> None:
    before = body("m=audio 6000 RTP/AVP 0  a=candidate:1 1 UDP 1 192.0.2.1 6000 typ host")
    assert sdp.rewrite(sdp.parse(before), [None], replace={"origin"}) == before.replace("6000 RTP", "0 RTP")


@pytest.mark.parametrize(
    ("came", "wish", "goes"), [(1, None, 1), (1, True, 1), (1, False, 0), (0, None, 0), (0, True, 1), (0, False, 0)]
)
def test_rtcp_mux_is_put_in_taken_out_or_kept(came: int, wish: bool | None, goes: int) -> None:
    session = sdp.parse(body(AUDIO + "  a=rtcp-mux" * came))
    assert sdp.rewrite(session, [sdp.Endpoint(OURS, 30000, rtcp_mux=wish)]).count("a=rtcp-mux\r\n") == goes


def test_the_rtcp_line_goes_when_no_port_is_given() -> None:
    session = sdp.parse(body(f"{AUDIO}  a=rtcp:6005 IN IP4 192.0.2.3"))
    assert "a=rtcp:" not in sdp.rewrite(session, [sdp.Endpoint(OURS, 30000)])
    assert sdp.rewrite(session, [sdp.Endpoint(OURS, 30000, 30001)]).count("a=rtcp:30001\r\n") == 1


def test_a_browsers_offer_becomes_plain_rtp_when_ice_goes_and_the_transport_changes() -> None:
    session = sdp.parse(load("browser_offer"))
    (media,) = session.media
    assert (media.has_ice, media.has_fingerprint, media.rtcp_mux, media.mid) == (True, True, True, "0")
    endpoint = sdp.Endpoint(OURS, 30000, 30001, rtcp_mux=False, transport="RTP/AVP", own_ssrc=True)
    after = sdp.rewrite(session, [endpoint], remove_ice=True)
    names = "ice-", "candidate", "end-of-candidates", "fingerprint", "setup", "rtcp-fb", "group", "rtcp-mux", "ssrc"
    for name in names:
        assert f"a={name}" not in after, name
    for line in ("a=mid:0", "a=msid-semantic: WMS *", "a=rtpmap:111 opus/48000/2", "a=rtcp-rsize"):
        assert f"{line}\r\n" in after
    (plain,) = sdp.parse(after).media
    assert (plain.is_secure, plain.has_ice, plain.rtp_remote, plain.rtcp_remote) == (
        False,
        False,
        (OURS, 30000),
        (OURS, 30001),
    )


SOURCES = "a=ssrc:1 cname:x  a=SSRC:1 msid:s t  a=ssrc-group:FID 1 2  a=ssrc:2 cname:x"


def test_sources_go_from_a_line_whose_packets_bear_our_ssrc_and_from_no_other() -> None:
    kept = "a=msid:s t  a=mid:0  a=ssrcs:x  a=x-ssrc:1"
    lines = f"{AUDIO}  {kept}  {SOURCES}", f"m=video 7000 RTP/AVP 99  {SOURCES}", f"m=audio 0 RTP/AVP 0  {SOURCES}"
    session = sdp.parse(body(*lines))
    ours = [sdp.Endpoint(OURS, 30000 + 2 * index, own_ssrc=index != 1) for index in range(3)]
    audio, video, rejected = ("".join(section) for section in sdp.parse(sdp.rewrite(session, ours)).sections)
    kept, sources = ("".join(f"{line}\r\n" for line in text.split("  ")) for text in (kept, SOURCES))
    assert audio.endswith(kept) and video.endswith(sources) and rejected.endswith(sources)
    assert sdp.rewrite(session, [None] * 3).count(sources) == 3


def test_line_ends_and_a_missing_last_one_are_kept() -> None:
    bare = body(AUDIO).replace("\r\n", "\n")
    assert "\r" not in sdp.rewrite(sdp.parse(bare), [sdp.Endpoint(OURS, 30000, 30001)], replace={"origin"})
    cut = body(AUDIO).removesuffix("\r\n")
    assert sdp.parse(cut).render() == cut
    assert sdp.rewrite(sdp.parse(cut), [sdp.Endpoint(OURS, 30000, 30001)]).endswith("a=ptime:20\r\na=rtcp:30001\r\n")
    blank = body(AUDIO) + "\r\n\r\n"
    assert sdp.rewrite(sdp.parse(blank), [sdp.Endpoint(OURS, 30000, 30001)]).endswith("a=rtcp:30001\r\n\r\n\r\n")


def test_a_wrong_number_of_endpoints_is_our_fault() -> None:
    with pytest.raises(ValueError, match="0 endpoints for 1"):
        sdp.rewrite(sdp.parse(body(AUDIO)), [])


ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).filter(
    lambda address: not address.is_multicast and not address.is_unspecified
)
UNKNOWN = st.from_regex(r"[biy]=[^\r\n]{0,20}|a=x-[a-z]{1,5}(:[^\r\n]{0,20})?", fullmatch=True)
SOURCE = st.from_regex(r"a=ssrc(-group)?:[^\r\n]{0,20}", fullmatch=True)


@st.composite
def sections(draw: st.DrawFn) -> str:
    port = draw(st.sampled_from([0, 6000, 65534]))
    lines = [f"m={draw(st.sampled_from(['audio', 'video']))} {port} RTP/AVP 0 101"]
    if draw(st.booleans()):
        address = draw(ADDRESSES)
        lines.append(f"c=IN IP{address.version} {address}")
    lines += draw(st.lists(UNKNOWN | SOURCE, max_size=4))
    return "".join(f"{line}\r\n" for line in lines)


@st.composite
def sessions(draw: st.DrawFn) -> str:
    head = "v=0\r\no=- 1 1 IN IP4 host.example\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
    return head + "".join(draw(st.lists(sections(), max_size=5)))


@given(sessions())
def test_parsing_and_rendering_give_the_same_text(text: str) -> None:
    assert sdp.parse(text).render() == text


@given(sessions(), ADDRESSES)
def test_rewriting_puts_our_endpoints_in_and_keeps_every_other_line(text: str, address: object) -> None:
    session = sdp.parse(text)
    ours = [sdp.Endpoint(str(address), 30000 + 2 * index, 30001 + 2 * index) for index in range(len(session.media))]
    after = sdp.parse(sdp.rewrite(session, ours))
    for media, new, endpoint in zip(session.media, after.media, ours, strict=True):
        assert new.rejected == media.rejected
        if not media.rejected:
            assert new.rtp_remote == (endpoint.address, endpoint.port)
            assert new.rtcp_remote == (endpoint.address, endpoint.rtcp_port)
    known = ("c=", "m=", "a=rtcp:")
    kept = [line for line in text.split("\r\n") if not line.startswith(known)]
    assert [line for line in after.render().split("\r\n") if not line.startswith(known)] == kept
    bare = sdp.parse(sdp.rewrite(session, [replace(endpoint, own_ssrc=True) for endpoint in ours]))
    for media, section, stripped in zip(session.media, after.sections, bare.sections, strict=True):
        gone = () if media.rejected else ("a=ssrc:", "a=ssrc-group:")
        assert list(stripped) == [line for line in section if not line.startswith(gone)]


LINES = st.sampled_from(
    [
        "v=0",
        "o=- 1 1 IN IP4 h",
        "c=IN IP4 1.2.3.4",
        "m=audio 1 RTP/AVP 0",
        "m=audio 0 x y",
        "a=rtcp:1",
        "a=rtpmap:0 x/1",
    ]
)


@given(st.text(max_size=200) | st.lists(LINES | st.text(max_size=20), max_size=12).map("\r\n".join))
def test_arbitrary_text_raises_nothing_but_an_sdp_error(text: str) -> None:
    for start in ("", "v=0\r\no=- 1 1 IN IP4 h\r\nc=IN IP4 1.2.3.4\r\n"):
        try:
            session = sdp.parse(start + text)
        except sdp.SdpError as error:
            assert str(error)
        else:
            assert session.render() == start + text
            endpoints = [sdp.Endpoint(OURS, 30000, 30001, rtcp_mux=True, transport="RTP/AVP")] * len(session.media)
            everything = {"origin", "session-connection", "zero-address", "username", "session-name"}
            sdp.parse(sdp.rewrite(session, endpoints, replace=everything, remove_ice=True))
