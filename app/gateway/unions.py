"""`/api/tags` and `/api/ps` over several hosts: the hosts' own rows, merged by name and digest.

A row keeps every field its host gave it and gains `loupe`: the hosts that have it, and whether another host has other
content under the same name (then each content has a row of its own). A row of `ps` is that of the first host that has
the model loaded, and `loupe.loads` says what each of them said.
"""

from __future__ import annotations

import asyncio
from typing import Any

from app.core.errors import HostError, HostProtocolError
from app.core.generation import Json
from app.core.hosts import ANSWERING
from app.services.host_pool import HostPool
from app.wire.answers import parse_object
from app.wire.go_json import dumps

_LOAD_FIELDS = ("size", "size_vram", "expires_at", "context_length")
Row = dict[str, Json]


async def union(pool: HostPool, path: str) -> bytes:
    """The merged list as JSON. A host that fails is left out as long as another one answers."""
    statuses = pool.statuses()
    names = [status.address.name for status in statuses if status.state in ANSWERING and not status.draining]
    if not names:
        async with pool.lease() as backend:  # asks the hosts once more, or says which one has which trouble
            names = [backend.address.name]
    results = await asyncio.gather(*(_rows(pool, name, path) for name in names), return_exceptions=True)
    lists: list[tuple[str, list[Row]]] = []
    for name, result in zip(names, results, strict=True):
        if isinstance(result, BaseException):
            if not isinstance(result, HostError) or len(results) == 1:
                raise result
        else:
            lists.append((name, result))
    if not lists:
        raise next(result for result in results if isinstance(result, BaseException))
    rows = _merged_models(lists) if path == "/api/tags" else _merged_loads(lists)
    return dumps({"models": list(rows)})


async def _rows(pool: HostPool, host: str, path: str) -> list[Row]:
    answer = await pool.backend(host).forward("GET", path)
    if answer.status != 200:
        raise HostProtocolError(host, f"{path} answered {answer.status}")
    models = parse_object(answer.body, host).get("models")
    return [row for row in models if isinstance(row, dict)] if isinstance(models, list) else []


def _merged_models(lists: list[tuple[str, list[Row]]]) -> list[Row]:
    """Newest first, as each host sorts them."""
    return sorted(_merged(lists), key=lambda row: str(row.get("modified_at")), reverse=True)


def _merged_loads(lists: list[tuple[str, list[Row]]]) -> list[Row]:
    merged = _merged(lists)
    for row in merged:
        same = [
            {"host": host, **{key: other.get(key) for key in _LOAD_FIELDS}}
            for host, rows in lists
            for other in rows
            if (other.get("name"), other.get("digest")) == (row.get("name"), row.get("digest"))
        ]
        row["loupe"] = {**row["loupe"], "loads": same}
    return merged


def _merged(lists: list[tuple[str, list[Row]]]) -> list[dict[str, Any]]:
    found: dict[tuple[str, str], tuple[Row, list[Json]]] = {}
    for host, rows in lists:
        for row in rows:
            found.setdefault((str(row.get("name")), str(row.get("digest"))), (row, []))[1].append(host)
    names = [name for name, _ in found]
    return [
        {**row, "loupe": {"hosts": hosts, "conflict": names.count(name) > 1}}
        for (name, _), (row, hosts) in found.items()
    ]
