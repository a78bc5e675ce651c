"""Alerts: every few seconds the rules are held against the figures; what is raised is kept, shown and told.

Open alerts and the last ended ones outlive a restart, so that a cause that goes on stays one alert.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from app.core.alerts import Alert, AlertMessage, Figures, Rule, Severity
from app.core.errors import BadRequest
from app.core.exported_spans import Delivery
from app.core.generation import Json
from app.core.ports import Clock
from app.services.alerting.alert_file import read_alerts, write_alerts
from app.services.alerting.announcing import Announcer, ReceiverState
from app.services.alerting.figures import KNOWN, Watched
from app.services.alerting.messages import Messages
from app.services.alerting.rule_book import RuleBook
from app.services.alerting.watching import Watch
from app.services.metrics import Metrics
from app.services.small_file import read_small, write_small

EVERY = 5.0  # seconds between two looks
KEPT = 200  # ended alerts
BASELINES_FILE = "alert-baselines.json"
OFF, REMOVED = "the rule was turned off", "the rule was removed"
NO_RECEIVER = "no webhook is set: say where alerts go with LOUPE_ALERT_WEBHOOK"
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RuleState:
    """A rule and how it stands: `figures` by subject now, `pending` subjects that are beyond its limit and since when
    (seconds ago), `open` how many alerts of it are. `changed`: not as it comes with Loupe."""

    rule: Rule
    figures: Mapping[str, float]
    pending: Mapping[str, float]
    open: int
    changed: bool


@dataclass(frozen=True, slots=True)
class AlertsView:
    """`alerts`: the open ones, the newest first, and then those that ended. `series`: all that a rule may look at.
    `looked` is when that was, by the clock of the epoch; 0 before the first look."""

    alerts: tuple[Alert, ...]
    rules: tuple[RuleState, ...]
    series: tuple[str, ...]
    receiver: ReceiverState | None
    looked: float

    @property
    def open(self) -> tuple[Alert, ...]:
        return tuple(alert for alert in self.alerts if alert.open)


class Alerts:
    """Belongs to the event loop; `view` may be called from any thread."""

    def __init__(
        self, watched: Watched, folder: Path, clock: Clock, metrics: Metrics, messages: Messages,
        announcer: Announcer | None = None, every: float | None = None,
    ) -> None:  # fmt: skip
        self._watched, self._folder, self._clock, self._messages = watched, folder, clock, messages
        self._every = EVERY if every is None else every
        self.announcer = announcer
        self.book = RuleBook(folder)
        self._watches: dict[tuple[str, str], Watch] = {}
        self._alerts: dict[str, Alert] = {}  # by id, in the order of what happened
        self._figures: Figures = {}
        self._looked = 0.0
        self._unsaved = False
        self._task: asyncio.Task[None] | None = None
        self._changing = asyncio.Lock()
        self._on_event: list[Callable[[Alert], None]] = []
        if announcer is not None:
            announcer.changed = self._touch
        metrics.readings(
            "watched", "What alert rules look at, by series; times in s, shares 0 to 1.", ("series", "subject"),
            lambda: {(series, who): value for series, row in self._figures.items() for who, value in row.items()},
        )  # fmt: skip
        metrics.readings("alerts", "Open alerts.", ("rule", "severity"), self._counted)

    def on_event(self, tell: Callable[[Alert], None]) -> None:
        """Called on the event loop whenever an alert was raised or has ended."""
        self._on_event.append(tell)

    async def start(self) -> None:
        await asyncio.to_thread(self.book.load)
        self._watched.baselines.restore(await asyncio.to_thread(read_small, self._folder / BASELINES_FILE))
        self._restore(*await asyncio.to_thread(read_alerts, self._folder))
        if self.announcer is not None:
            self.announcer.start()
        self._task = asyncio.create_task(self._run(), name="alerts")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            if self.announcer is not None:
                await self.announcer.stop()
            self._unsaved = True
            await self._save()

    def look(self) -> None:
        """Hold every rule against the figures of now."""
        self._figures, self._looked = self._watched.look(), self._clock.now()
        clock, now = self._clock.monotonic(), self._looked
        rules = {rule.name: rule for rule in self.book.rules if rule.on}
        for rule in rules.values():
            told = self._figures.get(rule.series, {})
            for subject in {*told, *(who for name, who in self._watches if name == rule.name)}:
                watch = self._watches.setdefault((rule.name, subject), Watch(rule, subject))
                watch.rule = rule
                self._happened(watch.see(told.get(subject), clock, now))
        for (name, subject), watch in list(self._watches.items()):
            if name not in rules:
                self._happened(watch.close(clock, now, OFF if self.book.find(name) else REMOVED))
                del self._watches[name, subject]
            elif watch.idle and watch.value is None:
                del self._watches[name, subject]

    def view(self) -> AlertsView:
        return AlertsView(
            alerts=self._listed(),
            rules=tuple(map(self._state, self.book.rules)),
            series=tuple(sorted({*KNOWN, *self._figures})),
            receiver=self.announcer.state if self.announcer else None,
            looked=self._looked,
        )

    async def change(self, name: str, wish: Mapping[str, Json]) -> Rule:
        """Change a rule or make one. Raises `BadRequest` for what is none."""
        async with self._changing:
            rule = await asyncio.to_thread(self.book.put, name, wish, {*KNOWN, *self._figures})
            self.look()
        return rule

    async def remove(self, name: str) -> Rule | None:
        """Take an own rule away; a shipped one is as it came again, and returned. Raises `RuleNotFound`."""
        async with self._changing:
            rule = await asyncio.to_thread(self.book.remove, name)
            self.look()
        return rule

    async def try_receiver(self) -> Delivery:
        """Send the receiver a message that says it is a trial."""
        if self.announcer is None:
            raise BadRequest(NO_RECEIVER)
        return await self.announcer.try_out(self._messages.trial(self._clock.now()))

    def _happened(self, alert: Alert | None) -> None:
        if alert is None:
            return
        self._alerts.pop(alert.id, None)
        self._alerts[alert.id] = alert
        ended = [one.id for one in self._alerts.values() if not one.open]
        for old in ended[:-KEPT]:
            del self._alerts[old]
        log.warning(
            "alert raised" if alert.open else "alert ended", rule=alert.rule, subject=alert.subject or None,
            seen=alert.seen, value=alert.value, times=alert.times,
        )  # fmt: skip
        if self.announcer is not None:
            self.announcer.tell(self._messages.about(alert))
        for tell in self._on_event:
            tell(alert)
        self._touch()

    def _listed(self) -> tuple[Alert, ...]:
        """Open ones with the figure of now."""
        now = {watch.alert.id: watch.alert for watch in tuple(self._watches.values()) if watch.alert and watch.open}
        known = [now.get(alert.id, alert) for alert in reversed(tuple(self._alerts.values()))]
        return tuple(sorted(known, key=_urgency))

    def _state(self, rule: Rule) -> RuleState:
        clock = self._clock.monotonic()
        watches = {who: watch for (name, who), watch in tuple(self._watches.items()) if name == rule.name}
        pending = {
            who: clock - watch.beyond_since
            for who, watch in watches.items() if watch.beyond_since is not None and not watch.open
        }  # fmt: skip
        open_now = sum(watch.open for watch in watches.values())
        return RuleState(
            rule, self._figures.get(rule.series, {}), pending, open_now, not rule.own and self.book.changed(rule.name)
        )

    def _counted(self) -> dict[tuple[str, ...], float]:
        counts: dict[tuple[str, ...], float] = {(rule.name, str(rule.severity)): 0.0 for rule in self.book.rules}
        for alert in self._listed():
            if alert.open and (alert.rule, str(alert.severity)) in counts:
                counts[alert.rule, str(alert.severity)] += 1
        return counts

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            try:
                self.look()
                await self._save()
            except Exception:  # whatever is wrong with a figure, the next look comes
                log.exception("alerts broke")

    def _touch(self) -> None:
        self._unsaved = True

    async def _save(self) -> None:
        """A disk that cannot be written costs what a restart would know, and is said in the log."""
        alerts, learned = self._unsaved, self._watched.learned
        self._unsaved = self._watched.learned = False
        try:
            if alerts:
                waiting = self.announcer.waiting if self.announcer else ()
                await asyncio.to_thread(write_alerts, self._folder, tuple(self._alerts.values()), waiting)
            if learned:
                usual = json.dumps(self._watched.baselines.kept(), ensure_ascii=False)
                await asyncio.to_thread(write_small, self._folder / BASELINES_FILE, usual)
        except OSError as error:
            log.warning("alerts not kept", error=str(error))

    def _restore(self, alerts: Sequence[Alert], untold: Sequence[AlertMessage]) -> None:
        clock, now = self._clock.monotonic(), self._clock.now()
        for alert in alerts:
            self._alerts[alert.id] = alert
            rule = self.book.find(alert.rule)
            if rule is not None:
                ended = float("-inf") if alert.ended is None else clock - max(0.0, now - alert.ended)
                self._watches[alert.rule, alert.subject] = Watch(rule, alert.subject, alert, ended)
        if self.announcer is not None:
            for message in untold:
                self.announcer.tell(message.content, message.id)


def _urgency(alert: Alert) -> int:
    """Open ones first, and of them the critical ones."""
    return 2 if not alert.open else int(alert.severity is not Severity.CRITICAL)
