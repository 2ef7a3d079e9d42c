"""Who asks: bearer tokens from a file or signed by somebody we know (JWKS), and what each may use.

A token file is YAML, one token a key:

    # who may ask, and how much
    a-long-secret: {name: acme, max_streams: 200, max_rate: 400}

A JSON Web Token (RFC 7519) is checked against the keys of a JWKS (RFC 7517), a file or an https address; `sub` is its
name, and the claims `max_streams` and `max_rate` its limits.
"""

import asyncio
import hmac
import json
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import jwt
import yaml

from gateway.config import GrpcConfig
from gateway.control.renewal import Renewed
from gateway.control.stream_errors import StreamError
from gateway.control.stream_pace import Pace
from gateway.errors import ConfigError

log = logging.getLogger(__name__)

ALGORITHMS = ["RS256", "RS384", "RS512", "ES256", "ES384", "PS256", "PS384", "PS512", "EdDSA"]
"""Only asymmetric ones: a public key must never be taken for a secret."""
RATE_BURST_S = 1.0
LATELY = 1000
"""Accounts of signed tokens that are kept though nobody holds them: who comes again at once gets no new burst."""
KEYS_LAST_S = 300.0
"""A key that is withdrawn is taken no longer than this."""
FETCH_AGAIN_S = 10.0
"""Keys are not fetched again sooner, whatever tokens name and whether the server answered or not."""
FETCH_TIMEOUT_S = 5.0


@dataclass(slots=True, eq=False, weakref_slot=True)
class Account:
    """What one token uses and may use."""

    name: str
    max_streams: int = 0
    """At once; 0 is no limit."""
    max_rate: float = 0.0
    """Seconds of audio a second, over all its streams; 0 is no limit."""
    streams: int = 0
    pace: Pace = field(init=False)

    def __post_init__(self) -> None:
        self.pace = Pace(self.max_rate, RATE_BURST_S)

    def take_limits(self, new: "Account") -> None:
        """Of the same token, as it is described now; what is in use stays."""
        self.name, self.max_streams, self.max_rate = new.name, new.max_streams, new.max_rate
        self.pace.change(new.max_rate, RATE_BURST_S)

    def enter(self) -> None:
        """One stream more; raises StreamError."""
        if self.max_streams and self.streams >= self.max_streams:
            message = f"{self.name} has {self.streams} streams, all it may: end some, or ask for a higher max_streams"
            raise StreamError("RESOURCE_EXHAUSTED", message)
        self.streams += 1

    def leave(self) -> None:
        """One stream less."""
        self.streams -= 1


class Accounts:
    """All accounts."""

    def __init__(self, config: GrpcConfig, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises ConfigError when a file cannot be used."""
        self._config = config
        self._file = Renewed((config.tokens,), lambda: read_tokens(config), clock) if config.tokens else None
        self._read: dict[str, Account] = {}
        """What the token file said last."""
        self._tokens: dict[str, Account] = {}
        """The same, with the accounts that its tokens have had all along."""
        self._keys = jwks(config.jwks, clock) if config.jwks else None
        self._by_name: WeakValueDictionary[str, Account] = WeakValueDictionary()
        self._lately: deque[Account] = deque(maxlen=LATELY)
        self.open = not (config.tokens or config.jwks)
        """Nobody needs a token."""
        self._everybody = Account("everybody", config.max_streams, config.max_rate)

    async def of(self, authorization: str | None) -> Account:
        """The account of a request's `authorization`; raises StreamError."""
        if self.open:
            return self._everybody
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise StreamError("UNAUTHENTICATED", "no token: send the metadata 'authorization: Bearer TOKEN'")
        for known, account in (await self._listed()).items():
            if hmac.compare_digest(known.encode(), token.encode(errors="surrogateescape")):
                return account
        if self._keys is None:
            raise StreamError("UNAUTHENTICATED", "the token is not known: ask the operator of the gateway for one")
        return self._account(await self._verified(token, self._keys))

    async def _listed(self) -> dict[str, Account]:
        """The tokens of the file as it is now. One that is gone is not taken again; its streams run on."""
        found = await self._file.current() if self._file is not None else self._read
        if found is not self._read:
            self._read = found
            for token in found.keys() & self._tokens.keys():
                self._tokens[token].take_limits(found[token])
            self._tokens = {token: self._tokens.get(token, account) for token, account in found.items()}
        return self._tokens

    async def _verified(self, token: str, keys: "KeyServer | Renewed[jwt.PyJWKSet]") -> dict[str, Any]:
        try:
            name = jwt.get_unverified_header(token).get("kid", "")
            key = await keys.key(name) if isinstance(keys, KeyServer) else (await keys.current())[name]
            claims: dict[str, Any] = jwt.decode(
                token, key.key, ALGORITHMS, audience=self._config.jwks_audience, issuer=self._config.jwks_issuer,
                options={"require": ["exp", "sub"], "verify_aud": self._config.jwks_audience is not None},
            )  # fmt: skip
        except (jwt.PyJWTError, KeyError, ValueError, TypeError) as error:
            raise StreamError("UNAUTHENTICATED", f"the token is not valid ({error}): get a new one") from None
        return claims

    def _account(self, claims: dict[str, Any]) -> Account:
        """Accounts of signed tokens live as long as somebody holds them: a stream, or a connection for many."""
        name = str(claims["sub"])[:128]
        account = self._by_name.get(name)
        if account is None:
            limits = (claims.get("max_streams"), claims.get("max_rate"))
            streams = limits[0] if isinstance(limits[0], int) else self._config.max_streams
            rate = float(limits[1]) if isinstance(limits[1], int | float) else self._config.max_rate
            account = self._by_name[name] = Account(name, streams, rate)
            self._lately.append(account)
        return account


class KeyServer:
    """The keys at an https address. A token whose key is known waits for nobody; the others share one fetch."""

    def __init__(self, address: str, clock: Callable[[], float] = time.monotonic) -> None:
        # the library's own caches keep a key for ever, and ask a server that does not answer for every token
        self._client = jwt.PyJWKClient(address, cache_jwk_set=False, timeout=FETCH_TIMEOUT_S)
        self._clock = clock
        self._fetching = asyncio.Lock()
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_s = self._tried_s = -inf

    async def key(self, name: str) -> jwt.PyJWK:
        """The one that a token names (`kid`). Raises KeyError when there is none, StreamError when nobody knows."""
        if (known := self._known(name)) is not None:
            return known
        async with self._fetching:
            if self._known(name) is None and self._clock() - self._tried_s >= FETCH_AGAIN_S:
                await self._fetch()
        if (known := self._known(name)) is not None:
            return known
        if self._tried_s > self._fetched_s:
            raise StreamError("UNAVAILABLE", "the key server does not answer: try again")
        raise KeyError(name)

    def _known(self, name: str) -> jwt.PyJWK | None:
        return self._keys.get(name) if self._clock() - self._fetched_s < KEYS_LAST_S else None

    async def _fetch(self) -> None:
        try:
            keys = await asyncio.to_thread(self._client.get_signing_keys)
        except (jwt.PyJWTError, OSError, ValueError) as error:
            if self._tried_s <= self._fetched_s:
                log.error("key server does not answer", extra={"error": str(error)})
            self._tried_s = self._clock()
        else:
            self._keys = {str(key.key_id): key for key in keys}
            self._tried_s = self._fetched_s = self._clock()


def read_tokens(config: GrpcConfig) -> dict[str, Account]:
    """The token file; raises ConfigError."""
    path = Path(config.tokens or "")
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"grpc.tokens: {path}: {getattr(error, 'strerror', None) or 'not valid YAML'}") from None
    if not isinstance(tree, dict) or not tree:
        raise ConfigError(f"grpc.tokens: {path}: expected lines such as 'a-long-secret: {{name: acme}}'")
    return {str(token): _known(path, number, limits, config) for number, (token, limits) in enumerate(tree.items())}


def _known(path: Path, number: int, limits: object, config: GrpcConfig) -> Account:
    """One token's account. Messages do not name the token: it is a secret."""
    limits = {} if limits is None else limits
    right: dict[object, tuple[type, ...]] = {"name": (str,), "max_streams": (int,), "max_rate": (int, float)}
    which = f"grpc.tokens: {path}: token {number + 1}"
    if not isinstance(limits, dict) or any(type(limits[key]) not in right.get(key, ()) for key in limits):
        raise ConfigError(f"{which}: expected name, max_streams, max_rate, or nothing")
    if not all(0 <= limits.get(key, 0) < inf for key in ("max_streams", "max_rate")):
        raise ConfigError(f"{which}: max_streams and max_rate are 0 (no limit) or more")
    return Account(
        limits.get("name", f"token {number + 1}"),
        limits.get("max_streams", config.max_streams),
        float(limits.get("max_rate", config.max_rate)),
    )


def jwks(place: str, clock: Callable[[], float]) -> KeyServer | Renewed[jwt.PyJWKSet]:
    """The keys at an https address, fetched when they are needed, or in a file; raises ConfigError."""
    if place.startswith("https://"):
        return KeyServer(place, clock)
    return Renewed((place,), lambda: read_keys(place), clock)


def read_keys(place: str) -> jwt.PyJWKSet:
    """A file of keys; raises ConfigError."""
    try:
        return jwt.PyJWKSet.from_dict(json.loads(Path(place).read_text(encoding="utf-8")))
    except (OSError, ValueError, jwt.PyJWTError, AttributeError, TypeError) as error:
        # the library takes what it finds for keys
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"grpc.jwks: {place}: {reason}; expected a JWKS file or an https address") from None
