"""What a measurement writes down for plans, and what it does not."""

import pytest

from gateway import capacity
from loadtest import renew
from loadtest.__main__ import main
from loadtest.codecs import microseconds
from loadtest.gpu import Report, Timed


def stage(legs: int, held: bool = True, worker_mb: float = 100.0) -> dict[str, object]:
    return {
        "what": "denoised", "legs": legs, "held": held, "valid": True, "media_core": 0.7,
        "cpu_share": {"receive": 0.1, "engine": 0.4, "arrays": 0.1, "send": 0.1},
        "added_delay_ms": {"p99": 15.5}, "rss_mb": {"media_worker": worker_mb, "total": worker_mb + 150},
    }  # fmt: skip


def test_a_capacity_run_renews_its_model_only():
    before, done = capacity.read(), []
    report = {"stages": [stage(50), stage(300), stage(400, held=False), stage(1000, False, 140.0)], "setups": None}
    after = renew.calls(before, report, "light", done)
    assert (after.cores["light"].legs, after.cores["light"].engine) == (300, 0.4)
    assert after.cores["light"].source.command.endswith("--model light --renew")
    assert (after.memory.worker_mb, after.memory.rest_mb) == ((100.0, 140.0), (150.0, 150.0))
    assert after.cores["standard"] == before.cores["standard"] and after.setups == before.setups
    assert done == ["legs a core of light: 300", "memory"]


def test_a_run_that_never_held_renews_nothing():
    before, done = capacity.read(), []
    after = renew.calls(before, {"stages": [stage(300, held=False)], "setups": None}, "light", done)
    assert (after.cores, after.memory, done) == (before.cores, before.memory, [])


def test_the_best_path_of_a_gpu_is_written_and_a_dry_run_is_not():
    timed = [
        Timed("light_8k", "onnx", 4096, 2.0, 3.0, True),
        Timed("light_8k", "torch-bf16", 4096, 1.0, 2.0, True),
        Timed("light_8k", "torch-bf16", 8192, 2.0, 4.0, True),
        Timed("light_8k", "torch-bf16", 16384, 4.0, 9.0, False),
        Timed("light_8k", "torch-fp32", 4096, 9.0, 9.0, False),
    ]
    found = renew.gpus(capacity.read(), Report("Some GPU", 8.0, timed, [])).gpus["light_8k"]
    assert (found.streams, found.path, found.p99_ms, found.source.machine) == (8192, "torch-bf16", 4.0, "Some GPU")
    with pytest.raises(ValueError, match="dry run"):
        renew.gpus(capacity.read(), Report("CPU (dry run)", 8.0, timed, []))


def test_what_talking_to_triton_costs_is_written_by_rate_and_of_batches_of_one_size():
    narrow = renew.triton(capacity.read(), 8000, 256, 0.512)
    wide = renew.triton(narrow, 16000, 256, 1.024)
    assert (wide.triton.microseconds, wide.triton.slots) == ({"8000": 2.0, "16000": 4.0}, 256)
    assert renew.triton(wide, 8000, 512, 1.024).triton.microseconds == {"8000": 2.0}


def test_a_dry_run_cannot_be_asked_to_renew(capsys):
    assert main(["gpu", "--device", "cpu", "--quick", "--renew"]) == 2
    assert "not written down" in capsys.readouterr().err


def test_a_gpu_that_is_not_there_is_said_so(capsys):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert main(["gpu"]) == 1
    assert "no CUDA device" in capsys.readouterr().err


def test_codecs_that_keep_no_tables_cost_more():
    cost = microseconds(rounds=10)
    assert set(cost) == {"PCMU/8000", "PCMA/8000", "G722/16000", "L16/8000", "L16/16000"}
    assert all(value > 0 for value in cost.values())


def test_a_report_that_is_none_is_refused(tmp_path, capsys):
    path = tmp_path / "report.json"
    for text in ("no JSON", "[1]", "{}"):
        path.write_text(text)
        assert main(["renew", str(path)]) == 2
        assert "is no JSON of `loadtest capacity`" in capsys.readouterr().err
