"""A phone call through Kamailio and the gateway: both hear the other without the noise, and nothing else is lost."""

import os
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest

from tests.interop import audio, phones
from tests.interop.audio import PACKET, RATE, Talk
from tests.interop.peers import Site
from tests.interop.recorder import Recorder, Rtp, gaps_s, unbroken

DELAY = 80
"""Samples that the engine holds back, and so bytes of PCMU: 10 ms."""
SECONDS = 10.0
SHORT_S = 3.0


@dataclass
class Call:
    """What was said, and what went over the wire."""

    site: Site
    talks: list[Talk]
    recorder: Recorder
    listed: list[dict] = field(default_factory=list)
    """The gateway's calls while this one ran."""

    def ways(self) -> Iterator[tuple[Talk, list[Rtp], list[Rtp]]]:
        """Each party's talk, the packets it sent, and the packets that reached the other party."""
        network = self.site.network
        ways = ((network.alice, network.bob), (network.bob, network.alice))
        for talk, (sender, receiver) in zip(self.talks, ways, strict=True):
            yield talk, self.recorder.rtp(sender, network.gateway), self.recorder.rtp(network.gateway, receiver)


def converse(site: Site, seconds: float, controls: str = "") -> Call:
    """A call in which both talk at the same time."""
    talks, pcaps = audio.two_talks(site.directory, seconds)
    listed: list[dict] = []

    def look(recorder: Recorder) -> None:
        site.until(lambda: len(recorder.rtp(site.network.gateway, site.network.alice)) > 50, "alice hears bob", 20)
        listed.extend(site.calls())

    steps = phones.caller(pcaps[0], seconds, controls), phones.callee(pcaps[1])
    return Call(site, talks, phones.place_call(site, *steps, during=look), listed)


@pytest.fixture(scope="module")
def denoised(site: Site) -> Call:
    """A call with the controls that the example configuration gives to every call."""
    return converse(site, SECONDS)


def test_each_packet_becomes_one_packet_of_one_continuous_stream(site: Site, denoised: Call):
    for talk, sent, received in denoised.ways():
        assert len(sent) == len(talk.packets())
        assert len(received) == len(sent)
        assert not list(unbroken(received))
        assert {packet.payload_type for packet in received} == {0}
        steps = [np.diff([packet.timestamp for packet in packets]) % (1 << 32) for packets in (sent, received)]
        assert np.array_equal(*steps)


def test_both_hear_less_noise_and_the_same_speech(site: Site, denoised: Call):
    for talk, _, received in denoised.ways():
        measured = audio.measure(talk, audio.payload_of(received), DELAY)
        assert measured.noise_reduction_db >= 10, measured
        assert abs(measured.speech_change_db) <= 2, measured


def test_the_sdp_of_both_names_our_ports(site: Site, denoised: Call):
    network, recorder = site.network, denoised.recorder
    (offer,) = recorder.sip(network.proxy, network.bob, "INVITE ")
    answer = next(text for text in recorder.sip(network.proxy, network.alice, "SIP/2.0 200") if "1 INVITE" in text)
    for text, (_, sent, _) in zip((answer, offer), denoised.ways(), strict=True):
        assert f"c=IN IP4 {network.gateway}" in text
        port = int(re.search(r"^m=audio (\d+) RTP/AVP 0 101\r$", text, re.MULTILINE).group(1))
        assert 30000 <= port <= 30999 and port % 2 == 0
        assert port in {d.destination[1] for d in recorder.datagrams if d.destination[0] == network.gateway} and sent


def test_bye_frees_everything(site: Site, denoised: Call):
    assert len(denoised.listed) == 1
    assert site.calls() == []
    assert site.ng.ask({"command": "list", "limit": "10"})["calls"] == []


def test_denoise_off_relays_every_payload_byte(site: Site):
    for talk, _, received in converse(site, SHORT_S, "denoise=off").ways():
        assert not list(unbroken(received))
        assert audio.payload_of(received) == talk.payload


def test_denoise_level_0_is_the_sender_delayed_by_the_engine(site: Site):
    for talk, _, received in converse(site, SHORT_S, "denoise-level=0").ways():
        assert not list(unbroken(received))
        heard = audio.payload_of(received)
        assert len(heard) == len(talk.payload)
        assert heard[DELAY:] == talk.payload[:-DELAY]


def test_a_digit_passes_among_the_speech(site: Site):
    first, lasting = 60, 8
    (alice, _), pcaps = audio.two_talks(site.directory, SHORT_S)
    audio.write_pcap(pcaps[0], alice.with_digit(5, first, lasting))
    recorder = phones.place_call(site, phones.caller(pcaps[0], SHORT_S), phones.callee(pcaps[1]))
    sent = recorder.rtp(site.network.alice, site.network.gateway)
    received = recorder.rtp(site.network.gateway, site.network.bob)
    assert not list(unbroken(received))
    events = [[packet for packet in packets if packet.payload_type == audio.EVENT_TYPE] for packets in (sent, received)]
    assert len(events[1]) == lasting
    assert [packet.payload for packet in events[1]] == [packet.payload for packet in events[0]]
    assert [packet.marker for packet in events[1]] == [True] + [False] * (lasting - 1)
    shift = (received[0].timestamp - sent[0].timestamp) % (1 << 32)
    assert {(after.timestamp - before.timestamp) % (1 << 32) for before, after in zip(*events, strict=True)} == {shift}


def test_a_killed_worker_is_heard_as_a_short_silence(site: Site):
    network, seconds = site.network, 6.0
    talks, pcaps = audio.two_talks(site.directory, seconds)
    killed = []

    def kill(recorder: Recorder) -> None:
        site.until(lambda: len(recorder.rtp(network.gateway, network.bob)) > 100, "bob hears two seconds", 20)
        killed.append(site.media_pid())
        os.kill(killed[0], signal.SIGKILL)

    steps = phones.caller(pcaps[0], seconds), phones.callee(pcaps[1])
    call = Call(site, talks, phones.place_call(site, *steps, during=kill))
    for _, sent, received in call.ways():
        silence_s = gaps_s(received).max() - PACKET / RATE
        assert 0 < silence_s <= 0.3
        assert len(sent) - len(received) <= 0.3 * RATE / PACKET
        assert received[-1].payload[DELAY:] != received[-2].payload[DELAY:]
        assert received[-1].at_s - sent[-1].at_s < 0.1
    assert site.media_pid() != killed[0]
    assert site.calls() == []
