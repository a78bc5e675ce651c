"""Ollama's model names: `[scheme://][host/][namespace/]model[:tag]`. Standard library only.

Source: types/model/name.go of Ollama 0.33. Names are compared without regard to case; what is on disk keeps its case.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

DEFAULT_HOST, DEFAULT_NAMESPACE, DEFAULT_TAG = "registry.ollama.ai", "library", "latest"

_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}")
_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}")
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")


@dataclass(frozen=True, slots=True)
class ModelName:
    """A name with all of its parts; nothing is checked until `is_valid`."""

    host: str
    namespace: str
    model: str
    tag: str

    @property
    def is_valid(self) -> bool:
        return bool(
            _HOST.fullmatch(self.host)
            and _NAMESPACE.fullmatch(self.namespace)
            and _PART.fullmatch(self.model)
            and _PART.fullmatch(self.tag)
        )

    @property
    def shortest(self) -> str:
        """As `/api/tags` shows it: default host and namespace left out, the tag always there."""
        if self.host.casefold() != DEFAULT_HOST:
            return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"
        if self.namespace.casefold() != DEFAULT_NAMESPACE:
            return f"{self.namespace}/{self.model}:{self.tag}"
        return f"{self.model}:{self.tag}"

    @property
    def folded(self) -> tuple[str, str, str, str]:
        """What all spellings of one name have in common."""
        return (self.host.casefold(), self.namespace.casefold(), self.model.casefold(), self.tag.casefold())


def parse_name(text: str) -> ModelName:
    """The parts of `text` with defaults filled in. Never fails: ask `is_valid`."""
    _, found, rest = text.partition("://")
    rest = rest if found else text
    head, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        head, tag = rest, DEFAULT_TAG
    before, slash, model = head.rpartition("/")
    if not slash:
        return ModelName(DEFAULT_HOST, DEFAULT_NAMESPACE, model, tag)
    host, slash, namespace = before.rpartition("/")
    return ModelName(host if slash else DEFAULT_HOST, namespace, model, tag)


def same_model(one: str, other: str) -> bool:
    """Whether two spellings mean the same model: `x`, `X:latest` and `registry.ollama.ai/library/x` do."""
    return parse_name(one).folded == parse_name(other).folded
