"""What the tests of pulls have in common: a pull to its end, what lies in the store then."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import psutil

from app.core.errors import LoupeError
from app.runtime.model_store import ModelStore
from app.runtime.pull import Puller
from tests.stub_registry import Published

Record = dict[str, Any]


async def pulled(puller: Puller, name: str, *, insecure: bool = True) -> list[Record]:
    """All records; an error becomes the last one, as the route writes it."""
    records: list[Record] = []
    try:
        async with aclosing(puller.pull(name, insecure=insecure)) as stream:
            async for record in stream:
                records.append(record)
    except LoupeError as error:
        records.append({"error": error.message})
    return records


async def until(records: AsyncIterator[Record], status: str) -> Record:
    """Reads on to the first record whose status begins so."""
    async for record in records:
        if record["status"].startswith(status):
            return record
    raise AssertionError(f"no record {status!r}")


def partials(store: ModelStore) -> set[str]:
    return {path.name for path in store.blobs.iterdir() if "partial" in path.name}


def assert_installed(store: ModelStore, name: str, model: Published) -> None:
    """Listed, with the registry's own bytes, and every blob holds what its name says."""
    manifest = store.manifest(name)
    assert manifest.raw == model.raw
    for digest, content in model.contents.items():
        assert store.blob_path(digest).read_bytes() == content
    assert partials(store) == set()


def open_files_below(folder: Path) -> list[str]:
    return [file.path for file in psutil.Process().open_files() if folder in Path(file.path).parents]


def notes(store: ModelStore, model: Published) -> list[dict[str, int]]:
    paths = sorted(store.blobs.glob(f"{store.blob_path(model.weights.digest).name}-partial-*"))
    return [json.loads(path.read_text()) for path in paths]
