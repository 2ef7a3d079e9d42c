"""RTCP between the parties: reports keep their meaning end to end although SSRC, numbers and times are ours.

A sender's report is about the stream that we send on under our own SSRC and offsets; a receiver's report is about the
stream that we sent it, and means the one that came in. RTCP of raw legs is relayed as it is.
"""

from typing import NamedTuple

from gateway.errors import PeerError
from gateway.media.legs import RAW
from gateway.media.pipeline import Pipeline
from gateway.protocol import rtcp, rtp


class Forward(NamedTuple):
    """A datagram to send to the party of a slot."""

    slot: int
    datagram: bytes
    mux: bool


class RtcpRelay:
    """Maps RTCP by the state of the streams that it speaks of."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    def forward(self, slot: int, datagram: bytes) -> Forward | None:
        """What of a datagram goes to the other party; garbage is counted and dropped."""
        legs, streams = self._pipeline.legs, self._pipeline.streams
        out = int(legs.peer[slot])
        if out < 0 or out not in legs.specs:
            return None
        mux = legs.specs[out].rtcp_mux
        if legs.kind[slot] == RAW:
            return Forward(out, datagram, mux)
        try:
            mapped = rtcp.rewrite(
                datagram, self._sender(slot, out), self._reporter(slot), default_ssrc=int(streams.out_ssrc[out])
            )
        except PeerError:
            streams.errors[slot] += 1
            streams.count("dropped_rtcp")
            return None
        return Forward(out, mapped, mux) if mapped else None

    def _sender(self, slot: int, out: int) -> dict[int, rtcp.SenderMap]:
        """The party's own stream, as we send it on."""
        streams, pipeline = self._pipeline.streams, self._pipeline
        ssrc = int(streams.ssrc[slot])
        if ssrc < 0 or streams.fed_by[out] != slot:
            return {}
        packets = int(pipeline.packets_out[out])
        offset = int(streams.timestamp_offset[slot]) + self._delay_units(slot)
        octets = max(0, int(pipeline.bytes_out[out]) - packets * rtp.HEADER_BYTES)
        return {ssrc: rtcp.SenderMap(int(streams.out_ssrc[out]), offset, packets, octets)}

    def _reporter(self, slot: int) -> dict[int, rtcp.ReportMap]:
        """The stream that the party receives, as it came to us."""
        streams = self._pipeline.streams
        feeder = int(streams.fed_by[slot])
        if feeder < 0 or streams.ssrc[feeder] < 0:
            return {}
        ours = int(streams.out_ssrc[slot])
        return {ours: rtcp.ReportMap(int(streams.ssrc[feeder]), int(streams.sequence_offset[feeder]))}

    def _delay_units(self, slot: int) -> int:
        """The content delay in units of the stream's RTP clock: the sound of a timestamp leaves so much later."""
        pipeline = self._pipeline
        codec = int(pipeline.voice.last_codec[slot])
        if not pipeline.legs.delayed[slot] or codec < 0:
            return 0
        known = pipeline.legs.codecs[codec]
        return pipeline.voice.units(known) * pipeline.voice.tail_bytes(known) // known.frame_bytes
