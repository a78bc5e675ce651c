"""The words of the Home screen: one line of truth, what needs somebody, three ways on. Pure: no Streamlit, no services,
no clock of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from app.core.alerts import Alert, Severity
from app.core.hosts import ANSWERING, HostState, HostStatus
from app.models.catalog import CatalogFamily, CatalogVariant, CatalogView
from app.services.jobs import JobState, JobView
from app.services.queueing.views import QueueSnapshot
from app.ui import view_models as vm

NAMED = 2  # models that are named; more are counted
UNNAMED = "ollama"  # what the one host is called to which nobody gave a name


@dataclass(frozen=True, slots=True)
class Need:
    """Something that wants a person: what it is, what to do, and the screen where that is done ("" where it is not
    one), in which `view` of it. `above`: the strip over the page says it already."""

    what: str
    to_do: str
    screen: str = ""
    label: str = ""
    view: str = ""
    above: bool = False


def truth(catalog: CatalogView, hosts: Sequence[HostStatus], queue: QueueSnapshot, needs: Sequence[Need]) -> str:
    """What runs, how busy, what needs me."""
    return f"{_runs(catalog, hosts)} {_busy(queue)} {_needed(needs)}"


def _runs(catalog: CatalogView, hosts: Sequence[HostStatus]) -> str:
    answering = [host for host in hosts if host.state in ANSWERING]
    if not answering:
        starting = any(host.state in (HostState.WARMING, HostState.UNKNOWN) for host in hosts)
        return "The model host is starting." if starting else "No model host answers."
    where = _where(answering)
    names = list(dict.fromkeys(_short(name, catalog) for host in answering for name in host.loaded))
    if not names:
        return f"{where}, no model in memory."
    told = " and ".join(names) if len(names) <= NAMED else f"{len(names)} models"
    return f"{where}, {told} in memory."


def _where(answering: Sequence[HostStatus]) -> str:
    if len(answering) > 1:
        return f"{len(answering)} hosts answer"
    [host] = answering
    if host.address.embedded:
        return "The built-in runtime answers"
    named = host.address.name != UNNAMED
    return f"Ollama on {host.address.name} answers" if named else "Ollama answers"


def _short(name: str, catalog: CatalogView) -> str:
    found = catalog.find(name)
    return f"{found[0].title} {found[1].label}" if found else name


def _busy(queue: QueueSnapshot) -> str:
    running, waiting = len(queue.running), len(queue.waiting)
    if queue.paused:
        told = f"{vm.count(waiting, 'request')} wait{'s' if waiting == 1 else ''}" if waiting else "nobody waits"
        return f"The queue is paused, {told}."
    if not running and not waiting:
        return "Nothing is asked just now."
    told = f"{vm.count(running, 'answer')} {'is' if running == 1 else 'are'} being made"
    if not waiting:
        return f"{told}, nobody waits."
    etas = [row.eta for row in queue.waiting if row.eta is not None]
    begins = f", the next begins in {vm.between(etas[0].low, etas[0].high)}" if etas else ""
    return f"{told}, {waiting} wait{'s' if waiting == 1 else ''}{begins}."


def _needed(needs: Sequence[Need]) -> str:
    if not needs:
        return "Nothing needs you."
    return "One thing needs you." if len(needs) == 1 else f"{len(needs)} things need you."


def needs(
    catalog: CatalogView, hosts: Sequence[HostStatus], queue: QueueSnapshot, jobs: Sequence[JobView],
    alerts: Sequence[Alert],
) -> Iterator[Need]:  # fmt: skip
    """The most pressing first. A host that is down is told at once, and not again when that has become an alert."""
    for host in hosts:
        if host.state in (HostState.OFFLINE, HostState.MISCONFIGURED):
            why = vm.sentence(host.error) or "It does not answer."
            yield Need(f"The host {host.address.name} does not answer", why, "service", "Service", above=True)
    if queue.paused:
        yield Need("The queue is paused", "Nobody gets an answer until it goes on.", "service", "Service")
    if queue.draining:
        yield Need("The queue is drained", "Nothing new is taken until it goes on.", "service", "Service")
    for alert in sorted(alerts, key=lambda alert: alert.severity is not Severity.CRITICAL):
        if alert.rule != "host_down":
            yield Need(alert.title, f"{alert.seen} {alert.advice}", "dashboard", "Alerts", view="Alerts")
    for job in jobs:
        if job.state is JobState.FAILED:
            yield Need(f"{job.title} failed", vm.sentence(job.error), "models", "Models")
    answering = any(host.state in ANSWERING for host in hosts)
    if answering and not catalog.families and not catalog.problems and not any(job.active for job in jobs):
        yield Need("There is no model yet", "Get one, and ask as soon as it is there.", "models", "Models")


@dataclass(frozen=True, slots=True)
class Way:
    """One way on: a link and a sentence below it. `model` or `family`: what the screen is to begin with."""

    screen: str
    label: str
    told: str
    model: str = ""
    family: str = ""


def ways(catalog: CatalogView) -> tuple[Way, ...]:
    """Three, as this machine stands."""
    ready = [
        (family, variant) for family in catalog.families for variant in family.variants if variant.state == "ready"
    ]
    talks = [pair for pair in ready if "completion" in (pair[1].capabilities or ("completion",))]
    several = max(catalog.families, key=lambda family: len(family.variants), default=None)
    return _ask(talks), _compare(several), _more(len(ready))


def _ask(talks: Sequence[tuple[CatalogFamily, CatalogVariant]]) -> Way:
    if not talks:
        return Way("chat", "Chat", "As soon as a model is here.")
    family, variant = next((pair for pair in talks if pair[1].loaded is not None), talks[0])
    loaded = ", in memory, answers at once" if variant.loaded else " is loaded with the first question"
    return Way("chat", "Ask a question", f"{family.title} {variant.label}{loaded}.", model=variant.name)


def _compare(several: CatalogFamily | None) -> Way:
    if several is None or len(several.variants) < 2:
        return Way("compare", "Compare variants", "Which quantization is good enough, measured: needs two of a model.")
    told = f"The {len(several.variants)} quantizations of {several.title}: quality, speed and memory, measured here."
    return Way("compare", "Choose a quantization", told, family=several.key)


def _more(there: int) -> Way:
    if not there:
        return Way("models", "Get a model", "Pull one by its tag; other quantizations of it are made here.")
    return Way("models", "Models", f"{vm.count(there, 'variant')} here: size, fit and memory; get or make more.")
