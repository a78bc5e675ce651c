"""The starter family as a job of the server: what is being made, how far, and what went wrong.

The making itself runs in its own process behind the `FamilyMaker` port; the page can answer as soon as the first
variant is installed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import Any, cast

from app.core.making import STARTER_FAMILY, MakingProgress
from app.core.ports import FamilyMaker
from app.services.jobs import JobHandle, Jobs, JobView

KEY = "starter family"
WORDS = {
    "download": "Downloading the starter model",
    "verify": "Checking the download",
    "dequantise": "Unpacking to 16 bit",
    "quantise": "Making {variant}",
    "install": "Installing {variant}",
    "done": "All variants are ready",
}


class StarterFamily:
    """Drives the maker. `on_installed` is called after each variant, so that the catalog looks again."""

    def __init__(self, maker: FamilyMaker, jobs: Jobs, on_installed: Callable[[], None]) -> None:
        self._maker, self._jobs, self._on_installed = maker, jobs, on_installed
        self._now = MakingProgress("")
        self._active = False

    def start(self) -> JobView:
        return self._jobs.start("starter", KEY, "Starter models", self._work)

    def making(self) -> Mapping[str, float | None]:
        """The family's variants while the job runs: fraction done of the one being made, None for those that wait.

        Those that are there already are among them; whoever shows the list knows them from the host.
        """
        if not self._active:
            return {}
        return {name: self._now.fraction or 0.0 if name == self._now.variant else None for name in STARTER_FAMILY}

    async def _work(self, handle: JobHandle) -> None:
        self._active = True
        try:
            # Closed explicitly: cancelling the job has to end the process now, not at the next collection.
            async with aclosing(cast(Any, self._maker.run())) as steps:
                async for step in steps:
                    before, self._now = self._now, step
                    handle.progress(step.completed, step.total, describe(step))
                    if before.phase == "install" or step.phase == "done":
                        self._on_installed()
        finally:
            self._active = False
            self._on_installed()


def describe(step: MakingProgress) -> str:
    return WORDS.get(step.phase, step.phase).format(variant=step.variant.rpartition("-")[2] or step.variant)
