"""The shared token: checking what a client shows, the sign-in cookie, and a bound on guessing.

The cookie never holds the token: it is an expiry date and its HMAC under a key derived from the token, so changing the
token ends every session and nothing needs to be stored.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict

from app.core.ports import Clock

COOKIE = "loupe_session"
SESSION_SECONDS = 30 * 24 * 3600
GUESSES = 10  # wrong tokens per address before it has to wait
GUESS_WINDOW = 300.0  # seconds
REMEMBERED_ADDRESSES = 4096


class Credentials:
    """What lets a request in when LOUPE_TOKEN is set. `private` is the token of `instance.json`, for the same user's
    command line."""

    def __init__(self, token: str | None, private: str | None, clock: Clock) -> None:
        self._accepted = tuple(_digest(value) for value in (token, private) if value)
        self._key = hmac.digest((token or "").encode(), b"loupe sign-in cookie v1", "sha256")
        self._token = _digest(token) if token else None
        self._clock = clock
        self.required = token is not None

    def bearer_is_right(self, header: str) -> bool:
        """`Authorization: Bearer …`, compared in constant time."""
        scheme, _, given = header.partition(" ")
        shown = _digest(given.strip())
        matches = [hmac.compare_digest(shown, accepted) for accepted in self._accepted]
        return scheme.lower() == "bearer" and any(matches)

    def token_is_right(self, given: str) -> bool:
        return self._token is not None and hmac.compare_digest(_digest(given), self._token)

    def new_cookie(self) -> str:
        expires = str(int(self._clock.now()) + SESSION_SECONDS)
        return f"{expires}.{self._sign(expires)}"

    def cookie_is_right(self, value: str) -> bool:
        expires, _, signature = value.partition(".")
        if not (expires.isascii() and expires.isdigit() and len(expires) < 16):
            return False
        genuine = hmac.compare_digest(signature.encode(), self._sign(expires).encode())
        return genuine and int(expires) > self._clock.now()

    def _sign(self, expires: str) -> str:
        return hmac.new(self._key, expires.encode(), "sha256").hexdigest()


def _digest(value: str) -> bytes:
    """Equal lengths for the comparison, whatever was sent."""
    return hashlib.sha256(value.encode("utf-8", "surrogateescape")).digest()


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
