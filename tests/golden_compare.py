"""Comparing an answer of ours with a recorded one. Whatever is not compared as it is has its reason here."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from tests.recordings import Recording
from tests.runtime_process import Reply

# Header: why it is not compared. All others that were recorded must be equal.
HEADERS_LEFT_OUT = {
    "content-length": "bodies hold times and digests of other lengths; whole bodies are compared instead",
    "transfer-encoding": "Go sends bodies over 2 KiB and late errors in chunks; we know the length",
}
_TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)$")
_DURATIONS = ("total_duration", "load_duration", "prompt_eval_duration", "eval_duration")
_LOGPROB_TOLERANCE = 0.02  # another batch size and kernel order; the recordings differ by 0.0005 among themselves
_MEMORY_TOLERANCE = 0.15  # the compute buffer of a physical batch of 128 is smaller than that of 512

# Case: keys whose values are not compared, with the reason.
SAMPLED = {
    "chat_derived": ({"content", "eval_count", "done_reason"}, "sampled at temperature 0.1 without a seed"),
}


def check(recorded: Recording, reply: Reply) -> None:
    """Fails with the first difference: status, headers, then body or stream."""
    assert reply.status == recorded.status, f"status {reply.status}, body {reply.body[:300]!r}"
    for name, value in recorded.headers.items():
        if name not in HEADERS_LEFT_OUT:
            assert reply.headers.get(name) == value, f"{name}: {reply.headers.get(name)!r}"
    skipped = SAMPLED.get(recorded.name, (set(), ""))[0]
    if recorded.lines:
        assert reply.body.endswith(b"\n") and b"\n\n" not in reply.body
        _same([json.loads(line) for line in recorded.lines], reply.lines, recorded.name, skipped)
        _same_order(recorded.lines[-1], reply.body.splitlines()[-1].decode(), recorded.name)
    elif recorded.text == "" or recorded.request.method == "HEAD":
        assert reply.body == b""
    elif recorded.body is None:
        assert reply.body.decode() == recorded.text
    else:
        _same(recorded.body, reply.json, recorded.name, skipped)
        if recorded.text is not None and "models" not in recorded.body:
            _same_order(recorded.text, reply.body.decode(), recorded.name)
        if "error" in recorded.body:
            assert reply.body.decode() == recorded.text  # word for word, escapes and all


def _same_order(recorded: str, ours: str, case: str) -> None:
    """Keys stand in the same order, on the outermost level."""
    wanted, got = list(json.loads(recorded)), list(json.loads(ours))
    assert got == wanted, f"{case}: keys {got}, recorded {wanted}"


def _same(recorded: Any, ours: Any, where: str, skipped: set[str]) -> None:
    if isinstance(recorded, dict) and isinstance(ours, dict):
        assert ours.keys() == recorded.keys(), f"{where}: keys {sorted(ours)}, recorded {sorted(recorded)}"
        for key in recorded.keys() - skipped:
            _same_member(key, recorded[key], ours[key], f"{where}.{key}", skipped)
    elif isinstance(recorded, list) and isinstance(ours, list):
        _same_list(recorded, ours, where, skipped)
    else:
        assert type(ours) is type(recorded) and ours == recorded, f"{where}: {ours!r}, recorded {recorded!r}"


def _same_member(key: str, recorded: Any, ours: Any, where: str, skipped: set[str]) -> None:
    if key in ("created_at", "modified_at", "expires_at"):
        assert _TIME.match(ours), f"{where}: {ours!r} is no such time"  # a clock
    elif key in _DURATIONS:
        assert isinstance(ours, int) and ours > 0, f"{where}: {ours!r}"  # a clock
    elif key == "digest":  # Ollama rewrites an imported GGUF, so its manifest has another digest
        assert re.fullmatch("[0-9a-f]{64}", ours), f"{where}: {ours!r}"
    elif key == "logprob":
        assert math.isclose(ours, recorded, abs_tol=_LOGPROB_TOLERANCE), f"{where}: {ours}, recorded {recorded}"
    elif key == "size" and ".models" in where and where.startswith("ps"):
        assert math.isclose(ours, recorded, rel_tol=_MEMORY_TOLERANCE), f"{where}: {ours}, recorded {recorded}"
    elif key == "modelfile":
        assert _modelfile(ours) == _modelfile(recorded), f"{where}: {ours}"
    elif key == "parameters":  # Go's maps have no order
        assert sorted(ours.splitlines()) == sorted(recorded.splitlines()), f"{where}: {ours}"
    elif key == "models" and isinstance(recorded, list):  # sorted by whole seconds there, the rest by chance
        by_name = _by_name(ours)
        assert list(by_name) == list(_by_name(recorded)), f"{where}: {list(by_name)}"
        for name, row in _by_name(recorded).items():
            _same(row, by_name[name], f"{where}.{name}", skipped)
    elif key == "tensors":  # Ollama rewrites an imported GGUF: other order
        _same_tensors(recorded, ours, where)
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
    edge = min(entry["logprob"] for entry in recorded)
    for token in mine.keys() ^ theirs.keys():
        strayed = (mine.get(token) or theirs[token])["logprob"]
        assert math.isclose(strayed, edge, abs_tol=_LOGPROB_TOLERANCE), f"{where}: {token!r} at {strayed}, edge {edge}"


def _same_tensors(recorded: list[Any], ours: list[Any], where: str) -> None:
    cut = re.fullmatch(r"<(\d+) more>", recorded[-1])
    assert cut is not None
    assert len(ours) == len(recorded) - 1 + int(cut[1]), where
    named = {tensor["name"]: tensor for tensor in ours}
    for tensor in recorded[:-1]:
        assert named[tensor["name"]] == tensor, where


def _by_name(rows: list[Any]) -> dict[str, Any]:
    return {row["name"]: row for row in sorted(rows, key=lambda row: row["name"])}


def _modelfile(text: str) -> list[str]:
    """Lines without the place and digest of the model blob; parameters sorted, Go's maps have no order."""
    return sorted(re.sub(r"^FROM .*/blobs/sha256-[0-9a-f]{64}$", "FROM <blob>", text, flags=re.M).split("\n"))
