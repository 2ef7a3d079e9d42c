"""Accounts: who may ask and how much, and what is said of files that cannot be used."""

import pytest

from gateway.config import GrpcConfig
from gateway.control.stream_account import Account, Accounts
from gateway.control.stream_errors import StreamError
from gateway.errors import ConfigError
from tests.control.test_stream import Echo, Media

SECRET = "a-secret-of-the-test"


def accounts(tmp_path, text: str, **keys) -> Accounts:
    path = tmp_path / "tokens.yaml"
    path.write_text(text)
    return Accounts(GrpcConfig(tokens=str(path), **keys))


def complaint(tmp_path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        accounts(tmp_path, text)
    assert SECRET not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected lines such as"),
        ("- a\n- b\n", "expected lines such as"),
        (f"{SECRET}: [name", "not valid YAML"),
        (f"{SECRET}: acme\n", "token 1: expected name, max_streams, max_rate, or nothing"),
        (f"good: {{}}\n{SECRET}: {{streams: 3}}\n", "token 2: expected name"),
        (f"{SECRET}: {{max_streams: many}}\n", "token 1: expected name"),
        (f"{SECRET}: {{max_rate: [1]}}\n", "token 1: expected name"),
        (f"{SECRET}: {{max_streams: -1}}\n", "token 1: max_streams and max_rate are 0 (no limit) or more"),
        (f"{SECRET}: {{max_rate: .nan}}\n", "token 1: max_streams and max_rate are 0 (no limit) or more"),
        (f"{SECRET}: {{max_streams: true}}\n", "token 1: expected name"),
    ],
)
def test_a_token_file_that_cannot_be_is_named_and_its_secrets_are_not(tmp_path, text, said):
    message = complaint(tmp_path, text)
    assert message.startswith(f"grpc.tokens: {tmp_path / 'tokens.yaml'}: ") and said in message


def test_a_token_file_that_is_not_there_or_no_text_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere.yaml: No such file"):
        Accounts(GrpcConfig(tokens=str(tmp_path / "nowhere.yaml")))
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(ConfigError, match="not valid YAML"):
        Accounts(GrpcConfig(tokens=str(tmp_path / "bytes.yaml")))


@pytest.mark.parametrize(
    "text", ["", "[]", '{"keys": [3]}', "{}", '{"keys": 3}', '{"keys": [{"kty": "none"}]}', "no json"]
)
def test_a_jwks_that_cannot_be_is_named(tmp_path, text):
    path = tmp_path / "jwks.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"^grpc.jwks: .*jwks.json: .*expected a JWKS file or an https address"):
        Accounts(GrpcConfig(jwks=str(path)))


async def test_a_token_has_its_own_limits_and_the_configured_ones_else(tmp_path):
    text = f"{SECRET}: {{name: acme, max_streams: 2, max_rate: 4}}\nother:\n"
    known = accounts(tmp_path, text, max_streams=7, max_rate=1.5)
    acme, other = [await known.of(f"Bearer {token}") for token in (SECRET, "other")]
    assert (acme.name, acme.max_streams, acme.max_rate) == ("acme", 2, 4.0)
    assert (other.name, other.max_streams, other.max_rate) == ("token 2", 7, 1.5)
    assert await known.of(f"bearer {SECRET}") is acme


@pytest.mark.parametrize("said", [None, "", "Bearer", f"Basic {SECRET}", f"Bearer {SECRET}x", SECRET, "Bearer \u00e4"])
async def test_who_has_no_token_is_not_served(tmp_path, said):
    with pytest.raises(StreamError, match="token") as caught:
        await accounts(tmp_path, f"{SECRET}:\n").of(said)
    assert caught.value.status == "UNAUTHENTICATED" and SECRET not in str(caught.value)


async def test_without_tokens_everybody_shares_one_account():
    known = Accounts(GrpcConfig(max_streams=1))
    account = await known.of(None)
    account.enter()
    with pytest.raises(StreamError, match="everybody has 1 streams, all it may"):
        (await known.of("Bearer whatever")).enter()
    account.leave()
    account.enter()


@pytest.mark.parametrize(("rate", "streams"), [(2.0, 1), (2.0, 4), (10.0, 3)])
def test_a_token_gets_its_rate_over_all_its_streams(rate, streams):
    """Ten seconds of uploads, answered at once: as much audio as the rate allows, and a second's burst."""
    account, media = Account("acme", 0, rate), Media(legs=streams + 1, busy=0.1)
    echoes = [Echo(8000, "MULAW", credits=media.credits, account=account.pace) for _ in range(streams)]
    for echo in echoes:
        echo.stream.feed(bytes(8000 * 200), 0.0)
    heard = 0
    for step in range(1, 1001):
        now = step / 100
        media.run(now)
        for echo in echoes:
            echo.stream.expire(now)
            echo.answer(now)
            heard += len(echo.heard(now))
    assert heard / 8000 == pytest.approx(rate * 11, rel=0.05)


def test_a_token_without_a_rate_is_not_held_up():
    echo = Echo(8000, "MULAW", account=Account("acme").pace)
    echo.stream.feed(bytes(8000 * 20), 0.0)
    heard = 0
    for step in range(2000):
        echo.answer(step / 1000)
        heard += len(echo.heard(step / 1000))
    assert heard == 8000 * 20
