"""Runs `python -m app.runtime.gguf_rewrite`, which quantizes at a low priority and ends with us."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from pathlib import Path

from app.backends.child_process import told_by_child
from app.core.errors import BadRequest, DiskFull, LoupeError, StoreError
from app.core.making import MakingProgress, QuantizedFile

_ERRORS: dict[str, type[LoupeError]] = {"cannot_create": BadRequest, DiskFull.code: DiskFull}


class QuantizerProcess:
    """A `Quantizer`."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    async def run(self, source: Path, target: Path, level: str) -> AsyncGenerator[MakingProgress | QuantizedFile, None]:
        job = {"parts": [str(source)], "target": str(target), "file_type": level, "texts": []}
        child = told_by_child(
            "app.runtime.gguf_rewrite", environment=self._environment, given=json.dumps(job).encode() + b"\n",
            what=f"quantizing to {level}",
        )  # fmt: skip
        async with aclosing(child) as steps:
            async for step in steps:
                if "error" in step:
                    raise _ERRORS.get(str(step.get("code")), StoreError)(str(step["error"]))
                if "sha256" in step:
                    yield QuantizedFile(str(step["sha256"]), int(step["size"]))
                else:
                    yield MakingProgress("quantise", completed=int(step["completed"]), total=int(step["total"]))
