import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocol import bencode, ng

FIXTURES = Path(__file__).parent / "fixtures"
SOURCE = ("192.0.2.1", 5000)


def captured(name: str) -> ng.Request:
    """A request that Kamailio 5.6.3 really sent (rtpengine module, loopback)."""
    return ng.parse((FIXTURES / f"kamailio56_{name}.ng").read_bytes())


def request(**keys: object) -> ng.Request:
    message = {"command": "offer"} | {key.replace("_", "-"): value for key, value in keys.items()}
    return ng.parse(b"cookie " + bencode.encode(message))


def wrong(**keys: object) -> str:
    with pytest.raises(ng.NgRequestError) as caught:
        request(**keys)
    return str(caught.value)


def test_kamailios_plain_offer_has_its_sdp_tags_and_source() -> None:
    offer = captured("plain")
    assert (offer.command, offer.call_id, offer.from_tag, offer.to_tag) == (
        "offer",
        "call-plain@127.0.0.1",
        "caller",
        None,
    )
    assert offer.received_from == "127.0.0.1"
    assert offer.sdp is not None
    assert offer.sdp.startswith("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\n")
    assert offer.extra == {"supports": ["load limit"]}
    assert offer.flags == frozenset()
    assert offer.controls == ng.Controls()


def test_kamailios_offer_with_all_the_flags_is_understood() -> None:
    offer = captured("full")
    assert offer.replace == {"origin", "session-connection"}
    assert offer.rtcp_mux == {"demux", "offer"}
    assert offer.flags == {"trust-address", "strict-source", "asymmetric"}
    assert (offer.ice, offer.transport_protocol) == ("remove", "RTP/AVP")
    assert (offer.via_branch, offer.label) == ("z9hG4bK-full", "x")
    assert offer.direction == ("a", "b")
    assert (offer.media_address, offer.tos, offer.delete_delay_s) == ("192.0.2.4", 184, 5)
    assert offer.controls == ng.Controls(denoise="on", level=80)


def test_kamailios_codec_and_srtp_flags_are_understood() -> None:
    offer = captured("codecs")
    assert offer.codec == {"mask": ("opus",), "strip": ("G729",), "transcode": ("PCMU",)}
    assert (offer.sdes, offer.transport_protocol, offer.address_family) == (("off",), "RTP/SAVPF", "IP6")
    assert offer.direction == ("internal", "external")
    assert offer.controls == ng.Controls(music="suppress", bypass="auto")


def test_kamailios_other_commands_are_understood() -> None:
    assert captured("ping").command == "ping"
    answer, delete, query = captured("answer"), captured("delete"), captured("query")
    assert (answer.command, answer.from_tag, answer.to_tag) == ("answer", "callee", "caller")
    assert (delete.command, delete.from_tag, delete.to_tag, delete.sdp) == ("delete", "caller", None, None)
    assert (query.command, query.to_tag) == ("query", "callee")


SAME = ("replace", "rtcp_mux", "flags", "ice", "transport_protocol", "label", "direction", "media_address", "tos")
SAME += ("controls", "codec", "sdes")
FLAG_STRING = (
    "replace-origin replace-session-connection ICE=remove RTP/AVP rtcp-mux-demux rtcp-mux-offer trust-address "
    "media-address=192.0.2.4 via-branch=auto label=x direction=a direction=b TOS=184 strict-source asymmetric "
    "denoise=on denoise-level=80 delete-delay=5"
)


def test_the_same_flags_in_one_string_mean_the_same() -> None:
    offer, packed = captured("full"), request(rtpp_flags=FLAG_STRING, via_branch="z9hG4bK-full")
    for name in (*SAME, "via_branch", "delete_delay_s"):
        assert getattr(packed, name) == getattr(offer, name), name


def test_the_same_flags_in_a_list_mean_the_same() -> None:
    offer, listed = captured("full"), request(flags=FLAG_STRING.split())
    for name in SAME:
        assert getattr(listed, name) == getattr(offer, name), name


def test_the_proxy_resolves_via_branch_and_tags_so_a_flag_string_cannot_set_them() -> None:
    packed = request(rtpp_flags="via-branch=auto from-tag=evil call-id=evil sdp=evil command=delete to-tag")
    assert (packed.command, packed.via_branch, packed.from_tag, packed.call_id, packed.sdp) == (
        "offer",
        None,
        None,
        None,
        None,
    )
    assert packed.flags == {"to-tag"}


def test_flags_inside_flags_are_not_followed() -> None:
    assert request(flags=["flags=" * 9000 + "x", "rtpp-flags=asymmetric"]).flags == frozenset()


def test_kamailios_tos_of_minus_one_says_nothing() -> None:
    assert request(TOS=-1).tos is None and request(TOS="-1").tos is None


def test_an_empty_value_says_nothing() -> None:
    assert request(rtpp_flags="denoise= label= TOS= media-address= direction=", to_tag="", tos="") == request()


def test_a_key_said_openly_overrides_the_flag_string() -> None:
    both = request(label="open", direction=["c", "d"], rtpp_flags="label=packed direction=a direction=b")
    assert (both.label, both.direction) == ("open", ("c", "d"))


def test_bracketed_lists_of_a_flag_string_are_taken_whole() -> None:
    packed = request(rtpp_flags="codec-mask=[opus G722] codec-transcode=PCMU sdp-attr=[audio=[add=[x y]]] asymmetric")
    assert packed.codec == {"mask": ("opus", "G722"), "transcode": ("PCMU",)}
    assert packed.flags == {"asymmetric"}
    assert set(packed.extra) == {"sdp-attr"}


def test_codec_flags_are_unescaped() -> None:
    assert request(flags=["codec-transcode-opus/48000/2////useinbandfec--1;maxptime..20"]).codec == {
        "transcode": ("opus/48000/2////useinbandfec=1;maxptime 20",)
    }


@pytest.mark.parametrize(
    ("words", "transport"),
    [
        ("RTP/AVP", "RTP/AVP"),
        ("SRTP AVPF", "RTP/SAVPF"),
        ("RTP AVP", "RTP/AVP"),
        ("DTLS AVPF", "UDP/TLS/RTP/SAVPF"),
        ("DTLS SRTP AVPF", "UDP/TLS/RTP/SAVPF"),
        ("DTLS", "UDP/TLS/RTP/SAVP"),
        ("UDP/TLS/RTP/SAVPF", "UDP/TLS/RTP/SAVPF"),
        ("RTP/SAVP AVPF", "RTP/SAVPF"),
        ("trust-address", None),
    ],
)
def test_transport_words_add_up(words: str, transport: str | None) -> None:
    assert request(rtpp_flags=words).transport_protocol == transport
    assert request(flags=words.split()).transport_protocol == transport


@pytest.mark.parametrize("spelling", ["delete delay", "delete-delay", "delete_delay", "Delete-Delay"])
def test_keys_are_known_in_every_spelling(spelling: str) -> None:
    assert ng.parse(b"c " + bencode.encode({"command": "delete", spelling: "7"})).delete_delay_s == 7


def test_flags_are_brought_into_one_spelling() -> None:
    assert request(flags=["trust address", "media handover", "RTCP_mux_demux"]) == request(
        flags=["Trust-Address", "media-handover"], rtcp_mux=["demux"]
    )


def test_interfaces_may_be_named_one_by_one() -> None:
    assert request(from_interface="in", to_interface="out").direction == ("in", "out")
    assert request(direction=["in"]).direction == ("in",)
    assert "from-interface" in wrong(to_interface="out")


def test_opensips_spellings_are_understood() -> None:
    offer = request(**{"address family": "IP6", "replace": ["zero address", "SDP version"], "received-from": []})
    assert (offer.address_family, offer.received_from) == ("IP6", None)
    assert offer.replace == {"zero-address", "sdp-version"}


@pytest.mark.parametrize("form", [["IP4", "192.0.2.9"], "IP4 192.0.2.9", "192.0.2.9"])
def test_received_from_comes_as_a_list_or_a_string(form: object) -> None:
    assert request(received_from=form).received_from == "192.0.2.9"


def test_ipv6_addresses_are_read_with_and_without_brackets() -> None:
    assert request(media_address="[2001:DB8::1]").media_address == "2001:db8::1"
    assert request(received_from=["IP6", "2001:db8::2"]).received_from == "2001:db8::2"


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"denoise": "maybe"}, "denoise must be on, off, both or none, not 'maybe'"),
        ({"denoise_level": "101"}, "denoise-level must be a whole number 0..100, not '101'"),
        ({"denoise_level": "-1"}, "denoise-level must be a whole number 0..100"),
        ({"denoise_level": "\u0661"}, "denoise-level must be a whole number 0..100"),
        ({"denoise_music": "loud"}, "denoise-music must be pass or suppress, not 'loud'"),
        ({"denoise_bypass": "yes"}, "denoise-bypass must be auto, on or off, not 'yes'"),
        ({"denoise_model": "../../etc/passwd"}, "denoise-model must be a model's name"),
        ({"denoise_levle": "3"}, "'denoise-levle' is no control"),
        ({"TOS": 256}, "tos must be a whole number 0..255, not 256"),
        ({"delete_delay": "soon"}, "delete-delay must be a whole number"),
        ({"media_address": "pbx.example.com"}, "media-address must be a numeric address, not 'pbx.example.com'"),
        ({"received_from": ["IP4", "pbx"]}, "received-from must be a numeric address"),
        ({"received_from": ["IP6", "fe80::1%" + "x" * 60_000]}, "received-from must be a numeric address"),
        ({"address_family": "IP5"}, "address-family must be IP4 or IP6"),
        ({"direction": ["a", "b", "c"]}, "direction takes two"),
        ({"flags": {"a": "b"}}, "flags must be a string"),
        ({"call_id": ["x"]}, "call-id must be a string"),
        ({"call_id": b"\xff"}, "call-id must be UTF-8"),
        ({"flags": [b"\xff"]}, "flags must be UTF-8"),
        ({"codec": "PCMU"}, "codec must be a dictionary of lists"),
        ({"command": ""}, "the key command is missing"),
    ],
)
def test_a_wrong_value_is_answered_with_what_would_be_right(keys: dict[str, object], reason: str) -> None:
    assert reason in wrong(**keys)


def test_controls_are_read_wherever_they_stand() -> None:
    expected = ng.Controls(denoise="off", level=0, music="pass", model="standard-2.1", bypass="on")
    words = ["denoise=off", "denoise-level=0", "denoise-music=pass", "denoise-model=standard-2.1", "denoise-bypass=on"]
    assert request(flags=words).controls == expected
    assert request(rtpp_flags=" ".join(words)).controls == expected
    assert request(**dict(word.split("=") for word in words)).controls == expected


def test_an_sdp_that_is_no_utf8_stays_byte_for_byte() -> None:
    raw = b"v=0\r\ns=caf\xe9\r\n"
    sdp = request(sdp=raw).sdp
    assert sdp is not None
    assert bencode.encode(sdp) == b"%d:%s" % (len(raw), raw)


def test_json_is_answered_in_json_and_bencode_in_bencode() -> None:
    assert ng.reply(ng.parse(b'1 {"command":"ping"}'), ng.pong()) == b'1 {"result":"pong"}'
    assert ng.reply(ng.parse(b"2 d7:command4:pinge\n"), ng.pong()) == b"2 d6:result4:ponge"


def test_json_means_the_same_as_bencode() -> None:
    keys = {"command": "offer", "call-id": "a", "flags": ["trust-address"], "TOS": 184, "replace": ["origin"]}
    one, other = ng.parse(b"c " + json.dumps(keys).encode()), ng.parse(b"c " + bencode.encode(keys))
    assert (one.flags, one.tos, one.replace, one.call_id) == (other.flags, other.tos, other.replace, other.call_id)


@pytest.mark.parametrize(
    "body",
    [
        b"d7:command4:ping",
        b"d" * 5000,
        b"d7:command99999:pinge",
        b"{",
        b'{"command":"ping"} x',
        b'{"command":NaN}',
        b'{"command":"ping","x":' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"command":' + b"9" * 5000 + b"}",
        b'{"command":"ping","call-id":"\\ud800"}',
        b"de",
        b"{}",
    ],
)
def test_a_broken_message_is_answered_with_its_cookie_and_encoding(body: bytes) -> None:
    with pytest.raises(ng.NgRequestError) as caught:
        ng.parse(b"12_34 " + body)
    cookie, _, rest = caught.value.reply().partition(b" ")
    reply = bencode.decode(rest) if body.startswith(b"d") else json.loads(rest)
    assert cookie == b"12_34"
    assert isinstance(reply, dict)
    assert reply["result"] == "error"
    assert reply["error-reason"] == str(caught.value) != ""


@pytest.mark.parametrize(
    "datagram", [b"", b" ", b"cookie", b"cookie ", b" d7:command4:pinge", b"c [1]", b"c i1e", b"c" * 300 + b" de"]
)
def test_garbage_without_cookie_or_dictionary_is_dropped(datagram: bytes) -> None:
    with pytest.raises(ng.NgGarbageError):
        ng.parse(datagram)


KEYS = st.sampled_from(
    [
        "command",
        "call-id",
        "from-tag",
        "flags",
        "replace",
        "rtcp-mux",
        "SDES",
        "direction",
        "codec",
        "ICE",
        "TOS",
        "rtpp-flags",
        "received-from",
        "media-address",
        "delete-delay",
        "denoise",
        "denoise-level",
        "sdp",
        "transport-protocol",
        "from-interface",
    ]
) | st.text(max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def survives(datagram: bytes) -> None:
    try:
        ng.reply(ng.parse(datagram), ng.ok())
    except ng.NgRequestError as error:
        assert error.reply().startswith(error.cookie + b" ")
    except ng.NgGarbageError:
        pass


@given(st.binary(max_size=200), st.sampled_from([b"", b"c ", b"c d", b"c {", b"c d7:command5:offer"]))
def test_arbitrary_bytes_are_answered_or_dropped(data: bytes, start: bytes) -> None:
    survives(start + data)


@given(st.dictionaries(KEYS, JSON, max_size=6))
def test_arbitrary_json_is_answered(message: dict[str, object]) -> None:
    survives(b"c " + json.dumps({"command": "offer"} | message).encode())


@given(st.text("ab=[]- ,;/RTPAVSDLcodecmaskflg\n", max_size=80))
def test_arbitrary_flag_strings_are_answered(words: str) -> None:
    survives(b"c " + bencode.encode({"command": "offer", "rtpp-flags": words, "flags": words.split(" ")}))


def test_a_hostile_flag_string_is_read_in_linear_time() -> None:
    survives(b"c " + bencode.encode({"command": "offer", "rtpp-flags": "a=[" + "[" * 30000}))
    survives(b"c " + bencode.encode({"command": "offer", "rtpp-flags": "a=[b] " * 9000}))


def test_a_retransmission_gets_the_stored_reply() -> None:
    cache = ng.ReplyCache()
    assert cache.begin(SOURCE, b"1", now=0.0) is ng.Progress.NEW
    assert cache.begin(SOURCE, b"1", now=0.1) is ng.Progress.IN_PROGRESS
    cache.finish(SOURCE, b"1", b"reply", now=0.2)
    assert cache.begin(SOURCE, b"1", now=30.0) == b"reply"
    assert cache.begin(("192.0.2.2", 5000), b"1", now=30.0) is ng.Progress.NEW
    assert cache.begin(SOURCE, b"1", now=30.3) is ng.Progress.NEW


def test_a_request_without_reply_may_be_tried_again() -> None:
    cache = ng.ReplyCache()
    cache.begin(SOURCE, b"1", now=0.0)
    cache.forget(SOURCE, b"1")
    assert cache.begin(SOURCE, b"1", now=0.1) is ng.Progress.NEW
    assert cache.begin(SOURCE, b"1", now=31.0) is ng.Progress.NEW, "one that hangs is forgotten in time"


def test_the_reply_cache_is_bounded_in_count_and_bytes() -> None:
    cache = ng.ReplyCache(limit=100, limit_bytes=10_000)
    for number in range(1000):
        cookie = b"%d" % number
        cache.begin(SOURCE, cookie, now=0.0)
        cache.finish(SOURCE, cookie, b"x" * 50, now=0.0)
        assert len(cache) <= 101
    assert cache.begin(SOURCE, b"999", now=0.0) == b"x" * 50
    cache.finish(SOURCE, b"big", b"x" * 9_990, now=0.0)
    assert cache.begin(SOURCE, b"big", now=0.0) == b"x" * 9_990
    assert len(cache) == 1


RTP_HEADER = bytes.fromhex("80600001000000a00000004d")


@pytest.mark.parametrize("cookie", [b"", b"c" * 256, b"c\x00", b"c\n", b"c\t1", b"\x7f", b"caf\xe9", RTP_HEADER])
def test_what_no_proxy_takes_for_a_cookie_is_garbage(cookie: bytes) -> None:
    with pytest.raises(ng.NgGarbageError):
        ng.parse(cookie + b" d7:command4:pinge")


@pytest.mark.parametrize("cookie", [b"7_1234567890_42", b"0.4711", b"f47ac10b-58cc-4372", b"c" * 255])
def test_cookies_of_proxies_and_other_clients_are_taken(cookie: bytes) -> None:
    assert ng.parse(cookie + b" d7:command4:pinge").cookie == cookie
