"""What of the alerts outlives a restart: open and ended ones, and the messages that nobody took yet. Blocks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from app.core.alerts import Alert, AlertMessage, Severity
from app.services.small_file import read_small, write_small

FILE = "alerts.json"
_NAMES = frozenset(field.name for field in fields(Alert))


def write_alerts(folder: Path, alerts: Iterable[Alert], untold: Iterable[AlertMessage]) -> None:
    """Raises OSError."""
    kept = {
        "alerts": [asdict(alert) for alert in alerts],
        "untold": [{"id": message.id, "content": dict(message.content)} for message in untold],
    }
    write_small(folder / FILE, json.dumps(kept, ensure_ascii=False))


def read_alerts(folder: Path) -> tuple[Sequence[Alert], Sequence[AlertMessage]]:
    """What can be read of it."""
    kept = read_small(folder / FILE)
    alerts, untold = (kept.get("alerts"), kept.get("untold")) if isinstance(kept, dict) else (None, None)
    messages = [
        AlertMessage(name, content)
        for row in (untold if isinstance(untold, list) else ())
        if isinstance(row, dict)
        and isinstance(name := row.get("id"), str)
        and isinstance(content := row.get("content"), dict)
    ]
    return [alert for row in (alerts if isinstance(alerts, list) else ()) if (alert := _alert(row))], messages


def _alert(row: Any) -> Alert | None:
    try:
        values = {name: value for name, value in row.items() if name in _NAMES}
        return Alert(**{**values, "severity": Severity(values["severity"])})
    except (AttributeError, TypeError, KeyError, ValueError):
        return None
