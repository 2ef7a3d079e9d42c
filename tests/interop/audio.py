"""What the phones say, as pcap files that sipp plays, and how what arrives is measured.

G.711 goes through libsndfile here, so that the gateway's own tables are tested against another implementation.
"""

import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import soundfile

from tests.interop.recorder import Rtp

RECORDINGS = Path(__file__).resolve().parents[1] / "audio"
RATE, PACKET = 8000, 160
EVENT_TYPE = 101
PAUSE_DB, SPEECH_DB = -60.0, 20.0
"""Pauses: 100 ms around lies below this, full scale. Speech: frames at most this far below the loudest."""
SETTLE_S = 1.0
"""Not measured: a network of any kind has to hear the noise first."""


def encode(samples: np.ndarray) -> bytes:
    """PCMU of float samples."""
    out = io.BytesIO()
    soundfile.write(out, samples, RATE, format="RAW", subtype="ULAW")
    return out.getvalue()


def decode(payload: bytes) -> np.ndarray:
    """Float samples of PCMU."""
    samples, _ = soundfile.read(
        io.BytesIO(payload), channels=1, samplerate=RATE, format="RAW", subtype="ULAW", dtype="float64"
    )
    return samples


@dataclass(frozen=True)
class Talk:
    """One party's side of a call: noisy speech, the clean speech under it, and the packets that carry it."""

    noisy: np.ndarray
    clean: np.ndarray
    ssrc: int
    first_sequence: int
    first_timestamp: int

    @classmethod
    def of(cls, seconds: float, rotate_s: float, ssrc: int) -> "Talk":
        """The recordings in tests/audio from `rotate_s` on, beginning again at their end."""
        cut = int(seconds * RATE) // PACKET * PACKET
        noisy, clean = (
            np.roll(soundfile.read(RECORDINGS / f"{name}_8k.wav")[0], -int(rotate_s * RATE))[:cut]
            for name in ("noisy", "clean")
        )
        return cls(noisy, clean, ssrc, first_sequence=65500, first_timestamp=(1 << 32) - 8000)

    @cached_property
    def payload(self) -> bytes:
        return encode(self.noisy)

    def part(self, begin_s: float, end_s: float) -> "Talk":
        """A stretch of it, with the sequence numbers as if nothing had been sent in between."""
        begin, end = (int(second * RATE) // PACKET * PACKET for second in (begin_s, end_s))
        timestamp = self.first_timestamp + begin
        return replace(self, noisy=self.noisy[begin:end], clean=self.clean[begin:end], first_timestamp=timestamp)

    def later(self, packets: int) -> "Talk":
        """The same, after so many packets of the stream have gone."""
        return replace(self, first_sequence=self.first_sequence + packets)

    def packets(self) -> list[bytes]:
        return [
            rtp(0, index == 0, self.first_sequence + index, self.first_timestamp + offset, self.ssrc, chunk)
            for index, offset in enumerate(range(0, len(self.payload), PACKET))
            if (chunk := self.payload[offset : offset + PACKET])
        ]

    def with_digit(self, digit: int, at_packet: int, lasting: int = 8) -> list[bytes]:
        """The packets, with a telephone-event (RFC 4733) in the place of `lasting` of them and its two repetitions."""
        packets = self.packets()
        timestamp = self.first_timestamp + at_packet * PACKET
        for number in range(lasting):
            ended = number >= lasting - 3
            duration = min(number + 1, lasting - 2) * PACKET
            event = struct.pack("!BBH", digit, 0x80 * ended + 10, duration)
            sequence = self.first_sequence + at_packet + number
            packets[at_packet + number] = rtp(EVENT_TYPE, number == 0, sequence, timestamp, self.ssrc, event)
        return packets


def rtp(payload_type: int, marker: bool, sequence: int, timestamp: int, ssrc: int, payload: bytes) -> bytes:
    second = payload_type | 0x80 * marker
    return struct.pack("!BBHII", 0x80, second, sequence % 65536, timestamp % (1 << 32), ssrc) + payload


def write_pcap(path: Path, packets: Sequence[bytes], interval_s: float = 0.02) -> Path:
    """A pcap file (Ethernet, IPv4, UDP) of one packet every 20 ms; sipp puts in addresses and ports."""
    records = [struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)]
    for index, packet in enumerate(packets):
        udp = struct.pack("!HHHH", 6000, 6000, len(packet) + 8, 0) + packet
        ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, len(udp) + 20, index, 0, 64, 17, 0, b"\x7f\0\0\1", b"\x7f\0\0\1")
        frame = bytes(12) + b"\x08\x00" + ip + udp
        seconds, part = divmod(round(index * interval_s * 1e6), 1_000_000)
        records += [struct.pack("=IIII", 1 + seconds, part, len(frame), len(frame)), frame]
    path.write_bytes(b"".join(records))
    return path


def two_talks(directory: Path, seconds: float) -> tuple[list[Talk], list[Path]]:
    """What alice and bob say to each other, and the pcap files of it."""
    talks = [Talk.of(seconds, 0.5, ssrc=0xA11CE), Talk.of(seconds, 7.0, ssrc=0xB0B)]
    return talks, [write_pcap(directory / f"{talk.ssrc:x}.pcap", talk.packets()) for talk in talks]


def payload_of(packets: Sequence[Rtp], payload_type: int = 0) -> bytes:
    return b"".join(packet.payload for packet in packets if packet.payload_type == payload_type)


@dataclass(frozen=True)
class Measured:
    pause_before_db: float
    pause_after_db: float
    speech_clean_db: float
    speech_after_db: float

    @property
    def noise_reduction_db(self) -> float:
        return self.pause_before_db - self.pause_after_db

    @property
    def speech_change_db(self) -> float:
        return self.speech_after_db - self.speech_clean_db


def measure(talk: Talk, received: bytes, delay: int) -> Measured:
    """Levels of a recording in the pauses and in the speech of the clean reference, dB full scale.

    received: PCMU from the talk's first sample on; delay: samples that the gateway holds back.
    """
    after = decode(received)[delay:]
    length = min(len(after), len(talk.clean)) // PACKET * PACKET
    frames = {
        "clean": talk.clean[:length].reshape(-1, PACKET),
        "before": talk.noisy[:length].reshape(-1, PACKET),
        "after": after[:length].reshape(-1, PACKET),
    }
    level = level_db(frames["clean"][:, :], axis=1)
    around = np.max(np.lib.stride_tricks.sliding_window_view(np.pad(level, 5, mode="edge"), 11), axis=1)
    counted = np.arange(len(level)) >= SETTLE_S * RATE / PACKET
    pauses, speech = counted & (around < PAUSE_DB), counted & (level > level.max() - SPEECH_DB)
    return Measured(
        level_db(frames["before"][pauses]),
        level_db(frames["after"][pauses]),
        level_db(frames["clean"][speech]),
        level_db(frames["after"][speech]),
    )


def level_db(samples: np.ndarray, axis: int | None = None):
    return 10 * np.log10(np.mean(np.square(samples), axis=axis) + 1e-12)
