"""Commands that talk to the running instance: its address and private token are in `instance.json`."""

from __future__ import annotations

import http.client
import json
import sys
from urllib.parse import urlsplit

from app.config import Settings
from app.config_report import load_settings
from app.core.errors import LoupeError
from app.core.generation import Json
from app.instance import InstanceRecord, find_running

SECONDS = 10.0


class NotRunning(LoupeError):
    code = "not_running"

    def __init__(self) -> None:
        super().__init__("Loupe is not running on this data folder; start it with `python -m app`")


def print_models() -> int:
    """Name, size and quantization of every model, as /api/tags lists them."""
    status, body = _get("/api/tags")
    if status != 200:
        raise LoupeError(f"the running Loupe answered {status}: {body[:200].decode('utf-8', 'replace')}")
    rows = [_row(model) for model in json.loads(body).get("models") or []]
    width = max((len(name) for name, _, _ in rows), default=0)
    for name, bytes_, level in rows:
        print(f"{name:<{width}}  {bytes_:>10}  {level}")
    return 0


def _row(model: dict[str, Json]) -> tuple[str, str, str]:
    details, bytes_ = model.get("details"), model.get("size")
    level = details.get("quantization_level") if isinstance(details, dict) else ""
    shown = f"{bytes_ / 1e6:.0f} MB" if isinstance(bytes_, int) else "?"
    return str(model.get("name")), shown, str(level or "")


def check_health(*, ready: bool) -> int:
    """0 if it answers (and, with `ready`, if a model can answer), else 1 and the reason."""
    try:
        status, body = _get("/readyz" if ready else "/healthz")
    except (NotRunning, OSError) as problem:
        print(problem, file=sys.stderr)
        return 1
    if status != 200:
        print(body.decode("utf-8", "replace"), file=sys.stderr)
    return 0 if status == 200 else 1


def _get(path: str) -> tuple[int, bytes]:
    settings = load_settings().settings
    record = find_running(settings.data)
    if record is None:
        raise NotRunning
    address = urlsplit(record.url)
    connection = http.client.HTTPConnection(address.hostname or "127.0.0.1", address.port, timeout=SECONDS)
    try:
        connection.request("GET", path, headers=_headers(settings, record))
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def _headers(settings: Settings, record: InstanceRecord) -> dict[str, str]:
    """The Host must be one of the allowed names, also when loopback is none of them."""
    return {"Host": settings.allowed_hosts[0], "Authorization": f"Bearer {record.token}"}
