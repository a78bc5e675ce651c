"""A round as JSON and back. Keys that a newer version wrote are ignored, missing ones have their defaults."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from app.comparison.rounds import Figures, Pane, PaneAnswer, Round, Turn
from app.core.conversations import Answer, MessageState
from app.services.history_schema import decode_answer, encode_answer


def encode(round_: Round) -> str:
    return json.dumps(_fields(round_), default=_plain, ensure_ascii=False, separators=(",", ":"))


def decode(raw: Mapping[str, Any]) -> Round:
    """Raises KeyError, TypeError or ValueError where that is no round."""
    round_ = Round(**_known(Round, raw, "panes", "context"), panes=tuple(_pane(one) for one in raw["panes"]))
    return replace(
        round_,
        questions=tuple(round_.questions),
        context=tuple(Turn(turn["role"], turn["content"]) for turn in raw.get("context", ())),
    )


def _pane(raw: Mapping[str, Any]) -> Pane:
    fair = raw.get("fair")
    return Pane(
        **_known(Pane, raw, "answers", "fair"),
        answers=tuple(_read_answer(one) for one in raw.get("answers", ())),
        fair=_figures(fair) if fair else None,
    )


def _read_answer(raw: Mapping[str, Any]) -> PaneAnswer:
    answer = decode_answer(json.dumps(raw.get("answer") or {}))
    known = _known(PaneAnswer, raw, "answer", "state")
    return PaneAnswer(**known, answer=answer, state=MessageState(raw["state"]))


def _figures(raw: Mapping[str, Any]) -> Figures:
    known: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in _known(Figures, raw).items()
    }
    return Figures(**known)


def _plain(value: object) -> object:
    if isinstance(value, Answer):
        return json.loads(encode_answer(value))
    return dict(value) if isinstance(value, Mapping) else _fields(value)


def _fields(value: Any) -> dict[str, Any]:
    return {each.name: getattr(value, each.name) for each in fields(value)}


def _known(kind: type, raw: Mapping[str, Any], *without: str) -> dict[str, Any]:
    return {each.name: raw[each.name] for each in fields(kind) if each.name in raw and each.name not in without}
