"""What a run of a study works with: the study so far, where it measures, and how it tells how far it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

from app.comparison.batching.site import Around, Grounds, Site
from app.comparison.batching.study import AskedStudy, Study
from app.core.generation import Json
from app.core.runtime_setup import RuntimeSetup
from app.services.jobs import JobHandle


@dataclass(slots=True)
class Frame:
    """`own`: the grounds are runtimes of our own, which take a whole setup; any other host takes per request what it
    can. `publish` shows and keeps the study."""

    study: Study
    grounds: Grounds
    own: bool
    around: Around
    handle: JobHandle
    publish: Callable[[Study], Awaitable[None]]
    done: int = 0
    total: int = 0
    sites: list[Site] = field(default_factory=list)

    @property
    def asked(self) -> AskedStudy:
        return self.study.asked

    async def site(self, setup: RuntimeSetup, context: int) -> Site:
        """A place to measure that setup, with so many tokens of context for each request."""
        backend = await self.grounds.open(setup)
        options: dict[str, Json] = {"num_ctx": context, **({} if self.own else setup.options)}
        made = Site(backend, self.asked.model, options, self.around)
        self.sites.append(made)
        return made

    def step(self, weight: int, detail: str) -> None:
        """So much more is done; `detail` is what comes now."""
        self.done += weight
        self.handle.progress(self.done, max(self.total, self.done + 1), detail, rated=False)

    async def tell(self, **changes: Any) -> None:
        self.study = replace(self.study, **changes)
        await self.publish(self.study)

    @property
    def disturbed(self) -> int:
        return sum(site.disturbed for site in self.sites)
