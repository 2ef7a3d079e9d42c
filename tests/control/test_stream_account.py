"""Accounts: who may ask and how much, and what is said of files that cannot be used."""

import asyncio
import gc
import json
import time

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from gateway.config import GrpcConfig
from gateway.control import stream_account
from gateway.control.renewal import LOOK_S
from gateway.control.stream_account import FETCH_AGAIN_S, KEYS_LAST_S, Account, Accounts, KeyServer
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


@pytest.mark.parametrize(
    "said", [None, "", "Bearer", f"Basic {SECRET}", f"Bearer {SECRET}x", SECRET, "Bearer \u00e4", "Bearer \udce4"]
)
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


class Clock:
    """Stands until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def refused(known: Accounts, token: str) -> bool:
    try:
        await known.of(f"Bearer {token}")
    except StreamError as error:
        return error.status == "UNAUTHENTICATED"
    return False


async def test_a_changed_token_file_is_taken_and_what_its_tokens_use_stays(tmp_path):
    path, clock = tmp_path / "tokens.yaml", Clock()
    path.write_text("stays: {max_streams: 1, max_rate: 2}\ngoes:\n")
    known = Accounts(GrpcConfig(tokens=str(path)), clock)
    before = await known.of("Bearer stays")
    before.enter()
    before.pace.take(60.0, now=0.0)
    path.write_text("stays: {name: acme, max_streams: 2, max_rate: 4}\ncomes:\n")
    assert not await refused(known, "goes") and await refused(known, "comes")
    clock.now = LOOK_S
    assert await refused(known, "goes") and not await refused(known, "comes")
    after = await known.of("Bearer stays")
    assert after is before and (after.name, after.max_streams, after.streams) == ("acme", 2, 1)
    assert not after.pace.permits(0.0)
    after.enter()


async def test_a_token_file_that_breaks_keeps_the_tokens_and_is_named_once(tmp_path, caplog):
    path, clock = tmp_path / "tokens.yaml", Clock()
    path.write_text(f"{SECRET}:\n")
    known = Accounts(GrpcConfig(tokens=str(path)), clock)
    path.write_text(f"{SECRET}: [name\n")
    for clock.now in (LOOK_S, 2 * LOOK_S, 3 * LOOK_S):
        assert not await refused(known, SECRET) and await refused(known, "another")
    (record,) = caplog.records
    assert "not valid YAML" in record.error and SECRET not in record.error
    path.unlink()
    clock.now += LOOK_S
    assert not await refused(known, SECRET)


async def test_a_changed_jwks_file_is_taken(tmp_path):
    issuer, clock, path = Issuer(), Clock(), tmp_path / "jwks.json"
    path.write_text(json.dumps(issuer._fetch()))
    issuer.accounts = Accounts(GrpcConfig(jwks=str(path)), clock)
    await issuer.account()
    issuer.published = ["second"]
    path.write_text(json.dumps(issuer._fetch()))
    clock.now = LOOK_S
    assert await issuer.refusal() == "UNAUTHENTICATED"
    await issuer.account(key="second")


class Issuer:
    """Signs tokens, and is the server of their keys: reachable or not, and with a clock of its own."""

    def __init__(self) -> None:
        self.now, self.fetches, self.answers = 0.0, 0, True
        self._private = {name: ed25519.Ed25519PrivateKey.generate() for name in ("first", "second")}
        self.published = ["first"]
        self.accounts = Accounts(GrpcConfig(jwks="https://login.example.com/jwks.json"))
        self.accounts._keys = KeyServer("https://login.example.com/jwks.json", lambda: self.now)
        self.accounts._keys._client.fetch_data = self._fetch

    def _fetch(self) -> dict:
        self.fetches += 1
        if not self.answers:
            raise jwt.PyJWKClientConnectionError("timed out")
        to_jwk = jwt.algorithms.OKPAlgorithm.to_jwk
        public = {name: to_jwk(key.public_key(), as_dict=True) for name, key in self._private.items()}
        return {"keys": [public[name] | {"kid": name, "use": "sig", "alg": "EdDSA"} for name in self.published]}

    async def account(self, key: str = "first", kid: str | None = None, sub: str = "acme", **claims) -> Account:
        body = {"sub": sub, "exp": time.time() + 600, **claims}
        token = jwt.encode(body, self._private[key], "EdDSA", headers={"kid": kid or key})
        return await self.accounts.of(f"Bearer {token}")

    async def refusal(self, **token) -> str:
        with pytest.raises(StreamError) as caught:
            await self.account(**token)
        return caught.value.status


async def test_a_key_that_is_withdrawn_is_not_taken_for_ever_and_a_new_one_soon():
    issuer = Issuer()
    await issuer.account()
    issuer.published = ["second"]
    issuer.now = FETCH_AGAIN_S
    await issuer.account(key="second")
    assert await issuer.refusal() == "UNAUTHENTICATED"
    issuer.published = []
    issuer.now += KEYS_LAST_S
    assert await issuer.refusal(key="second") == "UNAVAILABLE"  # a server without keys is broken


async def test_a_key_server_that_does_not_answer_is_no_fault_of_the_token_and_is_not_asked_for_each():
    issuer = Issuer()
    await issuer.account()
    issuer.now, issuer.answers = FETCH_AGAIN_S, False
    for _ in range(20):
        assert await issuer.refusal(kid="invented") == "UNAVAILABLE"
    assert issuer.fetches == 2
    await issuer.account()
    issuer.now, issuer.answers = 2 * FETCH_AGAIN_S, True
    for _ in range(20):
        assert await issuer.refusal(kid="invented") == "UNAUTHENTICATED"
    assert issuer.fetches == 3


async def test_a_token_whose_key_is_known_does_not_wait_for_a_fetch_and_the_others_share_one(monkeypatch):
    issuer = Issuer()
    await issuer.account()
    issuer.now = FETCH_AGAIN_S
    hangs = asyncio.Event()

    async def fetch_slowly(work):
        await hangs.wait()
        return work()

    monkeypatch.setattr(stream_account.asyncio, "to_thread", fetch_slowly)
    strangers = [asyncio.ensure_future(issuer.refusal(kid="invented")) for _ in range(20)]
    await asyncio.sleep(0)
    await asyncio.wait_for(issuer.account(), 1)
    hangs.set()
    assert await asyncio.gather(*strangers) == ["UNAUTHENTICATED"] * 20 and issuer.fetches == 2


async def test_an_account_is_one_as_long_as_somebody_holds_it(monkeypatch):
    monkeypatch.setattr(stream_account, "LATELY", 2)
    issuer = Issuer()
    held = await issuer.account(max_streams=1)
    for number in range(20):
        await issuer.account(sub=f"other {number}")
    assert await issuer.account() is held
    del held
    gc.collect()
    assert len(issuer.accounts._by_name) <= 3


async def test_who_comes_again_gets_no_new_burst():
    issuer = Issuer()
    (await issuer.account(max_rate=2.0)).pace.take(60.0, now=0.0)
    gc.collect()
    assert not (await issuer.account(max_rate=2.0)).pace.permits(0.0)
