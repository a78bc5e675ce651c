"""From the start of the process to an answer, and memory: Loupe against an empty `streamlit run` page.

    python -m benchmarks.startup [--rounds 7] [--host-only]

Starts are warm: the first round, which writes bytecode and makes the database, is thrown away. "Loupe, host" finds a
model host that runs already; "Loupe, runtime" starts its own, with the starter family in its store. Memory is the
proportional set size (what is shared between processes is divided between them), of the serving process and of all.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from playwright.sync_api import Browser

from benchmarks import subjects
from benchmarks.browser import COMPOSER, chromium, open_page
from benchmarks.harness import Figures, Metric, Report, interleave
from benchmarks.subjects import Subject

BROWSER = {"Accept": "text/html"}
EMPTY = "streamlit run, empty page"
METRICS = (
    Metric("first", "start to first page answer (GET /)", "s", 2),
    Metric("ready", "start to /readyz, a model is there", "s", 2),
    Metric("cpu", "CPU until then", "s", 2),
    Metric("page", "first page, opened to drawn", "s", 2),
    Metric("memory", "memory after start", "MB", 0),
    Metric("memory_page", "memory after one page", "MB", 0),
    Metric("memory_all", "the same, all processes", "MB", 0),
)


def measure(start: Callable[[], AbstractContextManager[Subject]], browser: Browser, drawn: str, ready: bool) -> Figures:
    """One start, one page, and down again."""
    with start() as subject:
        figures = {"first": subject.wait("/", BROWSER)}
        if ready:
            figures["ready"] = subject.wait("/readyz")
        figures["cpu"] = subject.cpu()
        figures["memory"] = subject.memory()[0]
        began = time.perf_counter()
        page = open_page(browser, subject.url, drawn)
        figures["page"] = time.perf_counter() - began
        figures["memory_page"], figures["memory_all"] = subject.memory()
        page.context.close()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.startup", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--host-only", action="store_true", help="leave out Loupe with its own runtime")
    options = parser.parse_args()
    report = Report("startup", "Start and memory")
    with subjects.scratch() as folder, subjects.paced_host(folder) as host, chromium() as browser:
        starts = {
            EMPTY: partial(measure, partial(subjects.streamlit_page, "empty.py", folder / "empty.log"), browser,
                           "text=Ready", ready=False),
            "Loupe, host": partial(measure, partial(subjects.loupe, folder / "data", OLLAMA_HOST=host.url), browser,
                                   COMPOSER, ready=True),
        }  # fmt: skip
        if not options.host_only:
            starts["Loupe, runtime"] = partial(measure, with_runtime(folder), browser, COMPOSER, ready=True)
        report.compare("Warm start", METRICS, interleave(starts, rounds=options.rounds), baseline=EMPTY)
    report.finish()


def with_runtime(folder: Path) -> Callable[[], AbstractContextManager[Subject]]:
    """Loupe as `make run` starts it where no Ollama is, its store filled already."""
    from tests.served import http
    from tests.starter_cache import linked_store

    assert http("http://127.0.0.1:11434/api/version")[0] == 0, "an Ollama runs here: Loupe would take it (--host-only)"
    data = folder / "data-with-runtime"
    data.mkdir(mode=0o700, exist_ok=True)
    linked_store(data / "models")
    return partial(subjects.loupe, data)


if __name__ == "__main__":
    main()
