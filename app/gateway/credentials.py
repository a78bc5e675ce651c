"""Who asks: the shared token, the keys, the sign-in cookie, and a bound on guessing.

The cookie holds neither token nor key: it is an expiry date, who signed in, and an HMAC under a key that is derived
from what they signed in with. Changing the token, or revoking the key, so ends the sessions that were begun with it.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import time
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path

from app.core.errors import StoreError
from app.core.ports import Clock
from app.services.access_keys import LOCAL, OWNER, PREFIX, AccessKey, AccessKeys, Visitor

COOKIE = "loupe_session"
SESSION_SECONDS = 30 * 24 * 3600
GUESSES = 10  # wrong tokens per address before it has to wait
GUESS_WINDOW = 300.0  # seconds
REMEMBERED_ADDRESSES = 4096
_KEY_FORM = PREFIX.encode()


class Refused(Exception):
    """Not let in: the sentence says why, and what to do."""


def shown_in(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """The secret that the headers show, as `Authorization: Bearer …` or `x-api-key: …`; None where there is none.

    Raises `Refused` for another scheme, an empty secret, and two that differ: nobody is to guess which one counts.
    """
    found: bytes | None = None
    for name, value in headers:
        if name == b"authorization":
            scheme, _, secret = value.strip().partition(b" ")
            if scheme.lower() != b"bearer":
                raise Refused("the Authorization header must be: Bearer KEY")
        elif name == b"x-api-key":
            secret = value
        else:
            continue
        secret = secret.strip()
        if not secret:
            raise Refused(f"the {name.decode()} header is empty; put a key into it")
        if found is not None and secret != found:
            raise Refused("the request shows two different keys; send one")
        found = secret
    return found


class Credentials:
    """What lets a request in. `private` is the token of `instance.json`, for the same user's command line; `seal` is
    what the sessions of keys are signed with, beside what is kept of the key.

    Nobody needs anything while there is no token and no key and only this machine can reach us (`loopback`).
    """

    def __init__(
        self, token: str | None, private: str | None, clock: Clock, keys: AccessKeys | None = None, *,
        seal: bytes = b"", loopback: bool = True,
    ) -> None:  # fmt: skip
        self._token = _digest(token.encode()) if token else None
        self._private = _digest(private.encode()) if private else None
        self._sign_key = hmac.digest((token or "").encode(), b"loupe sign-in cookie v1", "sha256")
        self._clock, self._keys, self._seal, self._loopback = clock, keys, seal, loopback

    @property
    def required(self) -> bool:
        return self._token is not None or not self._loopback or (self._keys is not None and self._keys.made)

    def may_be_guess(self, secret: bytes) -> bool:
        """Whether it may be a guess at the token, which a person chose. Nobody guesses what we have drawn."""
        return self._token is not None and not secret.startswith(_KEY_FORM) and not _is(_digest(secret), self._private)

    def visitor(self, secret: bytes) -> Visitor:
        """Whose it is. Raises `Refused`. All comparisons are in constant time."""
        key = self._keys.find(secret) if self._keys is not None else None
        if key is not None and self._keys is not None:
            visitor = self._keys.visitor(key.principal)
            if visitor is None:
                raise Refused(_revoked(key))
            return visitor
        shown = _digest(secret)
        if _is(shown, self._token) | _is(shown, self._private):
            return OWNER
        raise Refused("this key is not known here: it is mistyped, or was made for another Loupe")

    def signs_in(self, given: str) -> Visitor | None:
        """Who signs in at the page with the token or a key; None where it is neither."""
        secret = given.encode()
        if _is(_digest(secret), self._token):
            return OWNER
        key = self._keys.find(secret) if self._keys is not None else None
        return self._keys.visitor(key.principal) if key is not None and self._keys is not None else None

    def new_cookie(self, visitor: Visitor = OWNER) -> str:
        """A session of that visitor."""
        said = f"{int(self._clock.now()) + SESSION_SECONDS}"
        if visitor.principal != LOCAL:
            said += f"~{visitor.principal}"
        return f"{said}.{self._sign(said, visitor.principal)}"

    def visitor_of_cookie(self, value: str) -> Visitor | None:
        said, _, signature = value.rpartition(".")
        expires, _, principal = said.partition("~")
        if not (value.isascii() and expires.isdigit() and len(expires) < 16):
            return None
        if (wanted := self._sign(said, principal or LOCAL)) is None:
            return None
        genuine = hmac.compare_digest(signature.encode(), wanted.encode())
        if not genuine or int(expires) <= self._clock.now():
            return None
        return OWNER if not principal else self._keys.visitor(principal) if self._keys is not None else None

    def _sign(self, said: str, principal: str) -> str | None:
        """None where no session of that principal can be."""
        if principal == LOCAL:
            return hmac.new(self._sign_key, said.encode(), "sha256").hexdigest() if self._token is not None else None
        key = self._keys.key_of(principal) if self._keys is not None else None
        if key is None or not self._seal:
            return None
        return hmac.new(self._seal + bytes.fromhex(key.digest), said.encode(), "sha256").hexdigest()


def _revoked(key: AccessKey) -> str:
    day = time.strftime("%Y-%m-%d", time.gmtime(key.revoked_at))
    return f"the key {key.name!r} was revoked on {day}; ask whoever runs this Loupe for another"


def _is(shown: bytes, accepted: bytes | None) -> bool:
    return accepted is not None and hmac.compare_digest(shown, accepted)


def _digest(value: bytes) -> bytes:
    """Equal lengths for the comparison, whatever was sent."""
    return hashlib.sha256(value).digest()


def read_seal(folder: Path) -> bytes:
    """The random bytes that sign sessions, made at the first start. Raises `StoreError`. Blocks."""
    file = folder / "session-seal"
    try:
        with os.fdopen(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b") as opened:
            seal = opened.read(32)
            if len(seal) < 32:
                seal = os.urandom(32)
                opened.seek(0)
                opened.write(seal)
            return seal
    except OSError as problem:
        raise StoreError(f"{file} cannot be used: {problem.strerror}") from problem


class Guesses:
    """Counts wrong tokens by address. Bounded: the address that was quiet longest is forgotten first."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._wrong: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def wait(self, address: str) -> float:
        """Seconds until this address may try again; 0 if it may now."""
        count, since = self._wrong.get(address, (0, 0.0))
        left = since + GUESS_WINDOW - self._clock.monotonic()
        return max(0.0, left) if count >= GUESSES else 0.0

    def wrong(self, address: str) -> None:
        now = self._clock.monotonic()
        count, since = self._wrong.pop(address, (0, now))
        if now - since >= GUESS_WINDOW:
            count, since = 0, now
        self._wrong[address] = (count + 1, since)
        if len(self._wrong) > REMEMBERED_ADDRESSES:
            self._wrong.popitem(last=False)

    def right(self, address: str) -> None:
        self._wrong.pop(address, None)
