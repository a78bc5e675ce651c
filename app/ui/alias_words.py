"""What the Settings screen says of aliases, and what it reads out of the form of one. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping

from app.core.errors import BadRequest
from app.core.generation import Json
from app.services.alias_targets import AliasView
from app.services.alias_values import Alias
from app.ui import view_models as vm

GUARDS = {"warn": "Warn", "refuse": "Refuse", "off": "Cut as Ollama does"}


def answers(view: AliasView) -> tuple[str, str]:
    """Which model answers now, and the tone."""
    if not view.model:
        return "nothing it points at can answer now", "bad"
    return view.model + (f" on {view.host}" if view.host else ""), "plain" if _is_first(view) else "warn"


def _is_first(view: AliasView) -> bool:
    models = [stop.model for stop, _ in view.steps[0].stops] if view.steps else []
    return view.model in models


def way(view: AliasView) -> str:
    """Its targets in order: what is asked first, and what steps in."""
    return ", else ".join(step.target.text for step in view.steps)


def troubles(view: AliasView) -> tuple[str, ...]:
    """Why a target does not answer, one sentence each, and that it hides a model."""
    told = [f"{stop.text}: {vm.sentence(problem)}" for step in view.steps for stop, problem in step.stops if problem]
    told += [f"{step.target.text}: {vm.sentence(step.problem)}" for step in view.steps if step.problem]
    return (*told, *(["A host has a model of this name too; the alias goes before it."] if view.shadowed else []))


def adds(alias: Alias) -> str:
    """What it gives to a request that does not say otherwise."""
    defaults = alias.defaults
    facts = [f"{name} {value}" for name, value in defaults.options.items()]
    facts += ["a system prompt"] if defaults.system else []
    facts += [f"think {json.dumps(defaults.think)}"] if defaults.think is not None else []
    facts += [f"keep_alive {defaults.keep_alive}"] if defaults.keep_alive is not None else []
    return " · ".join(
        [*facts, f"too long a prompt: {GUARDS[str(alias.guard)].lower()}", *([alias.note] if alias.note else [])]
    )


def options_text(options: Mapping[str, Json]) -> str:
    """For the form: one option a line."""
    return "\n".join(
        f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in options.items()
    )


def options_of(text: str) -> dict[str, Json]:
    """Raises `BadRequest` naming a line that is none."""
    found: dict[str, Json] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        name, sign, value = (part.strip() for part in line.partition("="))
        if not sign or not name:
            raise BadRequest(f"{line[:60]!r} is no option; write one a line, like num_ctx=16384", "options")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def lines_of(text: str) -> list[Json]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def removal(name: str) -> tuple[str, ...]:
    return (
        f"Whoever asks for {name} is then told that there is no such model. What it points at stays.",
        "Requests that have begun end as they began.",
    )
