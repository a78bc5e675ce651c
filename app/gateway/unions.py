"""`/api/tags` and `/api/ps` over several hosts: the hosts' own rows, merged.

A row keeps every field its host gave it and gains `loupe`: the hosts that have it, and whether another host has other
content under the same name.
"""

from __future__ import annotations

import asyncio

from app.core.errors import HostError, HostProtocolError
from app.core.generation import Json
from app.core.hosts import ANSWERING
from app.services.host_pool import HostPool
from app.wire.answers import parse_object
from app.wire.go_json import dumps

Row = dict[str, Json]


async def union(pool: HostPool, path: str) -> bytes:
    """The merged list as JSON. A host that fails is left out as long as another one answers."""
    names = [status.address.name for status in pool.statuses() if status.state in ANSWERING]
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
    rows = _merged_models(lists) if path == "/api/tags" else _all_loads(lists)
    return dumps({"models": list(rows)})


async def _rows(pool: HostPool, host: str, path: str) -> list[Row]:
    answer = await pool.backend(host).forward("GET", path)
    if answer.status != 200:
        raise HostProtocolError(host, f"{path} answered {answer.status}")
    models = parse_object(answer.body, host).get("models")
    return [row for row in models if isinstance(row, dict)] if isinstance(models, list) else []


def _merged_models(lists: list[tuple[str, list[Row]]]) -> list[Row]:
    """One row per name and digest, newest first as each host sorts them."""
    found: dict[tuple[str, str], tuple[Row, list[Json]]] = {}
    for host, rows in lists:
        for row in rows:
            found.setdefault((str(row.get("name")), str(row.get("digest"))), (row, []))[1].append(host)
    names = [name for name, _ in found]
    merged: list[Row] = [
        {**row, "loupe": {"hosts": hosts, "conflict": names.count(name) > 1}}
        for (name, _), (row, hosts) in found.items()
    ]
    return sorted(merged, key=lambda row: str(row.get("modified_at")), reverse=True)


def _all_loads(lists: list[tuple[str, list[Row]]]) -> list[Row]:
    return [{**row, "loupe": {"hosts": [host], "conflict": False}} for host, rows in lists for row in rows]
