"""What is known to be wrong with versions of Ollama, so that people are told. Nothing is refused for it.

Sources: CVE-2026-7482 (memory of the server leaks through create and push; fixed in 0.17.1), CVE-2024-37032,
CVE-2024-39721, CVE-2024-45436 (files written outside the store, code run; all fixed by 0.1.47).
"""

from __future__ import annotations

import re

from app.core.hosts import HostWarning

OWN_SERVER = "loupe-runtime"
_SEVERE_BELOW, _WARN_BELOW = (0, 1, 47), (0, 17, 1)
_NUMBERS = re.compile(r"v?(\d+)\.(\d+)\.(\d+)(-rc)?")
_UNNUMBERED = (0, 0, 0)  # a build of one's own says 0.0.0


def version_warnings(version: str, server: str = "") -> tuple[HostWarning, ...]:
    """Of an Ollama. Our own runtime, which tells the protocol's version, and builds without a number are not judged;
    what else stands in `Server` is the name of a proxy."""
    found = _NUMBERS.match(version)
    if found is None or server.startswith(OWN_SERVER):
        return ()
    number = tuple(int(part) for part in found.groups()[:3])
    if number == _UNNUMBERED:
        return ()
    before = found[4] is not None  # a release candidate comes before its release
    if number < _SEVERE_BELOW or (before and number == _SEVERE_BELOW):
        text = "has holes by which others can write files and run programs on its machine"
        return (HostWarning(f"Ollama {version} {text}; update it to 0.17.1 or later", severe=True),)
    if number < _WARN_BELOW or (before and number == _WARN_BELOW):
        text = "has a hole by which a prepared model file reads its memory, prompts and keys included"
        return (HostWarning(f"Ollama {version} {text} (CVE-2026-7482); update it to 0.17.1 or later"),)
    return ()


def older_than(version: str, other: tuple[int, int, int], server: str = "") -> bool:
    """Whether an Ollama is from before `other`. Our own runtime is not, nor is one that tells no number."""
    found = _NUMBERS.match(version)
    number = tuple(int(part) for part in found.groups()[:3]) if found else _UNNUMBERED
    return number != _UNNUMBERED and not server.startswith(OWN_SERVER) and number < other
