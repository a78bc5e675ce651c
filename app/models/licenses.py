"""Which licences restrict what a model may be used for. Pure; a hint for people, no legal advice."""

from __future__ import annotations

import re

# What to look for in the text of a licence (its first words name it), and what to say. The first that matches counts.
_RESTRICTED = (
    (r"non-?commercial|cc[- ]by[- ]nc|research license|research-only|research use only", "allows no commercial use"),
    (
        r"llama .{0,40}community license",
        "has conditions: a use policy, naming, and a bound of 700 million monthly users",
    ),
    (r"gemma (?:terms|is provided under)|gemma.{0,40}terms of use", "comes with a policy of prohibited uses"),
    (r"openrail|responsible ai license|\brail\b", "forbids some uses"),
    (r"falcon.{0,30}license|tii falcon", "has conditions of use of its own"),
    (r"qwen license agreement|tongyi qianwen", "asks for a permission above 100 million monthly users"),
    (r"deepseek.{0,20}(?:model )?license", "forbids some uses"),
    (r"mistral.{0,10}(?:research|non-production)", "allows no commercial use"),
)
_FREE = re.compile(
    r"apache license|apache-?2\.0|\bmit license|^mit$|bsd[- ][23]|cc[- ]by-?4|cc0|unlicense", re.IGNORECASE
)
_LOOKED_AT = 4000  # characters: a licence names itself at its top


def license_name(text: str) -> str:
    """The first line that says something."""
    return next((line.strip() for line in text.splitlines() if line.strip(" =-*#")), "")[:120]


def restriction(text: str) -> str:
    """A sentence where the licence restricts use, else "". `text` is a name or the whole licence."""
    top = " ".join(text[:_LOOKED_AT].split())
    for pattern, what in _RESTRICTED:
        if re.search(pattern, top, re.IGNORECASE):
            return f"Its licence ({license_name(text)}) {what}."
    return ""


def is_free(text: str) -> bool:
    """Whether it is one of the usual licences that restrict no use."""
    return not restriction(text) and bool(_FREE.search(text[:_LOOKED_AT]))
