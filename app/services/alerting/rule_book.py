"""The rules in force: those that come with Loupe as people have changed them, and their own.

What was changed is a small file in the data folder; a rule that nobody touched follows the next version's.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import structlog

from app.core.alerts import Rule, Severity
from app.core.errors import BadRequest, LoupeError
from app.core.generation import Json
from app.services.alerting.shipped import SHIPPED
from app.services.alerting.words import told
from app.services.small_file import read_small, write_small

FILE = "alert-rules.json"
LONGEST = 86_400.0  # seconds of a hold or a rest
OWN_RULES = 50
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_CHANGEABLE = ("limit", "clear", "hold", "rest", "severity", "on")
_OWN_ONLY = ("series", "above", "unit", "title", "what", "advice")
_TEXT_LIMIT = 500
_OF_NAME = {rule.name: rule for rule in SHIPPED}
log = structlog.get_logger(__name__)


class RuleNotFound(LoupeError):
    status = 404
    code = "alert_rule_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no alert rule {name!r}; GET /loupe/alerts lists them")


class RuleBook:
    """`load`, `put` and `remove` block. Not for two threads at once."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / FILE
        self._changes: dict[str, dict[str, Json]] = {}
        self._rules: dict[str, Rule] = dict(_OF_NAME)

    @property
    def rules(self) -> tuple[Rule, ...]:
        return tuple(self._rules.values())

    def find(self, name: str) -> Rule | None:
        return self._rules.get(name)

    def changed(self, name: str) -> bool:
        """Whether a rule that comes with Loupe is not as it came."""
        return self._rules.get(name) != _OF_NAME.get(name)

    def load(self) -> None:
        """What cannot be read any more is left out and said in the log: an alert too many is better than none."""
        kept = read_small(self._file)
        for name, wish in kept.items() if isinstance(kept, dict) else ():
            try:
                self._take(name, wish if isinstance(wish, dict) else {}, known=None)
            except LoupeError as error:
                log.warning("alert rule not read", rule=name, error=error.message)

    def put(self, name: str, wish: Mapping[str, Json], known: Collection[str]) -> Rule:
        """Change a rule or make one. `known` are the series there are. Raises `BadRequest`, or OSError."""
        before = dict(self._rules), dict(self._changes)
        rule = self._take(name, {**self._changes.get(name, {}), **wish}, known)
        try:
            self._write()
        except OSError:
            self._rules, self._changes = before
            raise
        return rule

    def remove(self, name: str) -> Rule | None:
        """Take an own rule away, or give a shipped one its own values back, which are returned."""
        if name not in self._rules:
            raise RuleNotFound(name)
        self._changes.pop(name, None)
        if name in _OF_NAME:
            self._rules[name] = _OF_NAME[name]
        else:
            del self._rules[name]
        self._write()
        return _OF_NAME.get(name)

    def _take(self, name: str, wish: Mapping[str, Json], known: Collection[str] | None) -> Rule:
        base = _OF_NAME.get(name)
        if base is None and not _NAME.fullmatch(name):
            raise BadRequest("a rule's name is a word of a-z, 0-9 and _, such as slow_disk")
        if base is None and len(self._changes) >= OWN_RULES and name not in self._changes:
            raise BadRequest(f"there are {OWN_RULES} rules of your own already; remove one first")
        rule = changed_rule(base, wish) if base else own_rule(name, wish)
        if known is not None and rule.series not in known:
            near = difflib.get_close_matches(rule.series, sorted(known), n=1)
            hint = f"; did you mean {near[0]}" if near else ""
            raise BadRequest(f"there is no series {rule.series!r}{hint}; GET /loupe/alerts lists them")
        self._rules[name], self._changes[name] = rule, dict(wish)
        return rule

    def _write(self) -> None:
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_small(self._file, json.dumps(self._changes, ensure_ascii=False, indent=1))


def changed_rule(base: Rule, wish: Mapping[str, Json]) -> Rule:
    """A shipped rule with other limits. A limit without a clear value keeps the distance between the two."""
    _only(wish, _CHANGEABLE, "of a rule that comes with Loupe")
    values = {name: _value(name, value) for name, value in wish.items()}
    if "limit" in values and "clear" not in values:
        values["clear"] = values["limit"] * base.clear / base.limit
    return _sound(replace(base, **values))


def own_rule(name: str, wish: Mapping[str, Json]) -> Rule:
    _only(wish, (*_CHANGEABLE, *_OWN_ONLY), "of a rule")
    values = {key: _value(key, value) for key, value in wish.items()}
    if "series" not in values or "limit" not in values:
        raise BadRequest('a rule of your own needs at least "series" and "limit"')
    limit, above = values["limit"], values.get("above", True)
    usual = {
        "name": name, "title": f"{values['series']} is too {'high' if above else 'low'}",
        "clear": limit - abs(limit) / 10 if above else limit + abs(limit) / 10, "hold": 60.0, "rest": 300.0,
        "severity": Severity.WARNING, "unit": "", "advice": "", "own": True,
        "what": f"{values['series']} is {{value}} (limit {{limit}}) {{subject}}",
    }  # fmt: skip
    return _sound(Rule(**{**usual, **values}))


def _only(wish: Mapping[str, Json], allowed: tuple[str, ...], whose: str) -> None:
    for name in wish:
        if name not in allowed:
            known = name in {field.name for field in fields(Rule)}
            why = f"{name} {whose} cannot be changed" if known else f"{name} is nothing {whose}"
            raise BadRequest(f"{why}; these can be: {', '.join(allowed)}")


def _value(name: str, value: Json) -> Any:
    if name in ("on", "above"):
        if not isinstance(value, bool):
            raise BadRequest(f"{name}: give true or false")
        return value
    if name == "severity":
        if value not in tuple(Severity):
            raise BadRequest("severity: give warning or critical")
        return Severity(str(value))
    if name in ("limit", "clear", "hold", "rest"):
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise BadRequest(f"{name}: give a number")
        if name in ("hold", "rest") and not 0 <= value <= LONGEST:
            raise BadRequest(f"{name}: give seconds from 0 to {LONGEST:.0f}")
        return float(value)
    if not isinstance(value, str) or len(value) > _TEXT_LIMIT or not value.isprintable():
        raise BadRequest(f"{name}: give a text of at most {_TEXT_LIMIT} characters")
    return value.strip()


def _sound(rule: Rule) -> Rule:
    wrong = rule.clear > rule.limit if rule.above else rule.clear < rule.limit
    if wrong:
        side = "at or below" if rule.above else "at or above"
        limit = told(rule.limit, rule.unit)
        raise BadRequest(f"clear must be {side} the limit ({limit}), or the alert would end and begin at once")
    return rule
