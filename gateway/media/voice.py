"""From payload to clean payload: decode, conceal, denoise, delay, mix, encode.

Works on waves: packets of one codec and one size, at most one a slot. Every leg that was ever to be denoised carries
one constant content delay, the engine's; wet, dry and bypassed audio all have it, so that no switch loses or repeats
a sample. Dry audio is the sender's own bytes, late by that delay: a stream of bytes with a tail kept a slot. Whether a
frame is wet or dry is for `detect` to say, which hears what came in.
"""

import numpy as np
import numpy.typing as npt

from gateway.denoise.engine import Engine, Floats, Ints, RemoteEngine, Result, Ticket
from gateway.detect.ear import Ear
from gateway.detect.policy import Codes
from gateway.errors import EngineError
from gateway.media.codecs import Codec
from gateway.media.legs import Legs
from gateway.media.wave import Heard, Wave, mix, survivors
from gateway.messages import DETECTORS, Reason
from gateway.protocol.stream_packet import MAX_FRAMES

Bytes = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]

FADE_FRAMES = 2
"""Length of a cross-fade between wet and dry, in frames of 10 ms."""
WARM_FRAMES = 10
"""Frames an engine row hears dry before it is faded in, when it has missed a part of the stream."""
CONCEAL_FRAMES = 6
"""A longer gap is not concealed: the engine's row is reset."""
SILENT_FRAMES = 6000
"""A pause of a minute; what was heard before a longer one does not matter any more."""
CONCEAL_DECAY = 0.7
"""What a concealed frame keeps of the one before it, in amplitude."""


class Voice:
    """Audio state of every leg of a worker."""

    def __init__(self, legs: Legs, engines: dict[int, Engine]) -> None:
        n = legs.slots
        self._legs, self._engines = legs, engines
        self.remotes = {rate: engine for rate, engine in engines.items() if isinstance(engine, RemoteEngine)}
        self._epochs = dict.fromkeys(self.remotes, 0)
        self.ear = Ear(n)
        self.last_codec = np.full(n, -1, np.int64)
        self.expected_timestamp = np.zeros(n, np.int64)
        self.tail = np.zeros((n, max(self.tail_bytes(codec) for codec in legs.codecs)), np.uint8)
        """The end of the payload, not sent yet; see `tail_bytes`."""
        self.tail_pcm = np.zeros((n, max(self._tail_samples(codec) for codec in legs.codecs)), np.float32)
        """The last samples, decoded, the newest at the end of the row; kept while the engine runs on the row."""
        self.wet = np.zeros(n, np.float32)
        """Share of denoised audio in what left last, 0..1."""
        self.warming = np.zeros(n, np.int64)
        """Frames until the row may be faded in; the engine already hears it."""
        self.running = np.zeros(n, np.bool_)
        """The engine has heard the stream up to its last packet."""
        self.shed = np.zeros(n, np.bool_)
        """Dry because the worker is too busy."""
        self.faulty: dict[int, str] = {}
        """Rates whose engine has failed, and why; `DETECTORS` stands for the detectors."""
        self.frames_wet = np.zeros(n, np.int64)
        self.frames_dry = np.zeros(n, np.int64)
        self.reason = np.zeros(n, np.uint8)
        """Why the last frame was dry: a `Reason`."""
        self.totals = np.zeros(len(Reason), np.int64)
        """Frames of all legs since the start, by `Reason`; those that were denoised have none."""
        self.latches: list[int] = []
        """Legs that the detectors have latched, for the caller to take."""
        self.codes = np.zeros((n, MAX_FRAMES), np.uint8)
        """`Reason` of each frame of the last packet, of legs with notes; beside it what the network heard."""
        self.probabilities = np.zeros((n, MAX_FRAMES, 4), np.float32)
        self.total_spoilt = 0
        """Rows that the network gave no numbers for."""

    def open_leg(self, slot: int) -> None:
        """Zero the row."""
        self.last_codec[slot] = -1
        for column in (self.expected_timestamp, self.tail, self.tail_pcm, self.wet, self.warming):
            column[slot] = 0
        for column in (self.frames_wet, self.frames_dry):
            column[slot] = 0
        self.reason[slot] = Reason.NONE
        self.ear.open_leg(slot)
        self.running[slot] = self.shed[slot] = False

    def process(
        self, codec_index: int, slots: Ints, timestamps: Ints, gaps: Ints, fresh: Bools, payload: Bytes
    ) -> Bytes:
        """The payloads that leave for those that came: `begin` and `finish` at once."""
        return self.finish(self.begin(codec_index, slots, timestamps, gaps, fresh, payload))

    def begin(self, codec_index: int, slots: Ints, timestamps: Ints, gaps: Ints, fresh: Bools, payload: Bytes) -> Wave:
        """Take packets up to the engine. A slot's wave is to be finished before its next one begins.

        slots: int64 [n], unique; timestamps: int64 [n], as received; gaps: int64 [n], packets missing before each;
        fresh: bool [n], first of a new source; payload: uint8 [n, bytes].
        """
        codec = self._legs.codecs[codec_index]
        self._mourn(codec.rate)
        frames, rest = divmod(payload.shape[1], codec.frame_bytes)
        self._follow(codec_index, codec, slots, timestamps, gaps, fresh, payload.shape[1])
        dry = self._delay(codec, slots, payload)
        if rest or codec.rate not in self._engines:
            self._rest(slots, frames, np.full(len(slots), Reason.FAULT, np.uint8))
            return Wave(dry, np.zeros(len(slots), np.bool_))
        self._latch_calls()
        hear = self._wanted(slots) | (self.wet[slots] > 0)
        if hear.all():
            return Wave(dry, hear, self._hand_over(codec, slots, payload))
        self._rest(slots[~hear], frames, self._why(slots[~hear]))
        return Wave(dry, hear, self._hand_over(codec, slots[hear], payload[hear]) if hear.any() else None)

    def finish(self, wave: Wave, due_s: float = np.inf) -> Bytes:
        """The payloads that leave, uint8 [n, bytes]; waits for the engine, at most until due_s or its deadline."""
        dry, hear, heard = wave.dry, wave.hear, wave.heard
        if heard is None:
            return dry
        result = self._take(heard.codec.rate, heard.slots, heard.ticket, due_s)
        alive = self._legs.generation[heard.slots] == heard.generations
        if not alive.all():
            hear = hear.copy()
            hear[hear] = alive
            heard, result = survivors(heard, result, alive)
        if hear.all():
            return self._denoise(heard, result, dry)
        if hear.any():
            dry[hear] = self._denoise(heard, result, dry[hear])
        return dry

    def _mourn(self, rate: int) -> None:
        """A remote engine has lost its rows, of whatever leg."""
        engine = self.remotes.get(rate)
        if engine is not None and engine.epoch != self._epochs[rate]:
            self._epochs[rate] = engine.epoch
            own = [index for index, codec in enumerate(self._legs.codecs) if codec.rate == rate]
            self.running[np.isin(self.last_codec, own)] = False

    def _wanted(self, slots: Ints) -> Bools:
        """Rows to be denoised unless a detector objects."""
        wanted: Bools = self._legs.wanted[slots] & ~self.shed[slots] & ~self._latched(slots)
        return wanted

    def _latched(self, slots: Ints) -> Bools:
        """`bypass: off` overrides what the detectors have latched."""
        latched: Bools = self.ear.policy.latched[slots] & self._legs.detecting[slots]
        return latched

    def _why(self, slots: Ints) -> Codes:
        """The `Reason` of rows that are not wanted."""
        latched, shed = self._latched(slots), self.shed[slots]
        why: Codes = np.select([latched, shed], [np.uint8(Reason.FAX), np.uint8(Reason.LOAD)], np.uint8(Reason.ASKED))
        return why

    def _rest(self, slots: Ints, frames: int, why: Codes) -> None:
        """Rows that neither engine nor ear hears."""
        self.running[slots] = False
        self.wet[slots] = 0.0
        self.ear.skip(slots, np.full(len(slots), frames))
        if frames:
            self._count(slots, np.repeat(why[:, None], frames, axis=1), None)

    def _follow(
        self, index: int, codec: Codec, slots: Ints, timestamps: Ints, gaps: Ints, fresh: Bools, size: int
    ) -> None:
        """Notice where a stream does not go on from its last packet, and mend its memory."""
        step = timestamps - self.expected_timestamp[slots]
        changed = (self.last_codec[slots] != index) | fresh
        broken = ((step & 0xFFFFFFFF) != 0) | changed
        self.expected_timestamp[slots] = timestamps + size * self.units(codec) // codec.frame_bytes
        if not broken.any():
            return
        missing = ((step[broken] + 0x80000000) & 0xFFFFFFFF) - 0x80000000
        frames = -(-missing // self.units(codec))
        concealed = (gaps[broken] > 0) & (frames > 0) & (frames <= CONCEAL_FRAMES) & ~changed[broken]
        lost = slots[broken][concealed]
        self.ear.skip(lost, frames[concealed])
        for count in np.unique(frames[concealed]).tolist():
            self._conceal(codec, lost[frames[concealed] == count], count)
        self._restart(index, codec, slots[broken][~concealed], frames[~concealed])

    @staticmethod
    def units(codec: Codec) -> int:
        """RTP clock units in 10 ms; G.722's clock is 8 kHz (RFC 3551 section 4.5.2)."""
        return 80 if codec.name == "G722" else codec.rate // 100

    def _restart(self, index: int, codec: Codec, slots: Ints, frames: Ints) -> None:
        """A new source, a new codec, or sound after silence: the old tail never opens it."""
        if not len(slots):
            return
        self._lead_ear(slots, frames)
        other = slots[self.last_codec[slots] != index]
        if len(other):
            codec.reset(other)
        self.last_codec[slots] = index
        self.tail[slots, : self.tail_bytes(codec)] = codec.silence
        self.tail_pcm[slots] = 0.0
        long = slots[(frames < 0) | (frames > CONCEAL_FRAMES)] if not len(other) else slots
        self._start_engine(codec, long, warm=0)

    def _lead_ear(self, slots: Ints, frames: Ints) -> None:
        """Silence was not sent: time goes on; a step back or a long one is another source."""
        on = (frames >= 0) & (frames <= SILENT_FRAMES)
        self.ear.skip(slots[on], frames[on])
        self.ear.forget(slots[~on])

    def _start_engine(self, codec: Codec, slots: Ints, warm: int) -> None:
        engine = self._engines.get(codec.rate)
        if engine is None or not len(slots):
            return
        engine.reset(slots)
        self.warming[slots] = warm
        self.running[slots] = True
        self.wet[slots] = 0.0

    def _conceal(self, codec: Codec, slots: Ints, frames: int) -> None:
        """Let the engine and the tails live through so many lost frames: the last one repeated, fading.

        Rows that the engine does not hear have no decoded tail; they repeat the bytes of theirs.
        """
        slots = slots[self.running[slots]]
        if not len(slots):
            return
        hop, tail = codec.rate // 100, self.tail_bytes(codec)
        steps = np.arange(1, frames + 1, dtype=np.float32)
        fading = self.tail_pcm[slots, None, -hop:] * (CONCEAL_DECAY**steps)[None, :, None]
        pcm = fading.reshape(len(slots), -1)
        self._keep(codec, slots, pcm)
        stream = np.concatenate([self.tail[slots, :tail], codec.encode(slots, pcm)], axis=1)
        self.tail[slots, :tail] = stream[:, stream.shape[1] - tail :]
        ticket = self._submit(codec.rate, slots, fading, np.full(len(slots), frames))
        if codec.rate not in self.remotes:  # whose answer comes with that to the packets that follow
            self._take(codec.rate, slots, ticket)

    def tail_bytes(self, codec: Codec) -> int:
        """Delay of the content in payload bytes: the engine's, and what coding it anew takes (G.722: 1.4 ms)."""
        engine = self._engines.get(codec.rate)
        hop = codec.rate // 100
        return (engine.delay if engine else hop) * codec.frame_bytes // hop + codec.coding_bytes

    def _tail_samples(self, codec: Codec) -> int:
        """Samples to keep: the engine's delay for mixing, a frame for concealing."""
        engine = self._engines.get(codec.rate)
        return max(engine.delay if engine else 0, codec.rate // 100)

    def _keep(self, codec: Codec, slots: Ints, pcm: Floats) -> None:
        """Make the end of float32 [n, samples] the decoded tail."""
        keep, fresh = self._tail_samples(codec), pcm.shape[1]
        if fresh < keep:
            pcm = np.concatenate([self.tail_pcm[slots, fresh - keep :], pcm], axis=1)
        self.tail_pcm[slots, -keep:] = pcm[:, -keep:]

    def _delay(self, codec: Codec, slots: Ints, payload: Bytes) -> Bytes:
        """The sender's bytes, late by as much as denoised audio on legs that carry the delay; always a copy."""
        size, tail = payload.shape[1], self.tail_bytes(codec)
        late = self._legs.delayed[slots]
        if not late.any():
            return payload.copy()
        stream = np.concatenate([self.tail[slots, :tail], payload], axis=1)
        self.tail[slots, :tail] = stream[:, size:]
        return stream[:, :size] if late.all() else np.where(late[:, None], stream[:, :size], payload)

    def _hand_over(self, codec: Codec, slots: Ints, payload: Bytes) -> Heard:
        """Decode for the engine, and give it the frames."""
        self._start_engine(codec, slots[~self.running[slots]], warm=WARM_FRAMES)
        pcm = codec.decode(slots, payload)
        frames = pcm.reshape(len(slots), -1, codec.rate // 100)
        ticket = self._submit(codec.rate, slots, frames, np.full(len(slots), frames.shape[1]))
        return Heard(codec, slots, self._legs.generation[slots], pcm, ticket)

    def _denoise(self, heard: Heard, result: Result | None, dry: Bytes) -> Bytes:
        """Denoised payloads; `dry` where nothing of the denoised audio is heard."""
        codec, slots, pcm = heard.codec, heard.slots, heard.pcm
        frames = pcm.reshape(len(slots), -1, codec.rate // 100)
        codes = self._listen(codec, slots, frames)
        if result is None:
            codes[codes == Reason.NONE] = Reason.FAULT
        dried = np.flatnonzero(codes.any(axis=1) | (self.wet[slots] < 1.0))
        late = self._late(codec, slots[dried], pcm[dried])
        self._keep(codec, slots, pcm)
        self._count(slots, codes, result)
        if result is None:
            return dry
        clean = result.frames
        if len(dried):
            clean[dried], unheard = self._mixed(slots[dried], late, clean[dried], codes[dried])
        out = codec.encode(slots, clean.reshape(len(slots), -1))
        if len(dried) and not codec.predictive:  # else passing bytes would click at every change; `_rest` does it once
            part = out[dried].reshape(*unheard.shape, -1)
            part[unheard] = dry[dried].reshape(part.shape)[unheard]
            out[dried] = part.reshape(len(dried), -1)
        return out

    def _mixed(self, slots: Ints, late: Floats, clean: Floats, codes: Codes) -> tuple[Floats, Bools]:
        """Frames with their cross-fades, float32 [n, k, hop], and those that have nothing denoised, bool [n, k]."""
        before, after = self._fade(slots, codes == Reason.NONE)
        return mix(late.reshape(clean.shape), clean, before, after), (before == 0.0) & (after == 0.0)

    def _listen(self, codec: Codec, slots: Ints, frames: Floats) -> Codes:
        """The `Reason` of each frame, uint8 [n, k], by what was heard before; the detectors get these frames."""
        codes = np.zeros(len(slots), np.uint8)
        wanted = self._wanted(slots)
        if not wanted.all():
            codes[~wanted] = self._why(slots[~wanted])
        hear = wanted & self._legs.detecting[slots]
        if hear.any():
            rows = slice(None) if hear.all() else np.flatnonzero(hear)
            heard = slots[rows]
            codes[rows] = self.ear.verdicts(heard)
            self.ear.take(heard, frames[rows], codec.rate, self._legs.control[heard, 1] > 0)
        if not hear.all():
            self.ear.skip(slots[~hear], np.full(int((~hear).sum()), frames.shape[1]))
        return np.repeat(codes[:, None], frames.shape[1], axis=1)

    def listen(self) -> None:
        """Let the detectors hear what they have been given."""
        self.ear.listen()
        self._latch_calls()

    def _latch_calls(self) -> None:
        """A fax at one end of a call is a fax at the other."""
        if self.ear.fault:
            self.faulty[DETECTORS] = self.ear.fault
        else:
            self.faulty.pop(DETECTORS, None)
        while self.ear.latches:
            slot = self.ear.latches.pop()
            self.latches.append(slot)
            others = self._legs.peer == slot
            others[self._legs.peer[slot]] |= self._legs.peer[slot] >= 0
            self.ear.latch(np.flatnonzero(others))

    def _late(self, codec: Codec, slots: Ints, pcm: Floats) -> Floats:
        """What came in, float32 [n, samples], as late as the engine makes it."""
        delay = self._engines[codec.rate].delay
        stream = np.concatenate([self.tail_pcm[slots, self.tail_pcm.shape[1] - delay :], pcm], axis=1)
        return stream[:, : pcm.shape[1]]

    def _count(self, slots: Ints, codes: Codes, result: Result | None) -> None:
        """codes: uint8 [n, k]"""
        frames = min(codes.shape[1], MAX_FRAMES)
        if self._legs.noted[slots].any():
            self.codes[slots, :frames] = codes[:, :frames]
            self.probabilities[slots, :frames] = 0.0 if result is None else result.probabilities[:, :frames]
        wet = (codes == Reason.NONE).sum(axis=1)
        self.frames_wet[slots] += wet
        self.frames_dry[slots] += codes.shape[1] - wet
        self.reason[slots] = codes[:, -1]
        self.totals += np.bincount(codes.ravel(), minlength=len(Reason))

    def _submit(self, rate: int, slots: Ints, frames: Floats, counts: Ints) -> Ticket | None:
        """None when the engine cannot: the audio goes on dry."""
        try:
            return self._engines[rate].submit(slots, frames, counts, self._legs.control[slots])
        except EngineError as error:
            self._fail(rate, slots, error)
            return None

    def _take(self, rate: int, slots: Ints, ticket: Ticket | None, due_s: float = np.inf) -> Result | None:
        """The engine's answer, or None when it has failed or is late: the audio goes on dry."""
        if ticket is None:
            return None
        try:
            result = self._engines[rate].collect(ticket, due_s)
        except EngineError as error:
            self._fail(rate, slots, error)
            return None
        self.faulty.pop(rate, None)
        if result is None:  # late, but the engine has heard these frames
            self.wet[slots] = 0.0
        elif not np.isfinite(result.frames.sum()):
            self._quarantine(rate, slots, result.frames)
        return result

    def _fail(self, rate: int, slots: Ints, error: EngineError) -> None:
        self.faulty[rate] = str(error)
        self.running[slots] = False
        self.wet[slots] = 0.0

    def _quarantine(self, rate: int, slots: Ints, clean: Floats) -> None:
        """Rows that are no numbers go dry and start afresh; their neighbours do not notice."""
        bad = ~np.isfinite(clean.sum(axis=(1, 2)))
        clean[bad] = 0.0
        self.total_spoilt += int(bad.sum())
        self._engines[rate].reset(slots[bad])
        self.wet[slots[bad]] = 0.0
        self.warming[slots[bad]] = WARM_FRAMES

    def _fade(self, slots: Ints, wanted: Bools) -> tuple[Floats, Floats]:
        """Share of wet at the beginning and the end of each frame: float32 [n, k] each. wanted: bool [n, k]"""
        frames, warming = wanted.shape[1], self.warming[slots]
        course = np.empty((len(slots), frames + 1), np.float32)
        course[:, 0] = self.wet[slots]
        for k in range(frames):
            step = np.where(wanted[:, k], (warming <= k) / FADE_FRAMES, -1 / FADE_FRAMES)
            course[:, k + 1] = np.clip(course[:, k] + step, 0.0, 1.0)
        self.warming[slots] = np.maximum(warming - frames, 0)
        self.wet[slots] = course[:, -1]
        return course[:, :-1], course[:, 1:]
