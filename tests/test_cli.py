"""The command: what a user sees."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from gateway.cli import main
from gateway.config import EngineConfig
from gateway.file import Report
from gateway.outage import Outage

QUIET = {"DENOISE_GATEWAY_ENGINE__KIND": "passthrough"}


@pytest.fixture
def passthrough(monkeypatch):
    for key, value in QUIET.items():
        monkeypatch.setenv(key, value)


def complaint(capsys, *argv: str) -> str:
    """The one line that a wrong command ends with."""
    try:
        code = main(list(argv))
    except SystemExit as end:
        code = end.code
    out, err = capsys.readouterr()
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1 and err.endswith("\n")
    return err.strip()


@pytest.mark.parametrize(
    "argv", [("--help",), ("serve", "--help"), ("file", "--help"), ("check-config", "--help"), ("plan", "--help")]
)
def test_help_teaches_with_examples(capsys, argv):
    with pytest.raises(SystemExit) as end:
        main(list(argv))
    assert end.value.code == 0
    help_text = capsys.readouterr().out
    assert re.search(r"examples?:\n  .*denoise-gateway", help_text)
    assert all(len(line) <= 120 for line in help_text.splitlines())


def test_version(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith("denoise-gateway ")


def test_wrong_words_are_one_line(capsys):
    assert "the following arguments are required: COMMAND" in complaint(capsys)
    assert "invalid choice: 'srve'" in complaint(capsys, "srve")
    assert "found '101', expected a whole number from 0 to 100" in complaint(capsys, "file", "a", "b", "--level", "101")
    assert "invalid choice: 'opus'" in complaint(capsys, "file", "a", "b", "--codec", "opus")


def test_check_config_says_what_a_file_changes(capsys, tmp_path):
    path = tmp_path / "gateway.yaml"
    path.write_text("media: {port_min: 20000}\n")
    assert main(["check-config", str(path)]) == 0
    assert capsys.readouterr().out == "OK, 1 keys differ from the defaults:\n  media.port_min: 20000\n"


def test_check_config_says_what_is_wrong(capsys, tmp_path):
    path = tmp_path / "gateway.yaml"
    path.write_text("media: {prot_min: 20000}\n")
    assert complaint(capsys, "check-config", str(path)) == (
        "denoise-gateway: gateway.yaml: media.prot_min: unknown key; did you mean port_min?"
    )
    assert complaint(capsys, "serve", "--config", str(path)).endswith("did you mean port_min?")


def test_file_denoises_and_reports(capsys, tmp_path, passthrough):
    source, target = tmp_path / "in.wav", tmp_path / "out.wav"
    soundfile.write(source, np.random.default_rng(1).normal(0, 0.05, 8000), 8000)
    assert main(["file", str(source), str(target), "--level", "50"]) == 0
    assert target.exists()
    assert re.fullmatch(
        rf"{target}: 1\.0 s, \d+ times real time\nnoise in the pauses: 0\.0 dB less\n", capsys.readouterr().out
    )


def test_file_says_what_it_could_not_denoise_and_does_not_end_well(capsys, monkeypatch):
    outage = Outage()
    for packet in range(20):
        outage.note(1.0 + packet / 10, 1.02 + packet / 10, "the server is gone" if packet == 1 else "")
    monkeypatch.setattr("gateway.file.denoise_file", lambda *_: Report(60.0, 1.0, 9.0, [], outage))
    assert main(["file", "in.wav", "out.wav"]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("out.wav: 60.0 s")
    assert err == (
        "denoise-gateway: out.wav is written, but 0.40 of 60.00 s are not denoised (1.00 to 1.02, 1.10 to 1.12, "
        "1.20 to 1.22, 1.30 to 1.32, 1.40 to 1.42 s and 15 more): the server is gone\n"
    )


def test_file_says_what_it_left_alone(capsys, tmp_path, passthrough):
    source = tmp_path / "in.wav"
    t = np.arange(8000) / 8000
    digit = np.where((t > 0.2) & (t < 0.3), 0.2 * (np.sin(2 * np.pi * 770 * t) + np.sin(2 * np.pi * 1336 * t)), 0)
    soundfile.write(source, np.stack([digit * 0, digit], axis=1), 8000)
    assert main(["file", str(source), str(tmp_path / "out.wav")]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("left alone")]
    assert re.fullmatch(r"left alone: dtmf 5 from 0\.(19|20) to 0\.(29|30) s \(channel 2\)", line)
    assert main(["file", str(source), str(tmp_path / "out.wav"), "--bypass", "off"]) == 0
    assert "left alone" not in capsys.readouterr().out


@pytest.mark.parametrize("choice", [("--engine", "rnnoise"), ("--engine", "speex"), ("--model", "standard")], ids=str)
def test_file_tries_any_engine(capsys, tmp_path, passthrough, choice):
    source, target = tmp_path / "in.wav", tmp_path / "out.wav"
    soundfile.write(source, np.random.default_rng(1).normal(0, 0.05, 16000), 8000)
    assert main(["file", str(source), str(target), *choice]) == 0
    before, after = (soundfile.read(path)[0][8000:] for path in (source, target))
    assert 10 * np.log10(np.mean(before**2) / np.mean(after**2)) > 6


def test_an_engine_of_the_command_line_keeps_what_the_file_says_of_it(capsys, tmp_path, monkeypatch):
    used = []
    monkeypatch.setattr("gateway.file.denoise_file", lambda *given: used.append(given[2].engine) or Report(1, 1, 0, []))
    path = tmp_path / "gateway.yaml"
    keys = "endpoints: ['10.0.0.9:8001'], model: standard, model_version: '2', deadline_ms: 40, fallback: ort"
    path.write_text(f"engine: {{{keys}}}\n")
    assert main(["file", "a.wav", "b.wav", "--config", str(path), "--engine", "triton"]) == 0
    assert main(["file", "a.wav", "b.wav", "--config", str(path), "--engine", "triton", "--model", "light"]) == 0
    served = EngineConfig("triton", "standard", ("10.0.0.9:8001",), "2", 40.0, "ort")
    assert used == [served, replace(served, model="light")]


def test_checking_a_file_does_not_advise_a_restart_that_refuses_calls(capsys):
    with pytest.raises(SystemExit):
        main(["check-config", "--help"])
    shown = capsys.readouterr().out
    assert "systemctl" not in shown and "docs/operations.md" in shown


def test_a_model_of_an_engine_without_models_is_refused(capsys):
    said = complaint(capsys, "file", "a", "b", "--engine", "speex", "--model", "light")
    assert said == "denoise-gateway: --model light: engine speex has no models; leave one of the two out"


def test_a_model_that_is_not_there_is_named(capsys, tmp_path):
    source = tmp_path / "in.wav"
    soundfile.write(source, np.zeros(800), 8000)
    assert "no nope_8k.onnx in models/; there are" in complaint(capsys, "file", str(source), "b", "--model", "nope")
    assert "card.yaml: No such file" in complaint(
        capsys, "file", str(source), "b", "--model", str(tmp_path / "card.yaml")
    )


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ("nowhere.wav", "out.wav", "nowhere.wav: no such file"),
        ("text.wav", "out.wav", "text.wav: Format not recognised"),
        ("in.wav", "nowhere/out.wav", "nowhere/out.wav: no such folder"),
        ("in.wav", "out.xyz", "out.xyz: not a format that can be written; use one of .wav, .flac"),
    ],
)
def test_files_that_cannot_be_are_one_line(capsys, tmp_path, monkeypatch, passthrough, source, target, expected):
    monkeypatch.chdir(tmp_path)
    soundfile.write("in.wav", np.zeros(800), 8000)
    (tmp_path / "text.wav").write_text("no audio")
    assert complaint(capsys, "file", source, target).startswith(f"denoise-gateway: {expected}")


def test_plan_for_people_and_for_programs(capsys):
    assert main(["plan", "--calls", "1000", "--codec", "G722", "--streams-per-gpu", "5000"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("1,000 calls, G722, packets of 20 ms over IPv4, light_16k\n")
    assert re.search(r"\n  GPUs +1 \(5,000 streams a GPU, given by you, not measured\)\n", shown)
    assert re.search(r"\n  media +160\.0 Mbit/s in, as much out", shown)
    assert main(["plan", "--calls", "1000", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["plan"]["legs"] == 2000


def test_plans_that_cannot_be_are_one_line(capsys, tmp_path):
    assert "required: --calls" in complaint(capsys, "plan")
    assert "found '0', expected a whole number from 1" in complaint(capsys, "plan", "--calls", "0")
    assert "invalid choice: 'OPUS'" in complaint(capsys, "plan", "--calls", "1", "--codec", "OPUS")
    assert "model huge: not measured, there are light" in complaint(capsys, "plan", "--calls", "1", "--model", "huge")
    missing = str(tmp_path / "none.json")
    assert "none.json: No such file" in complaint(capsys, "plan", "--calls", "1", "--figures", missing)


def test_a_reader_that_has_enough_is_no_error():
    run = subprocess.Popen(
        [sys.executable, "-m", "gateway", "plan", "--calls", "10000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    run.stdout.close()
    assert run.wait(timeout=20) == 128 + signal.SIGPIPE
    assert run.stderr.read() == ""


def serve(**environ: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "gateway", "serve"],
        env={key: value for key, value in os.environ.items() if not key.startswith("DENOISE_GATEWAY_")}
        | QUIET
        | {
            "DENOISE_GATEWAY_NG__LISTEN": "127.0.0.1:0",
            "DENOISE_GATEWAY_ADMIN__LISTEN": "127.0.0.1:0",
            "DENOISE_GATEWAY_MEDIA__WORKERS": "1",
            "DENOISE_GATEWAY_MEDIA__SLOTS": "8",
        }
        | environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_serve_prints_where_it_listens_and_kamailios_lines_when_it_is_ready():
    with serve() as process:
        try:
            assert process.stdout is not None
            shown: list[str] = []
            for line in process.stdout:
                shown.append(line)
                if "rtpengine_manage(" in line and "denoise" in line:
                    break
            text = "".join(shown)
            (ng,) = re.findall(r'modparam\("rtpengine", "rtpengine_sock", "udp:127\.0\.0\.1:(\d+)"\)', text)
            (admin,) = re.findall(r"http://(127\.0\.0\.1:\d+)", text)
            assert f"udp:127.0.0.1:{ng}" in text and int(ng) > 0
            assert 'loadmodule "rtpengine.so"' in text
            assert "30000-39999" in text
            assert "nothing is denoised" in text
            with urllib.request.urlopen(f"http://{admin}/readyz", timeout=5) as answer:
                assert answer.status == 200
        finally:
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def test_serve_says_what_stops_it_in_one_line():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        with serve(DENOISE_GATEWAY_NG__LISTEN=f"127.0.0.1:{port}") as process:
            out, err = process.communicate(timeout=20)
    assert process.returncode == 2
    assert out == ""
    assert [line for line in err.splitlines() if "warning" not in line] == [
        f"denoise-gateway: ng.listen: 127.0.0.1:{port} is taken: is another gateway or rtpengine running? "
        "Stop it, or choose another port"
    ]
