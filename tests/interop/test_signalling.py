"""What happens to the media when the signalling is more than INVITE, 200 and BYE."""

import re
from pathlib import Path

import pytest

from tests.interop import audio, phones
from tests.interop.audio import Talk, write_pcap
from tests.interop.peers import Site
from tests.interop.phones import pause, play, recv, reply, sdp
from tests.interop.recorder import unbroken

DELAY = 80
UNTOUCHED = "denoise-level=0"
"""Every byte can be told again, and all but the engine's work is done."""


RACE_MS = 100
"""Media that overtakes the ACK with its answer is a stranger's and dropped: no SDP has named its sender yet."""


def delayed(heard: bytes, said: bytes) -> bool:
    """The same bytes, later by the engine's delay; what begins the stretch is left open."""
    return len(heard) == len(said) and heard[DELAY:] == said[:-DELAY]


def test_early_media_is_heard_and_goes_on_after_the_answer(site: Site):
    network, early_s, answered_s = site.network, 1.5, 1.5
    whole = Talk.of(early_s + answered_s, 7.0, ssrc=0xB0B)
    early, later = stretches(whole, [(0, early_s), (early_s, early_s + answered_s)])
    pcaps = pcaps_of(site, "early", [early, later])
    alice = write_pcap(site.directory / "alice.pcap", Talk.of(answered_s, 0.5, ssrc=0xA11CE).packets())
    callee = [recv("INVITE", routes=True), reply("183 Session Progress", sdp()), play(pcaps[0]), pause(early_s * 1000)]
    callee += [reply("200 OK", sdp()), recv("ACK"), play(pcaps[1]), *phones.hung_up()]
    recorder = phones.place_call(site, phones.caller(alice, answered_s, UNTOUCHED), callee)
    (answered_at,) = {d.at_s for d in recorder.to(network.alice, 5060) if is_answer(d.payload)}
    heard = recorder.rtp(network.gateway, network.alice)
    assert sum(packet.at_s < answered_at for packet in heard) >= len(early.packets()) - 3
    assert not list(unbroken(heard))
    assert delayed(audio.payload_of(heard), whole.payload)


def is_answer(message: bytes) -> bool:
    return message.startswith(b"SIP/2.0 200") and b"INVITE\r\n" in message


HOLDS = {"sendonly": sdp("sendonly", 2), "0.0.0.0": sdp("sendrecv", 2, address="0.0.0.0")}


@pytest.mark.parametrize("way", HOLDS)
def test_a_held_call_goes_on_where_it_stopped(site: Site, way: str):
    """sendonly: the holder's music reaches the held party. 0.0.0.0 (RFC 2543): nobody sends."""
    network, music = site.network, way == "sendonly"
    before, held, after = (0.0, 1.2), (1.6, 2.4), (2.8, 4.0)
    alice = stretches(Talk.of(4.0, 0.5, 0xA11CE), [before, held, after] if music else [before, after])
    bob = stretches(Talk.of(4.0, 7.0, 0xB0B), [before, after])
    a, b = (pcaps_of(site, name, talks) for name, talks in (("held-a", alice), ("held-b", bob)))
    caller = [*phones.invite(sdp(), UNTOUCHED), *phones.answered(), *phones.talking(a[0], 1.2)]
    caller += [*phones.reinvite(2, HOLDS[way]), *(phones.talking(a[1], 0.8) if music else [pause(800)])]
    caller += [*phones.reinvite(3, sdp("sendrecv", 3)), *phones.talking(a[-1], 1.2), *phones.hang_up(4)]
    callee = [recv("INVITE", routes=True), reply("200 OK", sdp()), recv("ACK"), play(b[0])]
    for direction in ("recvonly" if music else "inactive", "sendrecv"):
        callee += [recv("INVITE"), reply("200 OK", sdp(direction, 2), tag=False), recv("ACK")]
    recorder = phones.place_call(site, caller, [*callee, play(b[1]), *phones.hung_up()])

    for said, receiver in ((alice, network.bob), (bob, network.alice)):
        heard = recorder.rtp(network.gateway, receiver)
        assert not list(unbroken(heard))
        for stretch in said:
            part, heard = heard[: len(stretch.packets())], heard[len(stretch.packets()) :]
            assert delayed(audio.payload_of(part), stretch.payload)
            assert part[0].marker
    offers = recorder.sip(network.proxy, network.bob, "INVITE ")
    ports = [re.search(r"^m=audio (\d+) ", offer, re.MULTILINE).group(1) for offer in offers]
    assert len(ports) == 3 and len(set(ports)) == 1
    assert ("a=sendonly" in offers[1]) == music
    assert site.calls() == []


def stretches(talk: Talk, spans: list[tuple[float, float]]) -> list[Talk]:
    """Parts of a talk, with the sequence numbers of one stream that was silent in between."""
    parts: list[Talk] = []
    for span in spans:
        parts.append(talk.part(*span).later(sum(len(part.packets()) for part in parts)))
    return parts


def pcaps_of(site: Site, name: str, talks: list[Talk]) -> list[Path]:
    """A file for each."""
    return [write_pcap(site.directory / f"{name}{n}.pcap", talk.packets()) for n, talk in enumerate(talks)]


def test_of_two_phones_that_ring_the_one_that_answers_is_heard(site: Site):
    network, early_s, seconds = site.network, 1.0, 2.0
    alice, bob, carol = Talk.of(seconds, 0.5, 0xA11CE), Talk.of(early_s, 7.0, 0xB0B), Talk.of(seconds, 3.0, 0xCA201)
    files = pcaps_of(site, "fork", [alice, bob, carol])
    rings = [recv("INVITE", routes=True), reply("183 Session Progress", sdp()), play(files[1])]
    rings += [recv("CANCEL"), reply("200 OK", tag=False), phones.terminated(), recv("ACK")]
    answers = [recv("INVITE", routes=True), reply("180 Ringing"), pause(early_s * 1000 + 300), reply("200 OK", sdp())]
    answers += [recv("ACK"), play(files[2]), *phones.hung_up()]
    recorder = phones.place_call(site, phones.caller(files[0], seconds, UNTOUCHED), rings, second=answers)
    ports = set()
    for callee in (network.bob, network.carol):
        (offer,) = recorder.sip(network.forking_proxy, callee, "INVITE ")
        ports |= set(re.findall(r"^m=audio (\d+) ", offer, re.MULTILINE))
    assert len(ports) == 2, "each branch has its own port"
    heard = recorder.rtp(network.gateway, network.alice)
    assert len(heard) == len(bob.packets()) + len(carol.packets())
    assert delayed(audio.payload_of(heard[: len(bob.packets())]), bob.payload)
    assert delayed(audio.payload_of(heard[len(bob.packets()) :]), carol.payload)
    assert not list(unbroken(heard))
    assert delayed(audio.payload_of(recorder.rtp(network.gateway, network.carol)), alice.payload)
    assert not recorder.rtp(network.gateway, network.bob)
    assert site.calls() == []


def test_a_caller_who_gives_up_leaves_nothing_behind(site: Site):
    callee = [recv("INVITE", routes=True), reply("180 Ringing"), recv("CANCEL"), reply("200 OK", tag=False)]
    callee += [phones.terminated(), recv("ACK")]
    caller = [*phones.invite(sdp()), recv(100, optional=True), recv(180), pause(300), phones.cancel()]
    caller += [recv(200), recv(487), phones.give_up()]
    phones.place_call(site, caller, callee)
    assert site.calls() == []


def test_the_offer_may_come_with_the_answer(site: Site):
    """An INVITE without SDP: the callee offers in its 200, the caller answers in its ACK."""
    seconds = 1.5
    talks, pcaps = audio.two_talks(site.directory, seconds)
    caller = [*phones.invite("", UNTOUCHED), *(recv(code, optional=True) for code in (100, 180, 183))]
    caller += [recv(200, routes=True), phones.in_dialog("ACK", 1, sdp())]
    caller += [pause(RACE_MS), *phones.talking(pcaps[0], seconds)]
    recorder = phones.place_call(site, [*caller, *phones.hang_up()], phones.callee(pcaps[1]))
    network = site.network
    for talk, receiver in zip(talks, (network.bob, network.alice), strict=True):
        assert delayed(audio.payload_of(recorder.rtp(network.gateway, receiver)), talk.payload)
    assert site.calls() == []


def test_what_the_gateway_refuses_runs_without_it(site: Site):
    """SRTP is not built: the offer gets an error, Kamailio logs it and leaves the SDP alone."""
    secure = sdp().replace("RTP/AVP", "RTP/SAVP")
    callee = [recv("INVITE", routes=True), reply("200 OK", secure), recv("ACK"), *phones.hung_up()]
    caller = [*phones.invite(secure), *phones.answered(), pause(200), *phones.hang_up()]
    recorder = phones.place_call(site, caller, callee)
    (offer,) = recorder.sip(site.network.proxy, site.network.bob, "INVITE ")
    assert f"c=IN IP4 {site.network.alice}" in offer
    assert "not built yet" in next(process for process in site.processes if "kamailio" in process.name).tail()
    assert site.calls() == []
