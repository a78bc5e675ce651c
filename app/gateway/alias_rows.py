"""Aliases among the models of a host: in the lists, in `show`, and in the headers of an answer."""

from __future__ import annotations

import re
from typing import Any

from app.core.generation import Json
from app.core.hosts import RawAnswer
from app.gateway.needs import GatewayServices
from app.services.alias_targets import AliasView, nobody
from app.services.telemetry import Trace
from app.services.watched_host import canonical
from app.wire.answers import parse_object
from app.wire.go_json import dumps

LONGEST_REASON = 300
_UNFIT = re.compile(r"[^\x20-\x7e]|[\"\\]")  # for a quoted text in a header


async def with_aliases(answer: RawAnswer, services: GatewayServices) -> RawAnswer:
    """`/api/tags` with a row for each alias that leads to a model now: that model's, under the alias's name. A model of
    the same name, pulled past us, is not what the name means; its row gives way."""
    if not services.aliases.all() or answer.status != 200:
        return answer
    told = parse_object(answer.body)
    models = told.get("models")
    rows = [row for row in models if isinstance(row, dict)] if isinstance(models, list) else []
    views = await services.aliases.views()
    names = {canonical(view.alias.name) for view in views}
    by_name = {canonical(str(row.get("name"))): row for row in rows}
    added = [_row(by_name[key], view) for view in views if view.model and (key := canonical(view.model)) in by_name]
    kept = [row for row in rows if canonical(str(row.get("name"))) not in names]
    return RawAnswer(200, answer.content_type, dumps({**told, "models": [*added, *kept]}))


def _row(row: dict[str, Any], view: AliasView) -> dict[str, Json]:
    name = canonical(view.alias.name)
    more = row.get("loupe")
    marked: Json = {**(more if isinstance(more, dict) else {}), **marks(view)}
    return {**row, "name": name, "model": name, "loupe": marked}


def marks(view: AliasView) -> dict[str, Json]:
    """What says that a row is an alias, and what it leads to now."""
    return {"alias": view.alias.name, "model": view.model, "targets": [one.text for one in view.alias.targets]}


async def shown_as(services: GatewayServices, model: str) -> tuple[str, AliasView | None]:
    """The model that `show` is to be asked about, and the alias by which it was named. Raises `NoTargetAnswers`."""
    alias = services.aliases.find(model)
    if alias is None:
        return model, None
    view = await services.aliases.targets.view(alias)
    if not view.model:
        raise nobody(alias, view.tried)
    return view.model, view


def with_marks(answer: RawAnswer, view: AliasView | None) -> RawAnswer:
    if view is None or answer.status != 200:
        return answer
    body = {**parse_object(answer.body), "loupe": marks(view)}
    return RawAnswer(answer.status, answer.content_type, dumps(body))


def check_free(services: GatewayServices, *names: Json) -> None:
    """Raises `BadRequest` where something is to be made, pulled or deleted under the name of an alias."""
    for name in names:
        if isinstance(name, str):
            services.aliases.check_free(name)


def route_headers(trace: Trace) -> dict[str, str]:
    """Which model answers, and where an alias was named, why it is that one and whether the prompt was cut."""
    fit = trace.model.isascii() and trace.model.isprintable()
    headers = {"x-loupe-model": trace.model} if trace.model and fit else {}
    route = trace.route
    if route is None:
        return headers
    why = f'; reason="{_fit(route.reason)}"' if route.reason else ""
    headers["x-loupe-alias"] = f"{route.alias}; choice={route.place}{why}"
    if route.cut is not None:
        tokens = f"; tokens={route.cut.tokens}" if route.cut.tokens else ""
        limit = f"; limit={route.cut.limit}" if route.cut.limit else ""
        headers["x-loupe-context"] = f"cut{tokens}{limit}{'; estimated' if route.cut.estimated else ''}"
    return headers


def _fit(text: str) -> str:
    return _UNFIT.sub("'", text)[:LONGEST_REASON]
