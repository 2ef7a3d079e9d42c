"""The tests' own tools, held against Debian's rtpengine: what fails here is no fault of the gateway."""

from tests.interop import audio, phones
from tests.interop.audio import Talk
from tests.interop.peers import NG_PORT, Site
from tests.interop.recorder import unbroken

SECONDS = 3.0


def test_a_plain_relay_delivers_every_payload_byte(rtpengine_site: Site):
    site, network = rtpengine_site, rtpengine_site.network
    talks, pcaps = audio.two_talks(site.directory, SECONDS)
    recorder = phones.place_call(site, phones.caller(pcaps[0], SECONDS), phones.callee(pcaps[1]))
    ways = ((network.alice, network.bob), (network.bob, network.alice))
    for talk, (sender, receiver) in zip(talks, ways, strict=True):
        assert audio.payload_of(recorder.rtp(sender, network.gateway)) == talk.payload
        received = recorder.rtp(network.gateway, receiver)
        assert not list(unbroken(received))
        assert audio.payload_of(received) == talk.payload


def test_kamailio_passes_our_words_on_in_offer_and_answer(rtpengine_site: Site):
    site, network = rtpengine_site, rtpengine_site.network
    _, pcaps = audio.two_talks(site.directory, 0.2)
    controls = "denoise=off denoise-level=35"
    recorder = phones.place_call(site, phones.caller(pcaps[0], 0.2, controls), phones.callee(pcaps[1]))
    asked = [d.payload for d in recorder.to(network.gateway, NG_PORT) if b"3:sdp" in d.payload]
    assert len(asked) == 2
    assert all(b"7:denoise3:off" in each and b"13:denoise-level2:35" in each for each in asked)
    (offer,) = recorder.sip(network.proxy, network.bob, "INVITE ")
    assert "X-Denoise" not in offer


def test_measuring_finds_the_noise_that_was_taken_away():
    talk = Talk.of(6.0, 0.0, ssrc=1)
    measured = audio.measure(talk, audio.encode(talk.clean + 0.1 * (talk.noisy - talk.clean)), delay=0)
    assert 17 < measured.noise_reduction_db < 21
    assert abs(measured.speech_change_db) < 0.5
