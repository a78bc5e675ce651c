"""Environment variables as Ollama reads them: trimmed of spaces and quotes; what cannot be read counts as not set.

Source: envconfig of Ollama 0.33 and Go's strconv. Where Ollama passes a bad value over in silence, `warnings` names it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from app.core.errors import BadRequest
from app.wire.go_duration import FOREVER, parse_duration

_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_UNSIGNED = re.compile(r"[0-9]{1,20}", re.ASCII)
_SIGNED = re.compile(r"[+-]?[0-9]{1,19}", re.ASCII)
_LARGEST = 2**64 - 1


class GoEnvironment:
    """Reads `variables`. `warnings` are whole sentences, in the order in which the variables were asked for."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        self.warnings: list[str] = []

    def text(self, name: str) -> str:
        return self._variables.get(name, "").strip().strip("\"'")

    def unsigned(self, name: str, default: int) -> int:
        text = self.text(name)
        if not text:
            return default
        if _UNSIGNED.fullmatch(text) and int(text) <= _LARGEST:
            return int(text)
        return self._not_read(name, text, "a whole number from 0 up", default)

    def flag(self, name: str) -> bool | None:
        """None where it is not set; a word that is neither yes nor no is a yes."""
        text = self.text(name)
        if not text:
            return None
        if text not in _TRUE | _FALSE:
            self.warnings.append(f"{name}={text!r} is neither 1 nor 0, which counts as 1")
        return text not in _FALSE

    def duration(self, name: str, default: int) -> int:
        """Nanoseconds; below 0 for ever. A number without a unit is seconds."""
        text = self.text(name)
        if not text:
            return default
        try:
            value = parse_duration(text)
        except BadRequest:
            if not _SIGNED.fullmatch(text):
                return self._not_read(name, text, "10m, 1h30m or a number of seconds", default)
            value = int(text) * 10**9
        return FOREVER if value < 0 else min(value, FOREVER)

    def _not_read(self, name: str, text: str, allowed: str, default: int) -> int:
        self.warnings.append(f"{name}={text!r} is not {allowed}, and is passed over")
        return default
