"""Who else uses a host: nobody's answers are to become slow because somebody measures.

Known are those who come through Loupe, its own jobs, and models that another client has loaded there. What another
client asks a host directly at this moment no host tells.
"""

from __future__ import annotations

from collections.abc import Sequence

from app.comparison.host_bench import FLOW as COMPARING
from app.comparison.host_bench import Way
from app.core.errors import HostError
from app.core.generation import Priority
from app.core.ports import Clock
from app.services.jobs import Jobs
from app.services.request_log import RequestFilter

FLOW = "load lab"  # what the flows of a run begin with
KIND = "load"
LATELY_SECONDS = 60.0
_OURS = (FLOW, COMPARING, "models")  # what Loupe does by itself counts as a job, while it is one


class HostUse:
    def __init__(self, way: Way, jobs: Jobs, clock: Clock) -> None:
        self._way, self._jobs, self._clock = way, jobs, clock

    async def why_not(self, hosts: Sequence[str], flow: str) -> str:
        """Why the hosts are not to be loaded, in a sentence without its end; "" where nobody would feel it. `flow` is
        that of whoever asks: they are no others."""
        for host in hosts:
            if told := self._now(host, flow) or self._lately(host, flow) or await self._elsewhere(host):
                return told
        return ""

    def came(self, hosts: Sequence[str]) -> bool:
        """Whether somebody waits or runs there now who does not belong to the run."""
        return any(self._people(host) for host in hosts)

    def _people(self, host: str) -> int:
        view = self._way.queue.snapshot()
        waiting = sum(_foreign(row.flow) and row.priority is Priority.INTERACTIVE for row in view.waiting)
        return waiting + sum(
            _foreign(row.flow) and row.priority is Priority.INTERACTIVE and row.host == host for row in view.running
        )

    def _now(self, host: str, flow: str) -> str:
        job = next((one for one in self._jobs.list() if one.host == host and one.active and one.kind != KIND), None)
        if job is not None:
            return f"{host} is at work: {job.title}"
        here = [row for row in self._way.queue.snapshot().running if row.host == host and _foreign(row.flow)]
        return f"{host} is answering others now ({_counted(len(here))})" if here else ""

    def _lately(self, host: str, flow: str) -> str:
        now = self._clock.now()
        wanted = RequestFilter(host=host, since=now - LATELY_SECONDS, limit=1000)
        lately = [
            one
            for one in self._way.telemetry.log.select(wanted)
            if _foreign(one.flow) and one.flow != flow and one.cache.outcome != "hit"
        ]
        if not lately:
            return ""
        last = max(0.0, now - max(one.started_at + one.seconds for one in lately))
        return f"others use {host}: {_counted(len(lately))} in the last minute, the last one {last:.0f} s ago"

    async def _elsewhere(self, host: str) -> str:
        backend = self._way.pool.backend(host)
        if backend.address.embedded:
            return ""  # nobody else reaches it
        try:
            loaded = [row.name for row in await backend.loaded()]
        except HostError:
            return ""  # it will be told when the load meets it
        for name in loaded:
            if not self._way.telemetry.log.select(RequestFilter(host=host, model=name, limit=1)):
                return f"{name} is loaded on {host}, and not through this Loupe: another client seems to use it"
        return ""


def _foreign(flow: str) -> bool:
    return not flow.startswith(_OURS)


def _counted(number: int) -> str:
    return "1 request" if number == 1 else f"{number} requests"
