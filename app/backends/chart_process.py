"""Runs `python -m app.backends.chart_renderer`, so that the drawing library is never loaded into the server."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from importlib.metadata import version
from pathlib import Path
from typing import Any

from app.backends.child_process import told_by_child
from app.core.errors import StoreError
from app.core.generation import Json


class ChartProcess:
    """`Pictures`. One drawing process at a time. `folder` keeps the browser's bundle, one file for each release."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder, self._environment = folder, environment
        self._turn = asyncio.Lock()

    async def bundle(self) -> Path:
        """The file with vega, vega-lite and vega-embed: 0.9 MB, made in two seconds when it is first asked for."""
        target = self._folder / f"vega-{version('vl-convert-python')}.js"
        async with self._turn:
            if not target.is_file():
                self._folder.mkdir(parents=True, exist_ok=True)
                await self._run([{"do": "bundle", "target": str(target)}])
        return target

    async def svg(self, spec: Mapping[str, Json]) -> str:
        return (await self.svgs([spec]))[0]

    async def svgs(self, specs: Sequence[Mapping[str, Json]]) -> list[str]:
        async with self._turn:
            return await self._run([{"do": "svg", "spec": dict(spec)} for spec in specs])

    async def png(self, spec: Mapping[str, Json], scale: float = 2.0) -> bytes:
        async with self._turn:
            return base64.b64decode((await self._run([{"do": "png", "spec": dict(spec), "scale": scale}]))[0])

    async def _run(self, tasks: list[dict[str, Any]]) -> list[str]:
        parts: list[list[str]] = [[] for _ in tasks]
        given = json.dumps(tasks).encode() + b"\n"
        child = told_by_child(
            "app.backends.chart_renderer", environment=self._environment, given=given, what="drawing the pictures"
        )
        async with aclosing(child) as records:
            async for record in records:
                if "error" in record:
                    raise StoreError(f"a picture could not be drawn: {record['error']}")
                parts[record["task"]].append(record["part"])
        return ["".join(one) for one in parts]
