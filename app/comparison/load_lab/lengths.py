"""How long prompts and answers are: a fixed number of tokens, or one drawn anew for each request.

In words, the same for page, routes and command line: `256`; `64-512`, each length as likely as the next; `256~0.6`, a
log-normal with the median 256, two thirds of it within a factor of e^0.6 of that.
"""

from __future__ import annotations

import math
import random
import re
from dataclasses import dataclass

from app.core.errors import BadRequest

MOST_TOKENS = 32_768
WIDEST = 2.0
FORMS = "say 256, 64-512 (any length between) or 256~0.6 (around 256, most within a factor of e^0.6)"
_FORM = re.compile(r"(\d{1,6})(?:\s*[-–]\s*(\d{1,6})|\s*~\s*(\d(?:\.\d{1,3})?))?")


@dataclass(frozen=True, slots=True)
class Lengths:
    """`low` to `high` tokens, evenly; with a `spread` log-normal around `low`."""

    low: int
    high: int
    spread: float = 0.0

    @classmethod
    def parse(cls, text: str, field: str) -> Lengths:
        """Raises `BadRequest` with the forms that there are."""
        found = _FORM.fullmatch(text.strip())
        if found is None:
            raise BadRequest(f"{text[:40]!r} is no length in tokens; {FORMS}", field)
        low = int(found[1])
        made = cls(low, int(found[2] or low), float(found[3] or 0.0))
        if not 1 <= made.low <= made.high <= MOST_TOKENS or made.spread > WIDEST:
            raise BadRequest(
                f"{text[:40]!r}: a length is 1 to {MOST_TOKENS:,} tokens, the smaller one first; a spread is at most "
                f"{WIDEST:g}",
                field,
            )
        return made

    def draw(self, dice: random.Random) -> int:
        if self.spread:
            return max(1, min(MOST_TOKENS, round(self.low * math.exp(dice.gauss(0.0, self.spread)))))
        return dice.randint(self.low, self.high)
