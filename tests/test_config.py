"""Configuration: what is right is read, what is wrong stops the start and says what would be right."""

import dataclasses
from pathlib import Path

import msgspec
import pytest

from gateway import config_text
from gateway.config import Config, InterfaceConfig, MediaConfig, NgConfig
from gateway.config_file import load
from gateway.config_rules import host_port
from gateway.errors import ConfigError

ROOT = Path(__file__).parent.parent


def read(tmp_path: Path, text: str, **environ: str) -> Config:
    path = tmp_path / "gateway.yaml"
    path.write_text(text)
    return load(path, environ)


def complaint(tmp_path: Path, text: str, **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text, **environ)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_without_a_file_everything_is_default():
    assert load(None, {}) == Config()


def test_the_example_file_is_the_defaults_and_their_docs():
    example = ROOT / "deploy" / "config.example.yaml"
    assert example.read_text() == config_text.example(), (
        "run: python -m gateway.config_text > deploy/config.example.yaml"
    )
    assert load(example, {}) == Config()


def test_the_example_writes_out_and_explains_every_key():
    paragraphs = config_text.example().split("\n\n")[1:]
    for section, paragraph in zip(dataclasses.fields(Config), paragraphs, strict=True):
        lines = paragraph.splitlines()
        assert lines[0].startswith("# ") and f"{section.name}:" in lines
        for key in msgspec.to_builtins(getattr(Config(), section.name)):
            (at,) = [i for i, line in enumerate(lines) if line.startswith(f"  {key}:")]
            assert key == "default" or lines[at - 1].startswith("  # ")


def test_values_replace_defaults_and_the_rest_stays(tmp_path):
    config = read(tmp_path, "media: {port_min: 20000, hold_ms: 4}\nng: {listen: 127.0.0.1:9000}\ncalls:\n")
    assert config == Config(media=MediaConfig(port_min=20000, hold_ms=4.0), ng=NgConfig(listen=("127.0.0.1:9000",)))
    assert isinstance(config.media.hold_ms, float)


def test_an_empty_file_is_all_defaults(tmp_path):
    assert read(tmp_path, "# nothing yet\n") == Config()


def test_interfaces_are_named_by_the_user(tmp_path):
    config = read(tmp_path, "interfaces:\n  pub: {address: 192.0.2.1, advertise: 198.51.100.7}\n  priv:\n")
    assert config.interfaces == {"pub": InterfaceConfig("192.0.2.1", "198.51.100.7"), "priv": InterfaceConfig()}


def test_on_and_off_stay_words(tmp_path):
    assert read(tmp_path, "denoise: {bypass: on}").denoise.bypass == "on"


def test_the_environment_overrides_single_keys(tmp_path):
    config = read(
        tmp_path,
        "media: {port_min: 20000}",
        DENOISE_GATEWAY_MEDIA__PORT_MIN="21000",
        DENOISE_GATEWAY_MEDIA__LATCH_ANY="true",
        DENOISE_GATEWAY_MEDIA__DSCP="46",
        DENOISE_GATEWAY_NG__ALLOW="10.0.0.0/8, ::1/128",
        DENOISE_GATEWAY_ENGINE__MODEL="8",
        DENOISE_GATEWAY_INTERFACES__DEFAULT__ADDRESS="192.0.2.1",
    )
    assert (config.media.port_min, config.media.latch_any, config.media.dscp) == (21000, True, 46)
    assert config.ng.allow == ("10.0.0.0/8", "::1/128")
    assert config.engine.model == "8"
    assert config.interfaces == {"default": InterfaceConfig("192.0.2.1")}


def test_the_environment_can_unset(tmp_path):
    assert read(tmp_path, "media: {dscp: 46}", DENOISE_GATEWAY_MEDIA__DSCP="null").media.dscp is None


def test_variables_of_a_kubernetes_service_are_not_ours(tmp_path):
    environ = {"DENOISE_GATEWAY_SERVICE_HOST": "10.0.0.1", "DENOISE_GATEWAY_PORT_2223_UDP_PORT": "2223"}
    assert read(tmp_path, "", **environ) == Config()


WRONG = [
    ("media: {prot_min: 1}", "gateway.yaml: media.prot_min: unknown key; did you mean port_min?"),
    ("media: {port-min: 1}", "gateway.yaml: media.port-min: unknown key; did you mean port_min?"),
    ("medai: {}", "gateway.yaml: medai: unknown key; did you mean media?"),
    ("calls: {port_min: 2000}", "gateway.yaml: calls.port_min: unknown key here; did you mean media.port_min?"),
    ("log: {xyz: 1}", "gateway.yaml: log.xyz: unknown key; the keys here are level, format"),
    ("interfaces: {a: {adress: auto}}", "gateway.yaml: interfaces.a.adress: unknown key; did you mean address?"),
    (
        "media: {port_min: many}",
        "gateway.yaml: media.port_min: found the text 'many', expected a whole number from 1 to 65535",
    ),
    ("media: {port_min: 70000}", "gateway.yaml: media.port_min: found 70000, expected a whole number from 1 to 65535"),
    ("media: {port_min: 3e4}", "gateway.yaml: media.port_min: found 30000.0, expected a whole number from 1 to 65535"),
    ("media: {port_min: true}", "gateway.yaml: media.port_min: found true, expected a whole number from 1 to 65535"),
    ("media: {port_min: }", "gateway.yaml: media.port_min: found nothing, expected a whole number from 1 to 65535"),
    ("media: {dscp: 64}", "gateway.yaml: media.dscp: found 64, expected a whole number from 0 to 63 or null"),
    ("media: {latch_any: on}", "gateway.yaml: media.latch_any: found the text 'on', expected true or false"),
    ("media: {hold_ms: .nan}", "gateway.yaml: media.hold_ms: found the text '.nan', expected a number from 0 to 100"),
    ("media: [1]", "gateway.yaml: media: found a list, expected a section with keys such as workers, slots, port_min"),
    (
        "calls: {load_limit_percent: 0}",
        "gateway.yaml: calls.load_limit_percent: found 0, expected a number above 0 and up to 100",
    ),
    ("denoise: {music: keep}", "gateway.yaml: denoise.music: found the text 'keep', expected one of pass, suppress"),
    ("interfaces: {}", "gateway.yaml: interfaces: found a section, expected a section with a name for each entry"),
    ("ng: {listen: [2223]}", "gateway.yaml: ng.listen[0]: found 2223, expected text"),
    ("ng: {listen: 7}", "gateway.yaml: ng.listen: found 7, expected a list of texts"),
    (
        "ng: {listen: ['localhost:2223']}",
        "gateway.yaml: ng.listen[0]: found 'localhost:2223', "
        "expected a numeric address and a port, such as 127.0.0.1:2223 or [::1]:2223",
    ),
    ("ng: {listen: []}", "gateway.yaml: ng.listen: found an empty list, expected at least one address"),
    ("ng: {allow: []}", "gateway.yaml: ng.allow: found an empty list, so nobody would be answered"),
    (
        "admin: {allow: [10.0.0.5/8]}",
        "gateway.yaml: admin.allow[0]: found '10.0.0.5/8', which has bits set behind its mask; "
        "did you mean 10.0.0.0/8?",
    ),
    ("admin: {allow: [all]}", "gateway.yaml: admin.allow[0]: found 'all', expected a network such as 10.0.0.0/8"),
    ("interfaces: {'a b': }", "gateway.yaml: interfaces.a b: found the name 'a b', expected one without spaces"),
    (
        "interfaces: {a: {address: eth0}}",
        "gateway.yaml: interfaces.a.address: found 'eth0', expected a local IP address",
    ),
    ("interfaces: {a: {address: 0.0.0.0}}", "gateway.yaml: interfaces.a.address: SDP cannot name 0.0.0.0"),
    (
        "interfaces: {a: {address: 192.0.2.1, advertise: '2001:db8::1'}}",
        "gateway.yaml: interfaces.a.advertise: 2001:db8::1 is IPv6, but interfaces.a.address is IPv4",
    ),
    (
        "media: {port_min: 40000}",
        "gateway.yaml: media.port_max: found 39999, expected more than media.port_min, which is 40000",
    ),
    ("media: {hold_ms: 50}", "gateway.yaml: media.dry_after_ms: found 15, expected at least media.hold_ms (50)"),
    ("engine: {model: ''}", "gateway.yaml: engine.model: found nothing, expected a model's name"),
    (
        "engine: {kind: gpu}",
        "engine.kind: found the text 'gpu', expected one of ort, triton, rnnoise, speex, passthrough",
    ),
    ("just words", "expected sections such as 'media:' with indented keys"),
    ("media: {port_min: 1, port_min: 2}", "key 'port_min' given twice"),
    ("media: [", "not valid YAML"),
]


@pytest.mark.parametrize(("text", "expected"), WRONG, ids=[text for text, _ in WRONG])
def test_what_is_wrong_is_named_with_what_would_be_right(tmp_path, text, expected):
    assert expected in complaint(tmp_path, text)


def test_an_error_from_the_environment_names_the_variable(tmp_path):
    assert complaint(tmp_path, "", DENOISE_GATEWAY_MEDIA__SLOTS="all") == (
        "DENOISE_GATEWAY_MEDIA__SLOTS: media.slots: found the text 'all', expected a whole number from 2 to 65536"
    )
    assert complaint(tmp_path, "", DENOISE_GATEWAY_MEDIA__SLOT="1") == (
        "DENOISE_GATEWAY_MEDIA__SLOT: media.slot: unknown key; did you mean slots?"
    )
    assert complaint(tmp_path, "", DENOISE_GATEWAY_ADMIN__LISTEN="8080").startswith(
        "DENOISE_GATEWAY_ADMIN__LISTEN: admin.listen: found '8080', expected a numeric address and a port"
    )
    assert complaint(tmp_path, "media: 5", DENOISE_GATEWAY_MEDIA__SLOTS="5") == (
        "DENOISE_GATEWAY_MEDIA__SLOTS: media is 5, not a section"
    )


def test_a_variable_with_one_underscore_is_not_ignored(tmp_path):
    assert complaint(tmp_path, "", DENOISE_GATEWAY_MEDIA_PORT_MIN="20000") == (
        "DENOISE_GATEWAY_MEDIA_PORT_MIN: levels are divided by two underscores; "
        "did you mean DENOISE_GATEWAY_MEDIA__PORT_MIN?"
    )


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: No such file or directory"):
        load(tmp_path / "nowhere.yaml", {})


def test_a_binary_file_is_no_configuration(tmp_path):
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not a text file"):
        load(tmp_path / "x.yaml", {})


def test_a_worker_gets_it_as_one_message(tmp_path):
    config = read(tmp_path, "interfaces: {a: }\nmedia: {dscp: 46}")
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(config), type=Config) == config


def test_differences_name_only_what_was_changed(tmp_path):
    config = read(tmp_path, "media: {port_min: 20000, slots: 1000}\nng: {allow: [10.0.0.0/8]}")
    assert config_text.differences(config) == ['ng.allow: ["10.0.0.0/8"]', "media.port_min: 20000"]


def test_addresses_with_ports():
    assert host_port("127.0.0.1:2223") == ("127.0.0.1", 2223)
    assert host_port("[::1]:0") == ("::1", 0)
    for wrong in ("127.0.0.1", "::1:2223", "[127.0.0.1]:1", "127.0.0.1:65536", "127.0.0.1:", ":2223", "127.0.0.1:²"):
        with pytest.raises(ValueError):
            host_port(wrong)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("grpc: {listen: localhost:50051}", "grpc.listen: found 'localhost:50051', expected a numeric address"),
        ("grpc: {listen: '127.0.0.1'}", "grpc.listen: found '127.0.0.1', expected a numeric address"),
        ("grpc: {listen: '0.0.0.0:1'}", "grpc.listen: 0.0.0.0:1 is no loopback address"),
        ("grpc: {listen: '[::]:1'}", "or insecure: true"),
        ("grpc: {tls_key: k.pem}", "grpc.tls_certificate: TLS takes both tls_certificate and tls_key"),
        ("grpc: {tls_certificate: c.pem}", "grpc.tls_certificate: TLS takes both tls_certificate and tls_key"),
        ("grpc: {tls_client_ca: ca.pem}", "grpc.tls_client_ca: mutual TLS takes tls_certificate and tls_key too"),
        ("grpc: {queue_ms: 99}", "grpc.queue_ms"),
        ("grpc: {max_message_bytes: 1}", "grpc.max_message_bytes"),
        ("grpc: {idle_timeout_s: 0}", "grpc.idle_timeout_s"),
        ("grpc: {max_rate: -1}", "grpc.max_rate"),
    ],
)
def test_what_cannot_be_of_grpc_is_said(tmp_path, text, said):
    assert said in complaint(tmp_path, text)


@pytest.mark.parametrize(
    "text",
    [
        "grpc: {listen: '127.0.0.1:50051'}",
        "grpc: {listen: '[::1]:0'}",
        "grpc: {listen: '0.0.0.0:50051', insecure: true}",
        "grpc: {listen: '0.0.0.0:50051', tls_certificate: c.pem, tls_key: k.pem, tls_client_ca: ca.pem}",
    ],
)
def test_what_can_be_of_grpc_is_taken(tmp_path, text):
    assert read(tmp_path, text).grpc.listen


def test_every_key_of_grpc_can_be_set_by_variables(tmp_path):
    config = read(tmp_path, "", DENOISE_GATEWAY_GRPC__LISTEN="127.0.0.1:5", DENOISE_GATEWAY_GRPC__MAX_RATE="2.5")
    assert (config.grpc.listen, config.grpc.max_rate) == ("127.0.0.1:5", 2.5)
