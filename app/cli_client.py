"""The running instance as the command line sees it: its address and private token are in `instance.json`."""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from app.config import Settings
from app.config_report import load_settings
from app.core.errors import LoupeError
from app.core.generation import Json
from app.instance import InstanceRecord, find_running

SECONDS = 60.0  # longest wait for an answer; the feed of events shows a sign of life more often than that
START_SECONDS = 90.0
STOP_SECONDS = 45.0


class NotRunning(LoupeError):
    code = "not_running"

    def __init__(self, why: str = "") -> None:
        super().__init__(why or "Loupe is not running on this data folder; start it with `python -m app`")


class Refused(LoupeError):
    """The running instance answered with an error; its own sentence."""

    code = "refused"

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Instance:
    """Requests to a Loupe that runs. `for_command`: it was started for one command and ends with it."""

    def __init__(self, settings: Settings, record: InstanceRecord) -> None:
        self.for_command = False
        address = urlsplit(record.url)
        self._host, self._port = address.hostname or "127.0.0.1", address.port
        # The Host must be one of the allowed names, also when loopback is none of them.
        self._headers = {"Host": settings.allowed_hosts[0], "Authorization": f"Bearer {record.token}"}

    def ask(self, method: str, path: str, body: Mapping[str, Json] | None = None, **query: str) -> dict[str, Any]:
        """The JSON object that it answers. Raises `Refused`, or `NotRunning` where it has gone."""
        status, content = self.raw(method, path, body, **query)
        try:
            told = json.loads(content) if content else {}
        except ValueError:
            told = {"error": content[:200].decode("utf-8", "replace")}
        if status >= 400:
            raise Refused(status, str(told.get("error") or f"it answered {status}"))
        return dict(told)

    def raw(self, method: str, path: str, body: Mapping[str, Json] | None = None, **query: str) -> tuple[int, bytes]:
        with self._sent(method, path, body, query) as answer:
            return answer.status, answer.read()

    def marked(self, path: str, header: str, **query: str) -> tuple[int, bytes, str]:
        """What is there, and a header of the answer ("" without one)."""
        with self._sent("GET", path, None, query) as answer:
            return answer.status, answer.read(), answer.headers.get(header, "")

    def events(self, path: str) -> Generator[dict[str, Any], None, None]:
        """The data of each server-sent event, to the end of the feed. Closing the iterator hangs up."""
        with self._sent("GET", path, None, {}) as answer:
            if answer.status != 200:
                raise Refused(answer.status, f"it answered {answer.status}")
            for line in answer:
                if line.startswith(b"data: "):
                    yield dict(json.loads(line[6:]))

    @contextlib.contextmanager
    def _sent(
        self, method: str, path: str, body: Mapping[str, Json] | None, query: Mapping[str, str]
    ) -> Iterator[http.client.HTTPResponse]:
        named = {name: value for name, value in query.items() if value}
        target = quote(path) + (f"?{urlencode(named)}" if named else "")
        content = None if body is None else json.dumps(dict(body)).encode()
        connection = http.client.HTTPConnection(self._host, self._port, timeout=SECONDS)
        try:
            connection.request(method, target, content, self._headers)
            with connection.getresponse() as answer:
                yield answer
        except (OSError, http.client.HTTPException) as error:
            raise NotRunning(f"the running Loupe has gone: {error or type(error).__name__}") from error
        finally:
            connection.close()


def find_instance(settings: Settings | None = None) -> Instance | None:
    settings = settings or load_settings().settings
    record = find_running(settings.data)
    return None if record is None else Instance(settings, record)


@contextlib.contextmanager
def some_instance() -> Iterator[Instance]:
    """The running one, or one that is started for this command and ended with it. Raises `NotRunning`."""
    running = find_instance()
    if running is not None:
        yield running
        return
    print("Loupe is not running; starting it for this command", file=sys.stderr)
    with tempfile.TemporaryFile() as log:
        # A session of its own: Ctrl-C is ours to pass on, as the end of the job.
        process = subprocess.Popen(
            [sys.executable, "-m", "app", "serve", "--port", "0", "--no-starter"], cwd=Path(__file__).parents[1],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        try:
            instance = _when_ready(process, log)
            instance.for_command = True
            yield instance
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def _when_ready(process: subprocess.Popen[bytes], log: Any) -> Instance:
    """Until it answers and a host of its has told its models, or none is going to."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            log.seek(0)
            words = log.read().decode("utf-8", "replace").strip().splitlines()
            raise NotRunning(f"Loupe could not be started: {words[-1] if words else f'status {process.returncode}'}")
        instance = find_instance()
        if instance is not None and not _warming(instance):
            return instance
        time.sleep(0.1)
    raise NotRunning(f"Loupe was started and not ready within {START_SECONDS:g} s")


def _warming(instance: Instance) -> bool:
    with contextlib.suppress(NotRunning):
        return "starting" in str(json.loads(instance.raw("GET", "/readyz")[1]).get("reason", ""))
    return True


def check_health(*, ready: bool) -> int:
    """0 if it answers (and, with `ready`, if a model can answer), else 1 and the reason."""
    instance = find_instance()
    try:
        if instance is None:
            raise NotRunning
        status, body = instance.raw("GET", "/readyz" if ready else "/healthz")
    except NotRunning as problem:
        print(problem, file=sys.stderr)
        return 1
    if status != 200:
        print(body.decode("utf-8", "replace"), file=sys.stderr)
    return 0 if status == 200 else 1
