"""What watching costs: the server's processor time and memory with 0, 1 and 60 who watch the Dashboard's feed, and the
browser's for the page itself, shown and hidden.

    python -m benchmarks.watching [--rounds 6] [--seconds 20] [--watchers 1,60] [--without-browser]

The server is `python -m app serve` with a model host that does not answer, so that nothing else goes on; who watches is
one process beside it that only reads. The sampler runs in all columns: the first one is it, with all else that an idle
server does.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from benchmarks.browser import chromium, open_page
from benchmarks.harness import Figures, Metric, Report, interleave
from tests.served import Served, free_port, served_app, wait_for

FEED = "/loupe/series/events"
LIVE = ".lp-series [data-lp='link'][data-tone='good']"
HIDDEN = """(hidden) => { Object.defineProperty(document, "hidden", {value: hidden, configurable: true})
  document.dispatchEvent(new Event("visibilitychange")) }"""
SERVER = (
    Metric("cpu", "server, % of a core", "%", 2), Metric("memory", "server, resident", "MB", 0),
    Metric("bytes", "read by each, a second", "bytes", 0),
)  # fmt: skip
BROWSER = (
    Metric("busy", "page's main thread, % of a core", "%", 2), Metric("chart", "the same, a chart", "%", 2),
    Metric("script", "of it scripts", "%", 2), Metric("layouts", "layouts a second", "n", 2),
    Metric("browser", "all processes of the browser, % of a core", "%", 1),
    Metric("server", "the server meanwhile, % of a core", "%", 2),
)  # fmt: skip


async def _read(port: int, read: list[int]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {FEED} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
    while data := await reader.read(65536):
        read[0] += len(data)


async def _watch(port: int, watchers: int) -> None:
    """Reads until its standard input ends; then says how many bytes came."""
    read = [0]
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    threading.Thread(
        target=lambda: (sys.stdin.read(), loop.call_soon_threadsafe(ended.set)), daemon=True
    ).start()  # fmt: skip
    tasks = [asyncio.create_task(_read(port, read)) for _ in range(watchers)]
    await ended.wait()
    for task in tasks:
        task.cancel()
    print(read[0], flush=True)


@contextmanager
def _watchers(port: int, number: int, told: list[int]) -> Iterator[None]:
    command = [sys.executable, "-m", "benchmarks.watching", "--read", str(port), str(number)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield
        finally:
            told.append(int(process.communicate()[0] or 0))


def _spent(app: Served) -> tuple[float, float]:
    """(CPU seconds so far, resident MB) of the server's process."""
    process = psutil.Process(app.process.pid)
    times = process.cpu_times()
    return times.user + times.system, process.memory_info().rss / 1e6


def _server(app: Served, port: int, number: int, seconds: float) -> Figures:
    read: list[int] = []
    with _watchers(port, number, read):
        wait_for("those who watch", lambda: len(_readers(app)) >= number, 30)
        time.sleep(1.0)
        before, _ = _spent(app)
        began = time.monotonic()
        time.sleep(seconds)
        after, memory = _spent(app)
        passed = time.monotonic() - began
    share = 100 * (after - before) / passed
    return {"cpu": share, "memory": memory} | ({"bytes": read[0] / number / (passed + 1)} if number else {})


def _readers(app: Served) -> list[object]:
    return [
        one for one in psutil.Process(app.process.pid).net_connections("tcp") if one.status == psutil.CONN_ESTABLISHED
    ]


def _page(app: Served, seconds: float) -> dict[str, list[Figures]]:
    """One page, shown and then hidden: what its main thread did, by the browser's own count."""
    found: dict[str, list[Figures]] = {}
    with chromium() as browser:
        page = open_page(browser, f"{app.url}/dashboard", LIVE)
        page.wait_for_timeout(3000)
        counter = page.context.new_cdp_session(page)
        counter.send("Performance.enable")
        charts = page.locator(".lp-row-of-series").count()
        for name, hidden in (("shown", False), ("hidden", True)):
            page.evaluate(HIDDEN, hidden)
            page.wait_for_timeout(1000)
            before, began = {**_counted(counter), **_processes(app)}, time.monotonic()
            page.wait_for_timeout(seconds * 1000)
            after, passed = {**_counted(counter), **_processes(app)}, time.monotonic() - began
            spent = {key: (after[key] - before[key]) / passed for key in before}
            busy = 100 * spent["TaskDuration"]
            found[name] = [{
                "busy": busy, "chart": busy / charts, "script": 100 * spent["ScriptDuration"],
                "layouts": spent["LayoutCount"], "browser": 100 * spent["browser"], "server": 100 * spent["server"],
            }]  # fmt: skip
    return found


def _processes(app: Served) -> dict[str, float]:
    """CPU seconds so far of the browser, with all that it started, and of the server."""
    spent = 0.0
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if "chrom" in process.name().lower():
                times = process.cpu_times()
                spent += times.user + times.system
    return {"browser": spent, "server": _spent(app)[0]}


def _counted(counter: object) -> dict[str, float]:
    metrics = counter.send("Performance.getMetrics")["metrics"]  # type: ignore[attr-defined]
    wanted = ("TaskDuration", "ScriptDuration", "LayoutCount")
    return {metric["name"]: metric["value"] for metric in metrics if metric["name"] in wanted}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.watching", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
    parser.add_argument("--watchers", default="1,60", help="how many watch")
    parser.add_argument("--without-browser", action="store_true")
    parser.add_argument("--read", nargs=2, type=int, metavar=("PORT", "NUMBER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        asyncio.run(_watch(*options.read))
        return
    report = Report("watching", "What watching costs")
    port, numbers = free_port(), [0, *map(int, options.watchers.split(","))]
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        with served_app(data, port, OLLAMA_HOST="http://127.0.0.1:9", LOUPE_STARTER="off") as app:
            app.wait_ready("/healthz")
            samples = interleave(
                {
                    f"{number} watch": lambda number=number: _server(app, port, number, options.seconds)  # type: ignore[misc]
                    for number in numbers
                },
                rounds=options.rounds,
            )  # fmt: skip
            report.compare("The server", SERVER, samples, baseline="0 watch", difference=True)
            if not options.without_browser:
                report.compare("The page in Chromium, at one sample a second", BROWSER, _page(app, options.seconds))
    report.finish()


if __name__ == "__main__":
    main()
