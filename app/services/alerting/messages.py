"""What a receiver is told, in the shape of Standard Webhooks (https://www.standardwebhooks.com): type, timestamp, data.

`text` says it all in a few sentences, for receivers that only show something.
"""

from __future__ import annotations

import platform
from dataclasses import asdict
from datetime import UTC, datetime

from app.core.alerts import Alert
from app.core.generation import Json
from app.services.alerting.words import YES, headline, span, told


class Messages:
    """`url`: how browsers reach Loupe, "" where that was not said."""

    def __init__(self, url: str, version: str) -> None:
        self._url = url
        self._from: dict[str, Json] = {"machine": platform.node() or "this machine", "url": url, "version": version}

    def about(self, alert: Alert) -> dict[str, Json]:
        moment = alert.raised if alert.ended is None else alert.ended
        return {
            "type": "alert.raised" if alert.open else "alert.ended",
            "timestamp": _moment(moment),
            "text": self._text(alert),
            "data": {
                **asdict(alert), "since": _moment(alert.since), "raised": _moment(alert.raised),
                "ended": None if alert.ended is None else _moment(alert.ended),
            },
            "loupe": self._from,
        }  # fmt: skip

    def trial(self, now: float) -> dict[str, Json]:
        return {
            "type": "alert.test", "timestamp": _moment(now),
            "text": f"Loupe on {self._from['machine']} can reach this address; alerts will come here.",
            "data": {}, "loupe": self._from,
        }  # fmt: skip

    def _text(self, alert: Alert) -> str:
        where = f" ({self._url}/dashboard?view=Alerts)" if self._url else ""
        title = f"[{self._from['machine']}] {headline(alert)}"
        if alert.ended is None:
            again = f" It is back, time {alert.times}." if alert.times > 1 else ""
            return f"{title}. {alert.seen}{again} {alert.advice}{where}".replace("  ", " ")
        over = alert.why_ended or self._back(alert)
        return f"{title}: over after {span(max(1.0, alert.ended - alert.since))}, {over}.{where}"

    @staticmethod
    def _back(alert: Alert) -> str:
        if alert.unit == YES:
            return "all is well again"
        return f"now {told(alert.value, alert.unit)}, at worst {told(alert.worst, alert.unit)}"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
