"""Checks before the start: each finding says what is, what should be and how to change it."""

import resource
import socket
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives import serialization

from gateway import preflight
from gateway.config import AdminConfig, Config, EngineConfig, GrpcConfig, InterfaceConfig, MediaConfig, NgConfig
from gateway.preflight import Finding, Host, check
from tests.control import certificates

ROOMY = Host(descriptors=1 << 20, descriptors_hard=1 << 20, rmem_max=1 << 30)
LOOPBACK = {"default": InterfaceConfig("127.0.0.1")}


def config(**sections) -> Config:
    base = {
        "ng": NgConfig(listen=("127.0.0.1:0",)),
        "admin": AdminConfig(listen="127.0.0.1:0"),
        "interfaces": LOOPBACK,
        "engine": EngineConfig(kind="passthrough"),
        "media": MediaConfig(workers=2),
    }
    return Config(**(base | sections))


def only(findings: list[Finding]) -> Finding:
    (finding,) = findings
    return finding


def test_a_roomy_host_has_nothing_to_say():
    assert check(config(), ROOMY) == []


def test_too_few_descriptors_limit_the_calls_and_say_what_to_raise():
    finding = only(check(config(), Host(1024, 4096, 1 << 30)))
    assert not finding.fatal
    assert finding.text == (
        "open files: the limit is 1024 (hard 4096), enough for 240 calls; 1000 legs on each of 2 workers need 4064: "
        "raise it with LimitNOFILE=4064 (systemd) or ulimit -n 4064, or lower media.slots"
    )


def test_descriptors_for_not_even_one_call_stop_the_start():
    assert only(check(config(), Host(64, 64, 1 << 30))).fatal


def test_small_socket_buffers_are_a_warning_with_the_sysctl():
    finding = only(check(config(), Host(1 << 20, 1 << 20, 65536)))
    assert not finding.fatal
    assert "net.core.rmem_max is 65536" in finding.text
    assert "sysctl -w net.core.rmem_max=131072" in finding.text


def test_a_kernel_that_does_not_say_its_buffer_limit_is_not_complained_about():
    assert check(config(), Host(1 << 20, 1 << 20, None)) == []


def test_a_port_range_smaller_than_the_slots_is_a_warning():
    finding = only(check(config(media=MediaConfig(workers=2, port_min=30000, port_max=30099)), ROOMY))
    assert not finding.fatal
    assert "30000 to media.port_max 30099 are 50 pairs, enough for 25 calls" in finding.text
    assert "need 2000" in finding.text


def test_a_port_range_without_room_for_a_call_stops_the_start():
    assert only(check(config(media=MediaConfig(port_min=30000, port_max=30001)), ROOMY)).fatal


def test_a_model_that_is_not_there_is_named(tmp_path):
    (tmp_path / "own_8k.onnx").touch()
    (tmp_path / "own_8k.json").touch()
    (tmp_path / "own_16k.onnx").touch()
    finding = only(check(config(engine=EngineConfig(model=str(tmp_path / "own"))), ROOMY))
    assert finding.fatal
    assert f"model: {tmp_path / 'own_16k.json'} is missing or not readable: set engine.model" in finding.text


@pytest.mark.parametrize(
    ("section", "kind"),
    [("ng", socket.SOCK_DGRAM), ("admin", socket.SOCK_STREAM), ("grpc", socket.SOCK_STREAM)],
    ids=["ng", "admin", "grpc"],
)
def test_a_taken_address_is_named(section, kind):
    with socket.socket(socket.AF_INET, kind) as other:
        other.bind(("127.0.0.1", 0))
        if kind is socket.SOCK_STREAM:
            other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        own = {
            "ng": NgConfig(listen=(address,)), "admin": AdminConfig(listen=address), "grpc": GrpcConfig(listen=address)
        }  # fmt: skip
        finding = only(check(config(**{section: own[section]}), ROOMY))
    assert finding.fatal
    assert finding.text.startswith(f"{section}.listen: {address} is taken: is another gateway or rtpengine running?")


def test_an_address_of_another_host_is_named():
    finding = only(check(config(interfaces={"pub": InterfaceConfig("203.0.113.9")}), ROOMY))
    assert finding.fatal
    assert finding.text.startswith("interfaces.pub.address: 203.0.113.9 is no address of this host")


def test_what_stops_the_start_comes_first():
    tight = Host(1024, 1024, 1024)
    findings = check(config(interfaces={"pub": InterfaceConfig("203.0.113.9")}), tight)
    assert [finding.fatal for finding in findings] == [True, False, False]


def test_the_soft_limit_is_raised_to_the_hard_one():
    script = (
        "import resource; from gateway import preflight;"
        "hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1];"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard));"
        "preflight.raise_descriptor_limit(); print(preflight.look().descriptors)"
    )
    raised = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(raised.stdout) == resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def test_this_host_can_be_looked_at():
    host = preflight.look()
    assert 0 < host.descriptors <= host.descriptors_hard


def test_a_card_that_is_wrong_is_said_before_the_start(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("name: own\nrate: 16000\nsteps: []\n")
    finding = only(check(config(engine=EngineConfig(model=str(path))), ROOMY))
    assert finding.fatal and finding.text == "model: own.yaml: hop: missing, expected a whole number from 1"


def test_an_engine_that_is_not_installed_is_said_before_the_start(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyrnnoise", None)
    finding = only(check(config(engine=EngineConfig(kind="rnnoise")), ROOMY))
    assert finding.fatal and "pip install -e '.[rnnoise]'" in finding.text


@pytest.fixture
def pem(tmp_path):
    return certificates.make(tmp_path)


def served(folder, **keys) -> GrpcConfig:
    files = {"tls_certificate": str(folder / "server.pem"), "tls_key": str(folder / "server.key")}
    return GrpcConfig(listen="127.0.0.1:0", **(files | {key: str(folder / name) for key, name in keys.items()}))


def test_tls_files_that_fit_are_not_complained_about(pem):
    assert check(config(grpc=served(pem, tls_client_ca="ca.pem")), ROOMY) == []


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"tls_key": "client.key"}, "grpc.tls_key: {}/client.key: is not the key of {}/server.pem"),
        ({"tls_key": "nowhere"}, "grpc.tls_key: {}/nowhere: No such file or directory"),
        ({"tls_key": "empty"}, "grpc.tls_key: {}/empty: is no PEM file"),
        ({"tls_certificate": "server.key"}, "grpc.tls_certificate: {}/server.key with grpc.tls_key: {}/server.key: "),
        ({"tls_certificate": "broken"}, "grpc.tls_certificate: {}/broken with grpc.tls_key: {}/server.key: "),
        ({"tls_key": "locked"}, "the private key has a password"),
        ({"tls_client_ca": "nowhere"}, "grpc.tls_client_ca: {}/nowhere: No such file or directory"),
        ({"tls_client_ca": "server.key"}, "grpc.tls_client_ca: {}/server.key: no certificate"),
        ({"tokens": "nowhere"}, "grpc.tokens: {}/nowhere: No such file or directory"),
        ({"jwks": "empty"}, "grpc.jwks: {}/empty: "),
    ],
)
def test_files_of_grpc_that_cannot_be_used_are_named(pem, keys, said):
    (pem / "empty").touch()
    (pem / "broken").write_text("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
    locked = serialization.load_pem_private_key((pem / "server.key").read_bytes(), None).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
    )
    (pem / "locked").write_bytes(locked)
    finding = only(check(config(grpc=served(pem, **keys)), ROOMY))
    assert finding.fatal and said.replace("{}", str(pem)) in finding.text
