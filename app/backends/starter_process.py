"""Runs `python -m app.runtime.starter` and reads its progress lines.

The process lowers its own priority and ends with us (pipe EOF, PDEATHSIG), so nothing survives a kill -9 here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from pathlib import Path

from app.backends.child_process import told_by_child
from app.core.errors import StoreError
from app.core.making import MakingProgress


class StarterProcess:
    """A `FamilyMaker`. `store` is the embedded runtime's model store, `data` where the download is kept."""

    def __init__(self, store: Path, data: Path, environment: Mapping[str, str]) -> None:
        self._store, self._data, self._environment = store, data, environment

    async def run(self) -> AsyncIterator[MakingProgress]:
        arguments = ("--store", str(self._store), "--data", str(self._data))
        child = told_by_child(
            "app.runtime.starter", arguments, environment=self._environment, what="making the starter models"
        )
        async with aclosing(child) as steps:
            async for step in steps:
                if step["phase"] == "error":
                    raise StoreError(step.get("message") or "making the starter models failed; the log says why")
                yield MakingProgress(
                    step["phase"], step.get("variant") or "", int(step.get("completed") or 0),
                    int(step.get("total") or 0), step.get("message") or "",
                )  # fmt: skip
