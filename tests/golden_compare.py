"""Comparing an answer of ours with a recorded one: text for text, after clocks and what is drawn by lot have been
replaced by words in both. What is compared in another way is in `MEASURED`, what is not compared in `NOT_PLAYED`."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from tests.http_target import Reply
from tests.recordings import Recording

# Header: why it is not compared. All others that were recorded must be equal.
HEADERS_LEFT_OUT = {
    "transfer-encoding": "Go sends bodies over 2 KiB and late errors in chunks; we know the length",
}
_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)"
# What is replaced in both texts, with the word that stands for it, and why.
REPLACED: dict[str, tuple[str, str, str]] = {
    "times": (rf'("(?:created|modified)_at"):"{_TIME}"', r'\1:"<time>"', "a clock; its form is checked"),
    "ends of loaded models that stay": (
        rf'"expires_at":"(?=2[1-9]){_TIME}"', '"expires_at":"<in centuries>"', "a clock, 292 years from now",
    ),
    "ends of loaded models": (rf'"expires_at":"{_TIME}"', '"expires_at":"<time>"', "a clock; its form is checked"),
    "durations": (
        r'("(?:total|load|prompt_eval|eval)_duration"):[1-9]\d*', r"\1:<ns>", "a clock; none may be 0 or negative",
    ),
    "seconds since 1970": (r'("created"):\d{10}', r"\1:<s>", "a clock"),
    "identifiers": (
        r'"id":"(chatcmpl-|cmpl-|msg_)[0-9a-f]{1,32}"', r'"id":"\1<id>"', "drawn by lot; their beginning is compared",
    ),
    "the name server": (r" on (?:<resolver>|\S+:53):", " on <resolver>:", "the machine's own"),
}  # fmt: skip
# Where the recordings write <path> for a folder of the store; ours are called by where they lie in it.
_PATHS = {"missing_push": "<models>/manifests/registry.ollama.ai", "create_missing_blob": "<models>/blobs"}

_LOGPROB_TOLERANCE = 0.02
_MEMORY_TOLERANCE = 0.15
_LOGPROBS = (
    f"log-probabilities within {_LOGPROB_TOLERANCE}: another batch size and order of kernels (the recordings differ by "
    "0.0005 among themselves)"
)
_MEMORY = f"memory within {_MEMORY_TOLERANCE:.0%}: the compute buffer of a physical batch of 128 is smaller than of 512"
_ORDER = "the order of models: it goes by whole seconds there, and by chance within one"
_CUT = "the recording keeps no text, and the beginnings of long arrays: compared value by value, keys in order"
_TICKS = "how often a layer's progress is told, and at which amounts: every 60 ms, so a matter of speed"
_SAMPLED = "what was sampled: {} without a seed"

# Case: what is not compared text for text, and why. Everything else of the case is equal.
MEASURED: dict[str, str] = {
    **dict.fromkeys(
        ("generate_logprobs", "generate_logprobs_plain", "generate_const", "chat_logprobs", "v1_chat_logprobs"),
        _LOGPROBS,
    ),
    **dict.fromkeys(("ps", "ps_before_unload", "ps_forever"), _MEMORY),
    **dict.fromkeys(("tags", "tags_after", "tags_after_pull", "v1_models"), _ORDER),
    **dict.fromkeys(
        (
            "show", "show_verbose", "show_name_key", "show_derived", "show_q4_K_M", "show_pulled",
            "generate_long_truncate",
        ), _CUT
    ),
    **dict.fromkeys(("pull_ok", "pull_cut", "pull_wrong", "pull_before_again", "pull_again"), _TICKS),
    "chat_derived": _SAMPLED.format("temperature 0.1"),
    "v1_messages": _SAMPLED.format("temperature 0.8"),
}  # fmt: skip
_SAMPLED_KEYS = {
    "chat_derived": {"content", "eval_count", "done_reason"},
    "v1_messages": {"text", "output_tokens", "stop_reason"},
}

# Case: why it is not played.
NOT_PLAYED: dict[str, str] = {}


def check(recorded: Recording, reply: Reply) -> None:
    """Fails with the first difference: status, headers, then body or stream."""
    case = recorded.name
    assert reply.status == recorded.status, f"status {reply.status}, body {reply.body[:300]!r}"
    theirs, ours = _text_of(recorded), reply.body.decode()
    exact = recorded.text is not None and replaced(theirs) == theirs and case not in MEASURED
    for name, value in recorded.headers.items():
        if name in HEADERS_LEFT_OUT or (name == "content-length" and not exact and recorded.request.method != "HEAD"):
            continue
        assert reply.headers.get(name) == value, f"{name}: {reply.headers.get(name)!r}, recorded {value!r}"
    if recorded.request.method == "HEAD":
        assert reply.body == b""
    elif case not in MEASURED:
        assert replaced(ours) == replaced(theirs)
        assert len(_identities(ours)) == len(_identities(theirs))  # one and the same in all events of a stream
    elif MEASURED[case] is _TICKS:
        assert _without_ticks(ours) == _without_ticks(theirs)
    else:
        _same_records(recorded, ours)


def replaced(text: str) -> str:
    for pattern, word, _ in REPLACED.values():
        text = re.sub(pattern, word, text)
    return text


def _text_of(recorded: Recording) -> str:
    """The recorded body; "" where only its values were kept."""
    told = "\n".join(recorded.lines) + "\n" if recorded.lines else recorded.text or ""
    return told.replace("<path>", _PATHS.get(recorded.name, "<path>"))


def _identities(text: str) -> set[str]:
    return set(re.findall(r'"id":"((?:chatcmpl|cmpl|msg)[^"]*)"', text))


# Value by value


class _Number(str):
    """A number with a point as it was written."""


def _parsed(text: str) -> Any:
    return json.loads(_quoted(text), parse_float=_Number)


def _quoted(text: str) -> str:
    """`replaced`, and valid JSON still."""
    return re.sub(r":(<ns>|<s>)", r':"\1"', replaced(text))


def _same_records(recorded: Recording, ours: str) -> None:
    skipped = _SAMPLED_KEYS.get(recorded.name, set())
    if recorded.lines:
        lines = ours.removesuffix("\n").split("\n")
        assert len(lines) == len(recorded.lines), f"{len(lines)} lines, recorded {len(recorded.lines)}: {ours[:300]}"
        pairs = [(_parsed(theirs), _parsed(mine)) for theirs, mine in zip(recorded.lines, lines, strict=True)]
    elif recorded.text is not None:
        pairs = [(_parsed(recorded.text), _parsed(ours))]
    else:  # how numbers were written was not kept
        theirs = json.dumps(recorded.body, separators=(",", ":"), ensure_ascii=False)
        pairs = [(json.loads(_quoted(theirs)), json.loads(_quoted(ours)))]
    for theirs, mine in pairs:
        _same(theirs, mine, recorded.name, skipped)


def _same(recorded: Any, ours: Any, where: str, skipped: set[str]) -> None:
    if isinstance(recorded, dict) and isinstance(ours, dict):
        assert list(ours) == list(recorded), f"{where}: keys {list(ours)}, recorded {list(recorded)}"
        for key in recorded:
            if key not in skipped:
                _same_member(key, recorded[key], ours[key], f"{where}.{key}", skipped)
    elif isinstance(recorded, list) and isinstance(ours, list):
        _same_list(recorded, ours, where, skipped)
    else:
        assert type(ours) is type(recorded) and ours == recorded, f"{where}: {ours!r}, recorded {recorded!r}"


def _same_member(key: str, recorded: Any, ours: Any, where: str, skipped: set[str]) -> None:
    if key == "logprob":
        assert math.isclose(float(ours), float(recorded), abs_tol=_LOGPROB_TOLERANCE), f"{where}: {ours}, {recorded}"
    elif key == "size" and where.startswith("ps"):
        assert math.isclose(ours, recorded, rel_tol=_MEMORY_TOLERANCE), f"{where}: {ours}, recorded {recorded}"
    elif key in ("models", "data") and recorded and isinstance(recorded[0], dict):
        _same(_by_name(recorded), _by_name(ours), where, skipped)
    elif key in ("modelfile", "parameters"):  # parameters come from one of Go's maps, which have no order
        _same(sorted(recorded.splitlines()), sorted(ours.splitlines()), where, skipped)
    else:
        _same(recorded, ours, where, skipped)


def _same_list(recorded: list[Any], ours: list[Any], where: str, skipped: set[str]) -> None:
    cut = recorded and isinstance(recorded[-1], str) and re.fullmatch(r"<(\d+) more>", recorded[-1])
    if cut:
        assert len(ours) == len(recorded) - 1 + int(cut[1]), f"{where}: {len(ours)} elements"
        recorded, ours = recorded[:-1], ours[: len(recorded) - 1]
    assert len(ours) == len(recorded), f"{where}: {len(ours)} elements, recorded {len(recorded)}: {str(ours)[:200]}"
    if where.endswith("top_logprobs"):
        _same_alternatives(recorded, ours, where)
        return
    for index, (theirs, mine) in enumerate(zip(recorded, ours, strict=True)):
        _same(theirs, mine, f"{where}[{index}]", skipped)


def _same_alternatives(recorded: list[Any], ours: list[Any], where: str) -> None:
    """Neighbours within the tolerance may stand the other way round, also over the edge of the list."""
    mine, theirs = ({entry["token"]: entry for entry in entries} for entries in (ours, recorded))
    for token in mine.keys() & theirs.keys():
        _same(theirs[token], mine[token], f"{where}[{token!r}]", set())
    edge = min(float(entry["logprob"]) for entry in recorded)
    for token in mine.keys() ^ theirs.keys():
        strayed = float((mine.get(token) or theirs[token])["logprob"])
        assert math.isclose(strayed, edge, abs_tol=_LOGPROB_TOLERANCE), f"{where}: {token!r} at {strayed}, edge {edge}"


def _by_name(rows: list[Any]) -> dict[str, Any]:
    return {name: row for name, row in sorted((row.get("name") or row["id"], row) for row in rows)}


def _without_ticks(text: str) -> list[str]:
    """The lines of a pull, each run of progress of one layer as one line with what is the same in all of them. A
    recorded line that stands for many more is left out."""
    kept: list[str] = []
    for line in text.splitlines():
        line = re.sub(r',"completed":\d+}', "}", line)
        if line.startswith("{") and kept[-1:] != [line]:
            kept.append(line)
    return kept
