"""How the words of a setting become a value: sizes, lists of host names, lists of origins."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable
from typing import Annotated
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(I?)B?", re.IGNORECASE)
_PERSON = re.compile(r"[^@\s,]{0,64}@[a-z0-9-]+(?:\.[a-z0-9-]+)*")
_HOST_ENTRY = re.compile(r"(?:\[[0-9a-f:.]+\]|[a-z0-9_](?:[a-z0-9._-]*[a-z0-9_])?)(?::[0-9]{1,5})?")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_ORIGIN = re.compile(r"https?://(?:\[[0-9a-f:.]+\]|[a-z0-9_](?:[a-z0-9._-]*[a-z0-9_])?)(?::[0-9]{1,5})?")


def _bytes(value: object) -> object:
    """`64MiB`, `1.5G`, `1000000`: sizes for people, powers of 1024 unless written as kB, MB, GB."""
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        return value
    number, unit, binary = match.groups()
    power = " KMGT".index(unit.upper() or " ")
    decimal = bool(unit) and not binary and isinstance(value, str) and value.strip().upper().endswith("B")
    return int(float(number) * (1000 if decimal else 1024) ** power)


def _words(pattern: re.Pattern[str]) -> Callable[[object], object]:
    def split(value: object) -> object:
        words = value.split(",") if isinstance(value, str) else value
        if not isinstance(words, list | tuple) or not all(isinstance(word, str) for word in words):
            raise ValueError("it is not a list of words")
        kept = tuple(_bracketed(word.strip().lower().rstrip("/")) for word in words if word.strip())
        for word in kept:
            if not pattern.fullmatch(word):
                raise ValueError(f"{word!r} is not one of them")
        return kept

    return split


def web_address(value: str) -> str:
    """Without a slash at the end. Raises `ValueError` for what browsers cannot be sent to, or what others could read
    on its way: plain http is for this machine alone."""
    url = urlsplit(value)
    if url.scheme not in ("http", "https") or not url.hostname or url.username is not None or url.query or url.fragment:
        raise ValueError("it is not a web address")
    _ = url.port  # raises where it is none
    if url.scheme == "http" and url.hostname not in ("127.0.0.1", "localhost", "::1"):
        raise ValueError("it must begin with https://, except on this machine")
    return value.rstrip("/")


def collector_url(value: str) -> str:
    """Raises `ValueError` for what is no base address of a collector."""
    url = urlsplit(value)
    if url.scheme not in ("http", "https") or not url.hostname or url.username is not None or url.query or url.fragment:
        raise ValueError("it is not the address of a collector")
    _ = url.port  # raises where it is none
    return value


def webhook_key(secret: str) -> bytes:
    """What messages are signed with: behind whsec_ the secret is base64, as Standard Webhooks has it. Raises
    `ValueError`."""
    if not 8 <= len(secret) <= 512:
        raise ValueError("it is too short or too long")
    if not secret.startswith("whsec_"):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        raise ValueError("what follows whsec_ is no base64") from None


def _receiver(value: SecretStr) -> SecretStr:
    url = urlsplit(value.get_secret_value())
    if url.scheme not in ("http", "https") or not url.hostname or url.username is not None or url.fragment:
        raise ValueError("it is not the address of a webhook")
    _ = url.port  # raises where it is none
    return value


def _signing(value: SecretStr) -> SecretStr:
    webhook_key(value.get_secret_value())
    return value


def header_pairs(value: str) -> dict[str, str]:
    """`name=value,name=value`, values percent-encoded, as OpenTelemetry has it. Raises `ValueError`."""
    pairs = {}
    for word in filter(None, (part.strip() for part in value.split(","))):
        name, equals, text = word.partition("=")
        decoded = unquote(text.strip())
        if not (equals and _HEADER_NAME.fullmatch(name.strip()) and decoded.isascii() and decoded.isprintable()):
            raise ValueError("one of them is not name=value")
        pairs[name.strip().lower()] = decoded
    return pairs


def _bracketed(word: str) -> str:
    """A bare IPv6 address as it stands in a Host header."""
    try:
        return f"[{ipaddress.IPv6Address(word)}]"
    except ValueError:
        return word


Size = Annotated[int, BeforeValidator(_bytes)]
Seconds = Annotated[float, Field(allow_inf_nan=False)]
HostWords = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words(_HOST_ENTRY))]
PersonWords = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words(_PERSON))]
OriginWords = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words(_ORIGIN))]
WebhookUrl = Annotated[SecretStr, AfterValidator(_receiver)]
WebhookSecret = Annotated[SecretStr, AfterValidator(_signing)]
