"""One call through Kamailio with everything that must not be denoised: digits, hold music, and then a fax."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest

from tests.interop import audio, phones
from tests.interop.audio import PACKET, RATE, Talk
from tests.interop.peers import ADMIN_PORT, Site, http_json
from tests.interop.recorder import Rtp, unbroken
from tests.tonelab import compare, judges, material, signals
from tests.tonelab.levels import at_level

DELAY = 80
DIGITS, EVENT = "159#0D", 5
FAX_S, MODEM_S = 4.0, 2.0


@dataclass
class Parts:
    """What alice sends, and where in it each part lies, in samples."""

    talk: Talk
    places: dict[str, slice]

    @classmethod
    def make(cls) -> "Parts":
        speech = Talk.of(3.0, 0.5, ssrc=0xA11CE)
        music = next(material.excerpts(material.hold_music(), 6.0))[1]
        rng = np.random.default_rng(4)
        parts = {
            "speech": speech.noisy,
            "digits": signals.around(signals.dtmf(DIGITS, on_ms=50, off_ms=50), 100, 100),
            "music": music,
            "pause": np.zeros(RATE // 2, np.float32),
            "fax": signals.ansam(FAX_S * 1000),
            "modem": at_level(rng.standard_normal(int(MODEM_S * RATE)).astype(np.float32), -20),
        }
        places, at = {}, 0
        for name, part in parts.items():
            size = len(part) // PACKET * PACKET
            places[name], at = slice(at, at + size), at + size
        sound = np.concatenate([part[: len(part) // PACKET * PACKET] for part in parts.values()])
        return cls(replace(speech, noisy=sound, clean=sound), places)


@dataclass
class Heard:
    """Both ends of the call, and what the gateway told of it."""

    parts: Parts
    sent: list[Rtp]
    received: list[Rtp]
    query: dict

    def before(self, name: str) -> np.ndarray:
        return audio.decode(self.parts.talk.payload)[self.parts.places[name]].astype(np.float32)

    def after(self, name: str) -> np.ndarray:
        """The same stretch at the far side, the gateway's delay taken off."""
        place = self.parts.places[name]
        return audio.decode(self.stream())[place.start + DELAY : place.stop + DELAY].astype(np.float32)

    def stream(self) -> bytes:
        """What bob received, silence in the place of events: they are no audio."""
        return b"".join(packet.payload if packet.payload_type == 0 else b"\xff" * PACKET for packet in self.received)

    def events(self) -> list[dict]:
        streams = [media["streams"][0] for tag in self.query["tags"].values() for media in tag["medias"]]
        return [event for stream in streams for event in stream["denoise"]["events"]]


@pytest.fixture(scope="module")
def heard(site: Site) -> Iterator[Heard]:
    """Alice sends it all, bob answers with speech."""
    if lacking := [judge.missing() for judge in (judges.SPANDSP_DTMF, judges.MULTIMON_DTMF) if judge.missing()]:
        pytest.skip("; ".join(lacking))
    if not material.hold_music():
        pytest.skip("no hold music: apt-get install asterisk-moh-opsound-wav")
    parts = Parts.make()
    seconds = len(parts.talk.noisy) / RATE
    pcaps = [site.directory / f"signals-{name}.pcap" for name in ("alice", "bob")]
    packets = parts.talk.packets()
    at = parts.places["music"].stop // PACKET  # in the pause: an event takes the place of silence
    packets[at : at + 8] = parts.talk.with_digit(EVENT, at)[at : at + 8]
    audio.write_pcap(pcaps[0], packets)
    audio.write_pcap(pcaps[1], Talk.of(seconds, 7.0, ssrc=0xB0B).packets())
    told: dict = {}

    def look(recorder) -> None:
        gateway, bob = site.network.gateway, site.network.bob
        site.until(lambda: len(recorder.rtp(gateway, bob)) > len(packets) - 40, "the call nears its end", 24)
        call_id = site.calls()[0]["call-id"]
        told.update(http_json(f"http://{gateway}:{ADMIN_PORT}/calls/{call_id}"))

    steps = phones.caller(pcaps[0], seconds), phones.callee(pcaps[1])
    recorder = phones.place_call(site, *steps, during=look)
    network = site.network
    ways = recorder.rtp(network.alice, network.gateway), recorder.rtp(network.gateway, network.bob)
    yield Heard(parts, *ways, told)


def test_nothing_is_lost_of_it(heard: Heard):
    assert len(heard.received) == len(heard.sent)
    assert not list(unbroken(heard.received))


def test_the_speech_before_is_denoised(heard: Heard):
    assert heard.after("speech")[RATE:].std() < heard.before("speech")[RATE:].std() * 0.98


@pytest.mark.parametrize("judge", [judges.SPANDSP_DTMF, judges.MULTIMON_DTMF], ids=lambda judge: judge.package)
def test_digits_in_the_audio_are_decoded_at_the_far_side(heard: Heard, judge: judges.Judge):
    assert judge.hear(heard.before("digits")) == DIGITS
    assert judge.hear(heard.after("digits")) == DIGITS


def test_digits_as_events_arrive_byte_for_byte(heard: Heard):
    events = [
        [packet.payload for packet in packets if packet.payload_type == audio.EVENT_TYPE]
        for packets in (heard.sent, heard.received)
    ]
    assert len(events[0]) == 8 and events[0] == events[1]


def test_hold_music_keeps_its_loudness(heard: Heard):
    music = compare.music(heard.before("music"), heard.after("music"), 0, RATE)
    assert abs(music.loudness_db) <= 1.0, music


def test_the_answer_tone_is_recognised_with_its_reversals_and_the_modem_after_it_passes_bit_for_bit(heard: Heard):
    assert judges.SPANDSP_TONES.hear(heard.after("fax")) == judges.SPANDSP_TONES.hear(heard.before("fax"))
    place = heard.parts.places["modem"]
    assert (
        heard.stream()[place.start + DELAY : place.stop] == heard.parts.talk.payload[place.start : place.stop - DELAY]
    )


def test_all_of_it_is_told(heard: Heard):
    kinds = [event["kind"] for event in heard.events()]
    assert kinds.count("dtmf") == len(DIGITS) and kinds.count("event") == 1
    assert "music" in kinds
    assert {event["value"] for event in heard.events() if event["kind"] == "fax"} <= {"ansam", "ansam-reversed"}
    assert all(event["value"] == "" for event in heard.events() if event["kind"] in ("dtmf", "event"))
    assert heard.query["denoise"]["latched"] == 1
