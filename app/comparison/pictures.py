"""Drawing Vega-Lite specifications, as a port: pages draw them in the browser, reports and exports on the server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from app.core.generation import Json

Spec = Mapping[str, Json]


class Pictures(Protocol):
    """Raises `StoreError` where the drawing process fails: a specification that it cannot read, or no memory."""

    async def bundle(self) -> Path:
        """The file with vega, vega-lite and vega-embed for the browser: made once, then there."""
        ...

    async def svg(self, spec: Spec) -> str: ...

    async def svgs(self, specs: Sequence[Spec]) -> list[str]:
        """Several at the price of one start."""
        ...

    async def png(self, spec: Spec, scale: float = 2.0) -> bytes: ...
