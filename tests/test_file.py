"""The `file` command's engine room: a recording through the packets, codec and engine of a call."""

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import soundfile

from gateway.config import Config, DenoiseConfig, EngineConfig
from gateway.denoise.engine import Result
from gateway.denoise.passthrough import PassthroughEngine
from gateway.errors import CallerError, EngineError
from gateway.file import denoise_file, denoise_pcm
from gateway.measure import change_db, frame_levels_db
from gateway.outage import Outage

AUDIO = Path(__file__).parent / "audio"
PASSTHROUGH = Config(engine=EngineConfig(kind="passthrough"))


def nothing(seconds: float) -> None:
    """Nobody watches the progress."""


def through(pcm: np.ndarray, rate_hz: int, codec: str = "L16", **controls) -> np.ndarray:
    engines = {rate: PassthroughEngine(rate, 2 * pcm.shape[1]) for rate in (8000, 16000)}
    return denoise_pcm(pcm, rate_hz, codec, DenoiseConfig(**controls), engines, nothing)


def whole_samples(n: int, channels: int, amplitude: float = 0.3) -> np.ndarray:
    """Noise of 16-bit samples."""
    noise = np.random.default_rng(n).uniform(-amplitude, amplitude, (n, channels))
    return (np.rint(noise * 32768) / 32768).astype(np.float32)


@pytest.mark.parametrize("samples", [1, 79, 80, 160, 8000, 8001, 12345])
@pytest.mark.parametrize("rate_hz", [8000, 16000])
def test_an_engine_that_changes_nothing_gives_the_same_samples(samples, rate_hz):
    pcm = whole_samples(samples, 1)
    assert np.array_equal(through(pcm, rate_hz), pcm)


def test_channels_do_not_mix():
    pcm = whole_samples(4000, 3)
    pcm[:, 1] = 0.0
    assert np.array_equal(through(pcm, 8000), pcm)


def test_level_0_leaves_the_audio_alone():
    pcm = whole_samples(4000, 2)
    assert np.array_equal(through(pcm, 16000, level=0), pcm)


@pytest.mark.parametrize("rate_hz", [11025, 22050, 44100, 48000])
def test_any_rate_keeps_length_and_time(rate_hz):
    t = np.arange(rate_hz, dtype=np.float64) / rate_hz
    tone = (0.3 * np.sin(2 * np.pi * 700 * t) * np.sin(np.pi * t)).astype(np.float32)[:, None]
    back = through(tone, rate_hz)
    assert back.shape == tone.shape
    assert np.abs(back - tone).max() < 0.003


@pytest.mark.parametrize("controls", [{}, {"level": 0}, {"denoise": "none"}], ids=["wet", "dry", "off"])
@pytest.mark.parametrize(("codec", "least_db"), [("PCMU", 33.0), ("PCMA", 33.0), ("G722", 25.0)])
def test_a_codec_is_heard_in_its_place(codec, least_db, controls):
    clean, rate_hz = soundfile.read(AUDIO / "clean_8k.wav", dtype="float32", always_2d=True)
    back = through(clean[:32000], rate_hz, codec, **controls)
    error = back - clean[:32000]
    difference = 10 * np.log10(np.sum(clean[:32000] ** 2) / np.sum(error**2))
    assert least_db < difference < 60


def test_an_empty_recording_stays_empty():
    assert through(np.zeros((0, 2), np.float32), 44100).shape == (0, 2)


@pytest.mark.parametrize(
    ("name", "subtype"), [("x.wav", "PCM_24"), ("x.wav", "FLOAT"), ("x.flac", "PCM_16"), ("x.wav", "ULAW")]
)
def test_a_file_keeps_rate_channels_length_and_sample_type(tmp_path, name, subtype):
    soundfile.write(tmp_path / name, whole_samples(22050, 2), 22050, subtype=subtype)
    report = denoise_file(tmp_path / name, tmp_path / f"out_{name}", PASSTHROUGH, "L16", nothing)
    before, after = soundfile.info(tmp_path / name), soundfile.info(tmp_path / f"out_{name}")
    assert (after.samplerate, after.channels, after.frames, after.subtype) == (22050, 2, 22050, subtype)
    assert before.format == after.format
    assert report.seconds == 1.0


def test_not_a_number_is_silence_not_a_crash(tmp_path):
    pcm = whole_samples(1600, 1)
    pcm[800:810] = np.nan
    pcm[900] = np.inf
    soundfile.write(tmp_path / "x.wav", pcm, 8000, subtype="FLOAT")
    denoise_file(tmp_path / "x.wav", tmp_path / "y.wav", PASSTHROUGH, "L16", nothing)
    assert np.isfinite(soundfile.read(tmp_path / "y.wav")[0]).all()


def test_progress_adds_up_to_the_recording(tmp_path):
    told: list[float] = []
    soundfile.write(tmp_path / "x.wav", np.zeros(8000), 8000)
    denoise_file(tmp_path / "x.wav", tmp_path / "y.wav", PASSTHROUGH, "L16", told.append)
    assert sum(told) == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("fallback", ["none", "ort"])
def test_without_triton_a_recording_is_refused_unless_something_takes_its_place(tmp_path, monkeypatch, fallback):
    monkeypatch.setattr("gateway.file.CONNECT_PATIENCE_S", 0.0)  # so nobody is asked
    soundfile.write(tmp_path / "x.wav", whole_samples(1600, 1), 8000)
    config = Config(engine=EngineConfig(kind="triton", endpoints=("127.0.0.1:1",), fallback=fallback))
    target = tmp_path / "y.wav"
    if fallback == "none":
        with pytest.raises(CallerError, match=r"Triton at 127\.0\.0\.1:1: .*; start that server, name another in "):
            denoise_file(tmp_path / "x.wav", target, config, "L16", nothing)
    else:
        denoise_file(tmp_path / "x.wav", target, config, "L16", nothing)
    assert target.exists() == (fallback == "ort")


class Failing(PassthroughEngine):
    """Does what its plan says of a batch, by number; a batch is a packet of 20 ms."""

    def __init__(self, rate: int, slots: int, plan: dict[int, str]) -> None:
        super().__init__(rate, slots)
        self.plan = plan

    def submit(self, slots, frames, counts, control):
        if self.plan.get(self._batch_id) == "dead":
            raise EngineError("Triton at 10.0.0.9:8001: UNAVAILABLE")  # and the next batch is the same one again
        return super().submit(slots, frames, counts, control)

    def collect(self, ticket, deadline):
        result, plan = super().collect(ticket, deadline), self.plan.get(ticket.batch_id - 1)
        if plan == "broken":
            raise EngineError("the network failed")
        frames = np.full_like(result.frames, np.nan) if plan == "spoilt" else result.frames
        return None if plan == "late" else Result(frames, result.probabilities)


def outage_of(plan: dict[int, str], seconds: float = 2.0, rate_hz: int = 8000, **controls) -> Outage:
    """With nothing left dry but for the engine."""
    engines = {rate: Failing(rate, 2, plan) for rate in (8000, 16000)}
    outage = Outage()
    pcm = whole_samples(round(seconds * rate_hz), 1)
    denoise_pcm(pcm, rate_hz, "L16", DenoiseConfig(**{"bypass": "off"} | controls), engines, nothing, outage=outage)
    return outage


def test_an_engine_that_works_leaves_nothing_dry():
    assert outage_of({}).stretches == []


@pytest.mark.parametrize("rate_hz", [8000, 44100])
def test_an_engine_that_dies_on_the_way_is_told_with_all_it_left_dry(rate_hz):
    said = outage_of({50: "dead"}, rate_hz=rate_hz).text(2.0)  # of the delay of 10 ms, its packet begins at 0.99 s
    assert said == "1.01 of 2.00 s are not denoised (0.99 to 2.00 s): Triton at 10.0.0.9:8001: UNAVAILABLE"


def test_an_engine_that_is_dead_from_the_start_leaves_everything_dry():
    said = outage_of({0: "dead"}, seconds=0.5).text(0.5)
    assert said.startswith("0.50 of 0.50 s are not denoised (0.00 to 0.50 s)")


def test_late_answers_are_told_each_with_its_place():
    said = outage_of({10: "late", 11: "late", 40: "late"}).text(2.0)
    assert said.startswith("0.06 of 2.00 s are not denoised (0.19 to 0.23, 0.79 to 0.81 s): its answers took longer")


@pytest.mark.parametrize(
    ("plan", "said"),
    [("broken", "(0.19 to 0.31 s): the network failed"), ("spoilt", "(0.19 to 0.29 s): its network gave")],
)
def test_the_time_in_which_an_engine_hears_a_stream_again_is_not_denoised_either(plan, said):
    assert f"of 2.00 s are not denoised {said}" in outage_of({10: plan}).text(2.0)


@pytest.mark.parametrize("controls", [{"level": 0}, {"denoise": "none"}], ids=str)
def test_what_was_not_to_be_denoised_is_no_fault(controls):
    assert outage_of({0: "dead"}, **controls).stretches == []


def test_a_recording_that_is_denoised_in_part_is_written_and_reported(tmp_path, monkeypatch):
    monkeypatch.setattr("gateway.file.build", lambda config, slots: {8000: Failing(8000, slots, {25: "dead"})})
    pcm = whole_samples(8000, 2)
    soundfile.write(tmp_path / "x.wav", pcm, 8000)
    report = denoise_file(tmp_path / "x.wav", tmp_path / "y.wav", PASSTHROUGH, "L16", nothing)
    assert report.outage.stretches == [(pytest.approx(0.49), 1.0)]
    assert np.array_equal(soundfile.read(tmp_path / "y.wav", dtype="float32")[0], pcm)


class Time:
    """Stands still but for who sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Server(PassthroughEngine):
    """An engine elsewhere: dies before these batches, and is back when somebody has looked for it for `away_s`."""

    epoch, fault, substitute = 0, "", ""
    counters: ClassVar[dict[str, int]] = {}
    endpoint_faults: ClassVar[dict[str, str]] = {}

    def __init__(self, dies: set[int], away_s: float) -> None:
        super().__init__(8000, 2)
        self.time, self.dies, self.away_s, self.back_s = Time(), dies, away_s, 0.0

    def submit(self, slots, frames, counts, control):
        if self._batch_id in self.dies:
            self.dies.discard(self._batch_id)
            self.fault = "Triton at 10.0.0.9:8001: UNAVAILABLE"
        if self.fault and not self.substitute:
            raise EngineError(self.fault)
        return super().submit(slots, frames, counts, control)

    def tend(self, now: float) -> None:
        self.back_s = self.back_s or now + self.away_s
        if self.fault and now >= self.back_s:
            self.fault, self.back_s, self.epoch = "", 0.0, self.epoch + 1

    def flush(self) -> None: ...

    def due_s(self) -> None: ...

    def fileno(self) -> int:
        return -1

    def acknowledge(self) -> None: ...


def outage_with(server: Server, monkeypatch) -> Outage:
    """Of two seconds."""
    for module in ("gateway.file", "gateway.denoise.engines"):
        monkeypatch.setattr(f"{module}.time", server.time)
    outage = Outage()
    controls = DenoiseConfig(bypass="off")
    denoise_pcm(whole_samples(16000, 1), 8000, "L16", controls, {8000: server}, nothing, outage=outage)
    return outage


def test_a_recording_waits_for_a_server_that_comes_back_and_goes_on_denoised(monkeypatch, caplog):
    server = Server({25, 60}, away_s=20.0)
    said = outage_with(server, monkeypatch).text(2.0)  # each time the batch that was out, and 100 ms to hear the stream
    assert said == (
        "0.24 of 2.00 s are not denoised (0.49 to 0.61, 1.21 to 1.33 s): Triton at 10.0.0.9:8001: UNAVAILABLE"
    )
    assert server.time.now == pytest.approx(40.0, abs=0.1)
    assert caplog.messages == ["Triton at 10.0.0.9:8001: UNAVAILABLE; waiting up to 60 s for a server"]


@pytest.mark.parametrize(
    ("dies", "away_s", "begins"), [({50}, 1e9, [0.99]), ({10, 30, 50, 70}, 25.0, [0.19, 0.61, 1.03])]
)
def test_a_recording_waits_a_minute_in_all_and_ends_dry(monkeypatch, dies, away_s, begins):
    server = Server(dies, away_s)
    stretches = outage_with(server, monkeypatch).stretches
    assert server.time.now == pytest.approx(60.0, abs=0.1)
    assert [begin_s for begin_s, _ in stretches] == pytest.approx(begins) and stretches[-1][1] == 2.0


def test_a_recording_waits_for_no_server_while_something_else_denoises(monkeypatch):
    server = Server({10}, away_s=1e9)
    server.substitute = "light"
    assert outage_with(server, monkeypatch).stretches == [] and server.time.now == 0.0


def test_a_recording_waits_for_no_server_of_another_rate(tmp_path, monkeypatch):
    here, away = Server(set(), away_s=0.0), Server(set(), away_s=1e9)
    away.fault, away.time = "it has no model for 16000 Hz", here.time
    monkeypatch.setattr("gateway.file.build", lambda config, slots: {8000: here, 16000: away})
    monkeypatch.setattr("gateway.denoise.engines.time", here.time)
    soundfile.write(tmp_path / "x.wav", whole_samples(8000, 1), 8000)
    assert denoise_file(tmp_path / "x.wav", tmp_path / "y.wav", PASSTHROUGH, "L16", nothing).outage.stretches == []
    assert here.time.now == 0.0


def test_an_unknown_codec_is_the_callers_fault():
    with pytest.raises(CallerError, match="codec OPUS: unknown; the codecs are L16, PCMU, PCMA, G722"):
        through(np.zeros((10, 1), np.float32), 8000, "OPUS")


@pytest.mark.parametrize("codec", ["L16", "PCMU"])
def test_the_standard_model_takes_the_noise_and_leaves_the_speech(tmp_path, codec):
    target = tmp_path / "clean.wav"
    denoise_file(AUDIO / "noisy_8k.wav", target, Config(), codec, nothing)
    clean, noisy, after = (
        soundfile.read(path, dtype="float32")[0] for path in (AUDIO / "clean_8k.wav", AUDIO / "noisy_8k.wav", target)
    )
    level = frame_levels_db(clean, 8000)
    heard = np.arange(len(level)) >= 50
    around = np.lib.stride_tricks.sliding_window_view(np.pad(level, 5, mode="edge"), 11).max(axis=1)
    assert change_db(noisy, after, heard & (around < -60), 8000) < -10
    assert abs(change_db(clean, after, heard & (level > level.max() - 20), 8000)) < 2
