"""The embedded runtime's keeper with a real child process: a small server in place of the model server."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from app.backends.embedded import EmbeddedRuntime, EmbeddedSettings
from app.core.errors import HostUnreachable, HostWarming
from app.core.hosts import HostState
from app.core.ports import SystemClock
from app.services.host_pool import HostPool
from app.services.watched_host import WatchedHost

ROOT = Path(__file__).parents[2]

# Speaks as much of the protocol as the tests need, and behaves as its first argument says.
CHILD = """
import http.server, json, os, signal, sys, threading
manner, store = sys.argv[1], sys.argv[sys.argv.index("--store") + 1]
if manner == "crash":
    sys.exit("no model files can be read")
if manner == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
with open(os.path.join(store, "environment.json"), "w") as file:
    json.dump(dict(os.environ), file)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        allowed = self.headers.get("authorization") == "Bearer " + os.environ["LOUPE_RUNTIME_KEY"]
        body = b'{"version":"0.33.0"}' if allowed else b'{"error":"unauthorized"}'
        self.send_response(200 if allowed else 401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print("some other line")
if manner == "loud":
    sys.stderr.write("x" * 1_000_000 + chr(10))
if manner != "mute":
    print(json.dumps({"ready": True, "url": "http://127.0.0.1:%d" % server.server_port}), flush=True)
if manner == "loud":
    sys.stdout.write(("y" * 99 + chr(10)) * 10_000)
    sys.stderr.write(("z" * 99 + chr(10)) * 10_000 + "the last word" + chr(10))
    sys.stdout.flush()
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.buffer.read()
"""


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., EmbeddedSettings]:
    script = tmp_path / "child.py"
    script.write_text(CHILD)

    def make(manner: str = "good", **more: Any) -> EmbeddedSettings:
        command = (sys.executable, str(script), manner)
        return EmbeddedSettings(store=tmp_path, command=command, environment=os.environ, **more)

    return make


@asynccontextmanager
async def running(settings: EmbeddedSettings) -> AsyncIterator[EmbeddedRuntime]:
    runtime = EmbeddedRuntime(settings)
    await runtime.start()
    try:
        yield runtime
    finally:
        await runtime.stop()


async def eventually(check: Callable[[], Any], what: str, deadline: float = 10.0) -> Any:
    """Wait for a real process."""
    async with asyncio.timeout(deadline):
        while not (found := check()):
            await asyncio.sleep(0.01)
    assert found, what
    return found


@pytest.mark.anyio
async def test_the_child_is_reached_by_its_random_port_and_key(settings):
    async with running(settings()) as runtime:
        with pytest.raises(HostWarming):
            await runtime.version()
        address = await asyncio.wait_for(runtime.wait_ready(), 10)
        assert (await runtime.version())[0] == "0.33.0"
        assert address.embedded
        assert len(address.key) >= 32
        assert address.key not in repr(address)


@pytest.mark.anyio
async def test_the_child_gets_nothing_of_our_environment_but_what_it_needs(settings, tmp_path, monkeypatch):
    monkeypatch.setenv("LOUPE_TOKEN", "secret")
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    monkeypatch.setenv("OLLAMA_HOST", "elsewhere")
    async with running(settings(limits={"OLLAMA_KEEP_ALIVE": "1m"})) as runtime:
        await asyncio.wait_for(runtime.wait_ready(), 10)
        seen = json.loads((tmp_path / "environment.json").read_text())
    assert "secret" not in seen.values()
    assert "OLLAMA_HOST" not in seen
    assert (seen["OLLAMA_KEEP_ALIVE"], seen["LOUPE_PARENT_PIPE"]) == ("1m", "1")
    ours = {"OLLAMA_KEEP_ALIVE", "LOUPE_PARENT_PIPE", "LOUPE_RUNTIME_KEY", "LC_CTYPE"}
    assert set(seen) - ours <= {"PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"}


@pytest.mark.anyio
async def test_a_killed_child_is_started_again_with_another_key(settings):
    async with running(settings()) as runtime:
        before = await asyncio.wait_for(runtime.wait_ready(), 10)
        await runtime.version()
        os.kill(runtime.pid, signal.SIGKILL)
        await eventually(lambda: runtime.address not in (before,) and runtime.address.url, "a new child")
        assert runtime.address.key != before.key
        assert (await runtime.version())[0] == "0.33.0"


@pytest.mark.anyio
async def test_the_pool_sees_it_warm_up_and_come_back(settings):
    async with running(settings()) as runtime:
        host = WatchedHost(runtime, SystemClock(), lambda: None)
        await host.check()
        assert host.state is HostState.WARMING
        await asyncio.wait_for(runtime.wait_ready(), 10)
        await host.check()
        assert host.state is HostState.HEALTHY


@pytest.mark.anyio
async def test_three_crashes_are_enough_and_the_reason_is_told(settings):
    async with running(settings("crash")) as runtime:
        with pytest.raises(HostUnreachable, match=r"3 times .*exit status 1.* no model files can be read"):
            await asyncio.wait_for(runtime.wait_ready(), 20)
        with pytest.raises(HostUnreachable, match="not started again"):
            await runtime.version()
        pool = HostPool([runtime], SystemClock())
        await pool.start()
        assert pool.statuses()[0].state is HostState.OFFLINE
        assert "no model files" in pool.statuses()[0].error
        await pool.stop()


@pytest.mark.anyio
async def test_a_program_that_is_not_there_is_told(tmp_path):
    async with running(EmbeddedSettings(store=tmp_path, command=(str(tmp_path / "missing"),))) as runtime:
        with pytest.raises(HostUnreachable, match="could not be started: No such file"):
            await asyncio.wait_for(runtime.wait_ready(), 10)


@pytest.mark.anyio
async def test_a_child_that_never_gets_ready_is_killed(settings):
    async with running(settings("mute", ready_seconds=0.3)) as runtime:
        with pytest.raises(HostUnreachable, match=r"signal 9.* not ready within 0\.3 s"):
            await asyncio.wait_for(runtime.wait_ready(), 20)


@pytest.mark.anyio
async def test_a_child_that_talks_much_is_neither_blocked_nor_kept_whole(settings):
    async with running(settings("loud")) as runtime:
        await asyncio.wait_for(runtime.wait_ready(), 10)
        await eventually(lambda: runtime.log_tail[-1:] == ("the last word",), "the last line of its log")
        assert len(runtime.log_tail) <= 400
        assert (await runtime.version())[0] == "0.33.0"


@pytest.mark.anyio
async def test_stopping_ends_the_child_and_starts_no_other(settings):
    async with running(settings()) as runtime:
        await asyncio.wait_for(runtime.wait_ready(), 10)
        child = psutil.Process(runtime.pid)
    assert not child.is_running()
    assert runtime.pid is None
    with pytest.raises(HostUnreachable):
        await runtime.version()


@pytest.mark.anyio
async def test_a_child_that_ignores_sigterm_is_killed(settings):
    async with running(settings("deaf", stop_seconds=0.3)) as runtime:
        await asyncio.wait_for(runtime.wait_ready(), 10)
        child = psutil.Process(runtime.pid)
    assert not child.is_running()


@pytest.mark.anyio
async def test_stopping_before_the_child_is_ready_leaves_no_child(settings):
    async with running(settings("mute")) as runtime:
        pid = await eventually(lambda: runtime.pid, "a child")
    assert not psutil.pid_exists(pid)


PARENT = """
import asyncio, sys
from pathlib import Path
from app.backends.embedded import EmbeddedRuntime, EmbeddedSettings
async def main():
    command = (sys.executable, sys.argv[1], "good")
    runtime = EmbeddedRuntime(EmbeddedSettings(store=Path(sys.argv[2]), command=command))
    await runtime.start()
    await runtime.wait_ready()
    print(chr(10) + 'pid', runtime.pid, flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


def test_a_killed_parent_takes_the_child_with_it(settings, tmp_path, wait_until):
    command = [sys.executable, "-c", PARENT, settings().command[1], str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as parent:
        told = next(line for line in parent.stdout if line.startswith(b"pid "))
        child = psutil.Process(int(told.split()[1]))
        assert child.is_running()
        parent.kill()
    wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, 3, "the child's end")
