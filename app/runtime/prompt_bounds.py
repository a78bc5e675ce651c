"""Prompts far beyond a context: told without tokenizing them, and cut down to what can matter before they are.

llama.cpp's tokenizer takes seconds for a megabyte, and minutes for one full of special tokens (its time grows with
their square). No token stands for more characters than the longest one of the vocabulary has, and each special one is
a token by itself: that bounds from below how many a text has.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from app.core.errors import BadRequest
from app.models.gguf_file import GgufFile

MAX_PROMPT = 1 << 20  # characters of all the texts of a request, as many as a template may make
_SPECIAL_TYPES = (3, 4)  # control, and defined by the user: both are found in any text
_SPARE = 8  # tokens at a cut that may come out differently


@dataclass(frozen=True, slots=True)
class TokenBounds:
    """`longest` is the length of the longest token, in characters; `special` finds special tokens in a text."""

    longest: int
    special: re.Pattern[str] | None

    def surely_exceed(self, text: str, tokens: int) -> bool:
        """Whether `text` certainly has more than `tokens` tokens."""
        return len(text) > self.longest * tokens or self._specials(text) > tokens

    def shortened(self, text: str, first: int, last: int) -> str:
        """`text` with so much of its middle left out that its first `first` and its last `last` tokens stay the same,
        and that it still has more than both together."""
        head = text[: self.longest * (first + _SPARE)]
        tail = text[-self.longest * (last + _SPARE) :]
        if self.special is not None:
            starts = [found.start() for found in self.special.finditer(head)]
            head = head[: starts[first + _SPARE]] if len(starts) > first + _SPARE else head
            starts = [found.start() for found in self.special.finditer(tail)]
            tail = tail[starts[-last - _SPARE] :] if len(starts) > last + _SPARE else tail
        return head + tail if len(head) + len(tail) < len(text) else text

    def _specials(self, text: str) -> int:
        return sum(1 for _ in self.special.finditer(text)) if self.special else 0


@lru_cache(maxsize=16)
def bounds_of(gguf: GgufFile) -> TokenBounds | None:
    """The bounds of a model's vocabulary; None where the file brings none."""
    tokens, types = (gguf.metadata.get(f"tokenizer.ggml.{name}") for name in ("tokens", "token_type"))
    if not isinstance(tokens, list) or not tokens:
        return None
    texts = [str(token) for token in tokens]
    kinds = types if isinstance(types, list) else []
    special = [text for text, kind in zip(texts, kinds, strict=False) if kind in _SPECIAL_TYPES and text]
    pattern = "|".join(map(re.escape, sorted(special, key=len, reverse=True)))
    return TokenBounds(max(1, *map(len, texts)), re.compile(pattern) if special else None)


def check_size(*texts: object) -> None:
    """Raises `BadRequest` where `texts` together are more than anybody can have read here."""
    if sum(len(text) for text in texts if isinstance(text, str)) > MAX_PROMPT:
        raise BadRequest(f"the prompt is longer than {MAX_PROMPT} characters; shorten it", "prompt")
