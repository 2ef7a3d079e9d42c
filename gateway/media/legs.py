"""What each leg is, as arrays indexed by slot.

The control plane describes a leg with a `LegSpec`; this table turns it into the rows that the packet path looks things
up in: which leg sends out what this one receives, which codec a payload type means, what the denoiser shall do.
"""

import numpy as np

from gateway.media.codecs import Codec
from gateway.messages import Kind, LegSpec, Payload

OTHER = -1
"""A payload type whose audio we do not understand: relayed untouched."""
COMFORT_NOISE = -2
"""RFC 3389."""
EVENT = -3
"""RFC 4733 telephone-event."""

FREE, AUDIO, RAW = 0, 1, 2

SPECIAL = {"CN": COMFORT_NOISE, "TELEPHONE-EVENT": EVENT}


class Legs:
    """Rows of all legs of one worker."""

    def __init__(self, slots: int, codecs: dict[tuple[str, int], Codec]) -> None:
        self.slots = slots
        self.codecs = list(codecs.values())
        self._codec_index = {key: index for index, key in enumerate(codecs)}
        self.specs: dict[int, LegSpec] = {}
        self.generation = np.full(slots, -1, np.int64)
        self.kind = np.zeros(slots, np.int8)
        self.peer = np.full(slots, -1, np.int64)
        self.muxed = np.zeros(slots, np.bool_)
        """RTCP shares the RTP port of the leg's party."""
        self.codec = np.full((slots, 128), OTHER, np.int8)
        self.clock_hz = np.full((slots, 128), 8000, np.int64)
        self.out_payload_type = np.tile(np.arange(128, dtype=np.int64), (slots, 1))
        self.delayed = np.zeros(slots, np.bool_)
        """The leg has once been denoised: its content is late by the engine's delay for the rest of its life."""
        self.wanted = np.zeros(slots, np.bool_)
        """The denoiser shall work on what is received here."""
        self.detecting = np.zeros(slots, np.bool_)
        """Detectors decide what is left alone (`bypass: auto`)."""
        self.control = np.zeros((slots, 2), np.float32)
        """The engine's `control`: smallest gain, keep music."""
        self.noted = np.zeros(slots, np.bool_)
        """Packets carry notes: a stream that ends in the control plane."""
        self.opened = np.zeros(slots, np.int64)
        """Grows with every leg: the newest legs are the first to be shed."""
        self._serial = 0

    def open(self, spec: LegSpec) -> None:
        """Begin a leg in a freed row."""
        self.close(spec.slot)
        self._serial += 1
        self.opened[spec.slot] = self._serial
        self.generation[spec.slot] = spec.generation
        self.update(spec)

    def update(self, spec: LegSpec) -> None:
        """Take over a changed description."""
        slot = spec.slot
        self.specs[slot] = spec
        self.kind[slot] = AUDIO if spec.kind is Kind.AUDIO else RAW
        self.peer[slot] = spec.peer
        self.muxed[slot] = spec.rtcp_mux
        self._map_payloads(slot, spec.payloads)
        self.delayed[slot] |= spec.denoise
        self.wanted[slot] = spec.denoise and spec.level > 0 and spec.bypass != "on"
        self.detecting[slot] = spec.bypass == "auto"
        self.noted[slot] = spec.noted
        self.control[slot] = smallest_gain(spec.level), float(spec.keep_music)

    def close(self, slot: int) -> None:
        """Free the row."""
        self.specs.pop(slot, None)
        self.generation[slot] = -1
        self.kind[slot] = FREE
        self.peer[slot] = -1
        self._map_payloads(slot, ())
        self.delayed[slot] = False
        self.wanted[slot] = False
        self.noted[slot] = False

    def holds(self, slot: int, generation: int) -> bool:
        """Whether the lease is the row's present one."""
        return 0 <= slot < self.slots and bool(self.generation[slot] == generation)

    def _map_payloads(self, slot: int, payloads: tuple[Payload, ...]) -> None:
        self.codec[slot] = OTHER
        self.clock_hz[slot] = 8000
        self.out_payload_type[slot] = np.arange(128)
        for payload in payloads:
            number = payload.payload_type & 127
            self.codec[slot, number] = self._codec_of(payload)
            self.clock_hz[slot, number] = payload.clock_hz
            self.out_payload_type[slot, number] = payload.out_payload_type & 127

    def _codec_of(self, payload: Payload) -> int:
        if payload.codec in SPECIAL:
            return SPECIAL[payload.codec]
        if payload.channels != 1:
            return OTHER
        return self._codec_index.get((payload.codec, payload.clock_hz), OTHER)


def smallest_gain(level: int) -> float:
    """The attenuation limit of a denoise level as a linear gain: 0.3 dB a step, 0 is 1.0, 100 has no limit."""
    return 0.0 if level >= 100 else float(10 ** (-0.3 * level / 20))
