"""Ollama's model names: `[scheme://][host/][namespace/]model[:tag]`.

Source: types/model/name.go of Ollama 0.33 (protocol 6.1) and the recordings bad_name_* and missing_*.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from app.core.errors import BadRequest, NotAllowed
from app.wire.go_duration import quote_go

DEFAULT_HOST, DEFAULT_NAMESPACE, DEFAULT_TAG = "registry.ollama.ai", "library", "latest"

_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}")
_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}")
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")


@dataclass(frozen=True, slots=True)
class ModelName:
    """A name with all of its parts. `parse` fills in the defaults; nothing is checked until `is_valid`."""

    host: str
    namespace: str
    model: str
    tag: str
    scheme: str = "https"

    @property
    def is_valid(self) -> bool:
        return bool(
            _HOST.fullmatch(self.host)
            and _NAMESPACE.fullmatch(self.namespace)
            and _PART.fullmatch(self.model)
            and _PART.fullmatch(self.tag)
        )

    @property
    def full(self) -> str:
        """host/namespace/model:tag, as in "… does not support tools"."""
        return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"

    @property
    def shortest(self) -> str:
        """As /api/tags shows it: default host and namespace left out, the tag always there."""
        if self.host.casefold() != DEFAULT_HOST:
            return self.full
        if self.namespace.casefold() != DEFAULT_NAMESPACE:
            return f"{self.namespace}/{self.model}:{self.tag}"
        return f"{self.model}:{self.tag}"

    @property
    def folded(self) -> tuple[str, str, str, str]:
        """What two spellings of one name have in common (names are case-insensitive)."""
        return (self.host.casefold(), self.namespace.casefold(), self.model.casefold(), self.tag.casefold())

    @property
    def parts(self) -> tuple[str, str, str, str]:
        return (self.host, self.namespace, self.model, self.tag)


def parse_name(text: str) -> ModelName:
    """The parts of `text` with defaults filled in. Never fails: ask `is_valid`."""
    scheme, found, rest = text.partition("://")
    if not found:
        scheme, rest = "https", text
    head, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        head, tag = rest, DEFAULT_TAG
    before, _, model = head.rpartition("/")
    if "/" not in head:
        return ModelName(DEFAULT_HOST, DEFAULT_NAMESPACE, model, tag, scheme)
    host, slash, namespace = before.rpartition("/")
    return ModelName(host if slash else DEFAULT_HOST, namespace, model, tag, scheme)


def parse_reference(text: str, *, feature: str = "remote inference is unavailable") -> ModelName:
    """A name as the inference routes take it: spaces around it dropped, `:local` and `:cloud` understood.

    Raises `BadRequest` for an invalid name, `NotAllowed` for a cloud model (this server has no cloud).
    """
    name = text.strip()
    trimmed, source = _without_source(name)
    if source and _without_source(trimmed)[1]:
        raise BadRequest(f"use either :local or :cloud, not both: {quote_go(name)}", "model")
    if source == "cloud":
        raise NotAllowed(f"ollama cloud is disabled: {feature}")
    return checked(parse_name(trimmed))


@lru_cache(1024)
@lru_cache(1024)
def names_cloud(text: str) -> bool:
    """Whether the name alone says that Ollama's cloud is to answer: `model:cloud`, `model:120b-cloud`."""
    return _without_source(text.strip())[1] == "cloud"


def _without_source(name: str) -> tuple[str, str]:
    head, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:
        return name, ""
    if tag.casefold() in ("cloud", "local"):
        return head, tag.casefold()
    if tag.casefold().endswith("-cloud"):
        return f"{head}:{tag[: -len('-cloud')]}", "cloud"
    return name, ""


def checked(name: ModelName) -> ModelName:
    """`name` itself, or `BadRequest` with Ollama's sentence."""
    if not name.is_valid:
        raise BadRequest("invalid model name", "model")
    return name
