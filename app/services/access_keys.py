"""The keys by which clients come in: made, listed, revoked, and found again by what a client shows.

A key is shown once, when it is made. What is kept of it is its SHA-256, which is enough for a secret of 256 random
bits, in `keys.json` of the data folder. Once a key has been made everybody needs one (or LOUPE_TOKEN), also after the
last one was revoked: taking a key away never opens the door. `forget_all` does, on purpose.
"""

from __future__ import annotations

import hmac
import re
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

from app.core.errors import BadRequest, StoreError
from app.core.generation import Json
from app.core.ports import Clock
from app.services.key_errors import KeyNotFound
from app.services.key_file import FILE, read_keys, write_keys
from app.services.watched_host import canonical

LOCAL = "local"
PREFIX = "loupe_"
HINT = len(PREFIX) + 4  # characters of a key that stay readable in lists
LIMITS = ("per_minute", "at_once", "tokens_a_day")
MOST_KEYS, MOST_MODELS, MOST_KEY_BYTES = 1000, 200, 512
_NAME = re.compile(r"[\w][\w .@+-]{0,63}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_PATTERN = re.compile(r"[\w*./:-]{1,200}")


class KeyScope(StrEnum):
    """What a key is for. Each one may do what those before it may."""

    READ = "read"
    INFER = "infer"
    ADMIN = "admin"

    def covers(self, needed: KeyScope) -> bool:
        return _RANKS[self] >= _RANKS[needed]


_RANKS = {scope: rank for rank, scope in enumerate(KeyScope)}


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """Of the requests that a model answers: how many a minute and at once; tokens, read and written, a day (UTC). None:
    as many as one likes."""

    per_minute: int | None = None
    at_once: int | None = None
    tokens_a_day: int | None = None


@dataclass(frozen=True, slots=True)
class KeyWish:
    """A key as it is asked for. `models` are names, or patterns with `*`; none means every model."""

    name: str
    scope: KeyScope = KeyScope.INFER
    models: tuple[str, ...] = ()
    limits: KeyLimits = KeyLimits()

    def check(self) -> None:
        """Raises `BadRequest` naming what is wrong."""
        if not _NAME.fullmatch(self.name):
            raise BadRequest("name: 1 to 64 letters, digits, spaces or . @ + - _, a letter or digit first", "name")
        if wrong := [model for model in self.models if not _PATTERN.fullmatch(model)]:
            raise BadRequest(f"models: {wrong[0][:80]!r} is no model name, nor a pattern like qwen2.5:*", "models")
        if len(self.models) > MOST_MODELS:
            raise BadRequest(f"models: at most {MOST_MODELS}; a pattern like qwen2.5:* stands for many", "models")
        if self.models and self.scope is KeyScope.ADMIN:
            raise BadRequest("an admin key cannot be kept to some models: it may make itself another key", "models")
        for field in LIMITS:
            limit = getattr(self.limits, field)
            if limit is not None and not 1 <= limit <= 10**12:
                raise BadRequest(f"{field} must be a whole number above 0, or be left out", field)


@dataclass(frozen=True, slots=True)
class AccessKey:
    """One key. `digest` is the SHA-256 of it in hex, `hint` its beginning; times in seconds since the epoch."""

    id: str
    name: str
    scope: KeyScope
    models: tuple[str, ...]
    limits: KeyLimits
    digest: str
    hint: str
    created_at: float
    revoked_at: float | None = None

    @property
    def principal(self) -> str:
        """Under this it owns conversations and cache entries, and counts for fairness."""
        return f"key:{self.id}"

    def told(self) -> dict[str, Json]:
        """What may be told of it: neither the key nor its digest."""
        models: list[Json] = list(self.models)
        limits: dict[str, Json] = {name: getattr(self.limits, name) for name in LIMITS}
        return {
            "id": self.id, "name": self.name, "scope": str(self.scope), "models": models, "limits": limits,
            "hint": self.hint, "created_at": self.created_at, "revoked_at": self.revoked_at,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who has come in, and what they may do. `models` are patterns; none means every model."""

    principal: str
    name: str
    scope: KeyScope
    models: tuple[str, ...] = ()

    def may_use(self, model: str) -> bool:
        return not self.models or _matches(self.models, model)


OWNER = Visitor(LOCAL, "the local user", KeyScope.ADMIN)
"""Everyone on this machine while nobody needs a key, and whoever holds the token."""
STRANGER = Visitor("nobody", "nobody", KeyScope.READ)
"""Who has shown nothing, on a route that is open to all."""


@lru_cache(4096)
def _matches(patterns: tuple[str, ...], model: str) -> bool:
    name = canonical(model.strip())
    return any(_pattern(pattern).fullmatch(name) for pattern in patterns)


@lru_cache(1024)
def _pattern(pattern: str) -> re.Pattern[str]:
    """`qwen2.5:*`; a `*` at the end also stands for any tag."""
    written = pattern.strip().lower()
    whole = written if written.endswith("*") else canonical(written)
    return re.compile(".*".join(re.escape(part) for part in whole.split("*")))


class AccessKeys:
    """All keys of one data folder. Reading is for any thread and costs no I/O; changing blocks (it writes the file).

    `token`: the owner can come in without a key. `people` knows those who sign in at an identity provider.
    """

    def __init__(
        self, folder: Path, clock: Clock, *, token: bool = False, people: Callable[[str], Visitor | None] | None = None
    ) -> None:
        self._people = people
        self._file, self._clock, self._token = folder / FILE, clock, token
        self._changing = threading.Lock()
        self._keys: tuple[AccessKey, ...] = ()
        self._by_digest: dict[str, AccessKey] = {}
        self._by_principal: dict[str, AccessKey] = {}
        self._visitors: dict[str, Visitor] = {}

    def load(self) -> None:
        """Raises `StoreError` where there is a file that cannot be read: then nobody may come in."""
        with self._changing:
            try:
                self._take(tuple(_key(row) for row in read_keys(self._file)))
            except (KeyError, TypeError, ValueError) as error:
                raise StoreError(
                    f"{self._file} is damaged; bring it back from a backup, or remove it to begin anew without keys"
                ) from error

    def _take(self, keys: tuple[AccessKey, ...]) -> None:
        """Each assignment is of a whole: a reader in between sees an old table or a new one."""
        active = [key for key in keys if key.revoked_at is None]
        self._by_principal = {key.principal: key for key in keys}
        self._by_digest = {key.digest: key for key in keys}
        self._visitors = {key.principal: Visitor(key.principal, key.name, key.scope, key.models) for key in active}
        self._keys = keys

    @property
    def made(self) -> bool:
        """Whether a key was ever made here, and so everybody needs one."""
        return bool(self._keys)

    def list(self) -> tuple[AccessKey, ...]:
        """All of them, the revoked ones too, the newest first."""
        return self._keys[::-1]

    def find(self, shown: bytes) -> AccessKey | None:
        """The key that a client shows, also a revoked one. The table is looked up by a digest, whose first bytes nobody
        can choose, and the whole is compared in constant time."""
        if len(shown) > MOST_KEY_BYTES:
            return None
        digest = sha256(shown).hexdigest()
        key = self._by_digest.get(digest)
        return key if key is not None and hmac.compare_digest(key.digest, digest) else None

    def visitor(self, principal: str) -> Visitor | None:
        """Who that is; None where the key was revoked."""
        if principal == LOCAL:
            return OWNER
        found = self._visitors.get(principal)
        return self._people(principal) if found is None and self._people is not None else found

    def key_of(self, principal: str) -> AccessKey | None:
        """The key behind a principal, also a revoked one."""
        return self._by_principal.get(principal)

    def named(self, flow: str) -> str:
        """A flow as people are told it: that of a key by the key's name."""
        key = self._by_principal.get(flow)
        return f"key {key.name}" if key is not None else flow

    def create(self, wish: KeyWish) -> tuple[AccessKey, str]:
        """The key, and the secret that nobody can show again. Raises `BadRequest` or `StoreError`."""
        wish.check()
        with self._changing:
            active = [key for key in self._keys if key.revoked_at is None]
            if any(key.name == wish.name for key in active):
                raise BadRequest(f"there is a key named {wish.name!r} already; revoke it, or take another name", "name")
            if len(self._keys) >= MOST_KEYS:
                raise BadRequest(f"there are {MOST_KEYS} keys, the revoked ones counted; no more are kept", "name")
            if not (self._token or wish.scope is KeyScope.ADMIN or any(_administers(key) for key in active)):
                raise BadRequest(
                    "the first key must be one of scope admin, for yourself: from then on everybody needs a key, also "
                    "your browser (set LOUPE_TOKEN to sign in with that instead)",
                    "scope",
                )
            secret = PREFIX + secrets.token_urlsafe(32)
            key = AccessKey(
                secrets.token_hex(4), wish.name, wish.scope, tuple(wish.models), wish.limits,
                sha256(secret.encode()).hexdigest(), secret[:HINT], self._clock.now(),
            )  # fmt: skip
            self._write((*self._keys, key))
        return key, secret

    def revoke(self, which: str) -> AccessKey:
        """By id, or by name among those that are not revoked. Raises `KeyNotFound` or `StoreError`."""
        with self._changing:
            active = [key for key in self._keys if key.revoked_at is None]
            found = next((key for key in active if which in (key.id, key.name)), None)
            if found is None:
                raise KeyNotFound(which)
            gone = replace(found, revoked_at=self._clock.now())
            self._write(tuple(gone if key is found else key for key in self._keys))
        return gone

    def forget_all(self) -> int:
        """Every key is gone as if there had been none; how many there were. Raises `StoreError`."""
        with self._changing:
            count = len(self._keys)
            self._write(())
        return count

    def _write(self, keys: tuple[AccessKey, ...]) -> None:
        write_keys(self._file, [_row(key) for key in keys])
        self._take(keys)


def _administers(key: AccessKey) -> bool:
    return key.scope is KeyScope.ADMIN


def _row(key: AccessKey) -> dict[str, Json]:
    return {**key.told(), "sha256": key.digest}


def _key(row: dict[str, Json]) -> AccessKey:
    """Raises KeyError, TypeError or ValueError for what `_row` has not written."""
    limits, models = row["limits"], row["models"]
    if not (isinstance(limits, dict) and isinstance(models, list) and _DIGEST.fullmatch(_text(row, "sha256"))):
        raise ValueError("not a key")
    return AccessKey(
        _text(row, "id"), _text(row, "name"), KeyScope(_text(row, "scope")), tuple(str(model) for model in models),
        KeyLimits(**{name: _limit(limits.get(name)) for name in LIMITS}),
        _text(row, "sha256"), _text(row, "hint"), _moment(row["created_at"]),
        None if row["revoked_at"] is None else _moment(row["revoked_at"]),
    )  # fmt: skip


def _text(row: dict[str, Json], name: str) -> str:
    value = row[name]
    if not isinstance(value, str):
        raise TypeError(name)
    return value


def _limit(value: Json) -> int | None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise TypeError("limit")
    return value


def _moment(value: Json) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError("moment")
    return float(value)
