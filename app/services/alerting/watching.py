"""One rule and one subject over time: beyond the limit, for long enough, back again, for long enough.

Durations are by the monotonic clock, so that a clock that is set neither raises nor ends anything; what is told are
moments of the other one.
"""

from __future__ import annotations

import secrets
from dataclasses import replace

from app.core.alerts import Alert, Rule
from app.services.alerting.words import seen

AGAIN_SECONDS = 900.0  # a cause that comes back within this is the same alert
LONGEST_REST = 3600.0  # an alert that came back has to be quiet for twice as long each time, so long at most
GONE_SECONDS = 60.0  # a figure that is not told any more ends its alert after this, or after the rule's rest
GONE = "the figure is not told any more"


class Watch:
    """`alert` is the open one, or the last one while its cause may still come back; it ended at that time, by the
    monotonic clock."""

    def __init__(self, rule: Rule, subject: str, alert: Alert | None = None, ended: float = float("-inf")) -> None:
        self.rule, self._subject, self.alert = rule, subject, alert
        self.value: float | None = None
        self.beyond_since: float | None = None
        self._back_since: float | None = None
        self._gone_since: float | None = None
        self._ended = ended

    @property
    def open(self) -> bool:
        return self.alert is not None and self.alert.open

    @property
    def idle(self) -> bool:
        """Nothing would be lost with it."""
        return self.alert is None and self.beyond_since is None

    def see(self, value: float | None, clock: float, now: float) -> Alert | None:
        """The alert, where it was raised or has ended by this figure. `clock` is monotonic, `now` since the epoch."""
        self.value = value
        if value is None:
            return self._nothing(clock, now)
        self._gone_since = None
        if self.alert is not None and self.alert.open:
            return self._goes_on(self.alert, value, clock, now)
        return self._quiet(value, clock, now)

    def close(self, clock: float, now: float, why: str) -> Alert | None:
        """End it, where it is open: the rule is gone, or off."""
        return self._end(self.alert, clock, now, why) if self.alert is not None and self.alert.open else None

    def _quiet(self, value: float, clock: float, now: float) -> Alert | None:
        if self.alert is not None and clock - self._ended > AGAIN_SECONDS:
            self.alert = None
        if not self.rule.beyond(value):
            self.beyond_since = None
            return None
        if self.beyond_since is None:
            self.beyond_since = clock
        held = clock - self.beyond_since
        if held < self.rule.hold:
            return None
        self._back_since = None
        before = self.alert
        self.alert = Alert(
            id=before.id if before else secrets.token_hex(8), rule=self.rule.name, subject=self._subject,
            title=self.rule.title, severity=self.rule.severity, unit=self.rule.unit,
            seen=seen(self.rule, self._subject, value), advice=self.rule.advice,
            since=before.since if before else now - held, raised=now, limit=self.rule.limit, value=value,
            worst=self._worse(before.worst, value) if before else value, times=before.times + 1 if before else 1,
        )  # fmt: skip
        return self.alert

    def _goes_on(self, alert: Alert, value: float, clock: float, now: float) -> Alert | None:
        self.alert = alert = replace(alert, value=value, worst=self._worse(alert.worst, value))
        if not self.rule.back(value):
            self._back_since = None
            return None
        if self._back_since is None:
            self._back_since = clock
        return self._end(alert, clock, now, "") if clock - self._back_since >= self.rest else None

    def _nothing(self, clock: float, now: float) -> Alert | None:
        self.beyond_since = self._back_since = None
        if self._gone_since is None:
            self._gone_since = clock
        if self.alert is not None and self.alert.open:
            gone = clock - self._gone_since >= max(GONE_SECONDS, self.rest)
            return self._end(self.alert, clock, now, GONE) if gone else None
        if clock - self._ended > AGAIN_SECONDS:
            self.alert = None
        return None

    @property
    def rest(self) -> float:
        """Seconds for which it has to be quiet: doubled with each return."""
        times = self.alert.times if self.alert else 1
        return max(self.rule.rest, min(LONGEST_REST, self.rule.rest * (1 << min(times - 1, 12))))

    def _end(self, alert: Alert, clock: float, now: float, why: str) -> Alert:
        self.alert = alert = replace(alert, ended=now, why_ended=why)
        self._ended, self.beyond_since, self._back_since = clock, None, None
        return alert

    def _worse(self, one: float, other: float) -> float:
        return max(one, other) if self.rule.above else min(one, other)
