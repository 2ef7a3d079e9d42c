"""The `file` command while its server dies and comes back."""

from gateway.config import Config, EngineConfig
from gateway.file import denoise_file
from tests.denoise.triton.servers import ROOT, Triton

NOISY = ROOT / "tests" / "audio" / "noisy_8k.wav"


def test_a_recording_waits_for_its_server_and_is_denoised_to_the_end(triton, tmp_path, monkeypatch):
    monkeypatch.setattr("gateway.file.CONNECT_PATIENCE_S", 1.0)  # the test's repository has the 8 kHz model only
    server = Triton(triton.repository).start()
    passed_s = 0.0

    def progress(seconds: float) -> None:
        nonlocal passed_s
        before_s, passed_s = passed_s, passed_s + seconds
        if before_s < 2.0 <= passed_s:
            server.kill()
            server.start(wait=False)

    engine = EngineConfig(kind="triton", model="light", endpoints=(server.endpoint,), deadline_ms=1000.0)
    try:
        report = denoise_file(NOISY, tmp_path / "clean.wav", Config(engine=engine), "L16", progress)
    finally:
        server.kill()
    (begin_s, end_s), *more = report.outage.stretches
    assert 1.9 < begin_s < 2.1 and end_s - begin_s < 0.5 and not more, report.outage.text(report.seconds)
