"""The processes that are measured: Loupe, a runtime or host, and Streamlit pages; their CPU time and memory."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.served import free_port, gone, http, wait_for

ROOT = Path(__file__).parents[1]
PAGES = Path(__file__).with_name("pages")
FOREIGN = ("LOUPE_", "OLLAMA_", "STREAMLIT_", "STOCK_CHAT_", "PYTHONDONTWRITEBYTECODE")  # without bytecode every
# start compiles what it imports again: for a package that an installer left uncompiled that is most of its start
START_SECONDS = 90.0
LITELLM = "litellm[proxy]==1.80.0"  # from 1.104.9 on it wants a certifi that not every index has
LITELLM_PLACE = ROOT / "build" / "bench-litellm"
LITELLM_SECONDS = 180.0  # until it answers
POLL_SECONDS = 0.005


class Subject:
    """A running server, started by `python WORDS`; `began` is when."""

    def __init__(
        self, words: list[str], environment: Mapping[str, str], port: int, log: Path, python: str = sys.executable
    ) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        self.port, self.log = port, log
        self.url = f"http://127.0.0.1:{port}"
        with log.open("ab") as sink:
            self.began = time.perf_counter()
            self.process = subprocess.Popen(
                [python, *words], env={**clean, **environment}, cwd=ROOT,
                stdin=subprocess.DEVNULL, stdout=sink, stderr=sink,
            )  # fmt: skip

    def wait(self, path: str, headers: Mapping[str, str] | None = None, seconds: float = START_SECONDS) -> float:
        """Seconds from the start of the process to the first 200 on `path`."""

        def answered() -> bool:
            assert self.process.poll() is None, f"it ended:\n{self.log.read_text(errors='replace')[-3000:]}"
            return http(self.url + path, headers=headers)[0] == 200

        wait_for(f"{self.url}{path}", answered, seconds, POLL_SECONDS)
        return time.perf_counter() - self.began

    def family(self) -> list[psutil.Process]:
        top = psutil.Process(self.process.pid)
        return [top, *top.children(recursive=True)]

    def memory(self) -> tuple[float, float]:
        """MB of the process itself and of all that it started: proportional set size, resident where there is none."""
        sizes = [_memory(process) / 1e6 for process in self.family()]
        return sizes[0], sum(sizes)

    def cpu(self) -> float:
        """CPU seconds of the process itself so far, all threads, children not."""
        return _cpu(self.process.pid)

    def end(self) -> None:
        family = self.family() if self.process.poll() is None else []
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        wait_for("every process to end", lambda: gone(family), 10)


def _memory(process: psutil.Process) -> int:
    full = process.memory_full_info()
    size: int = getattr(full, "pss", 0) or full.rss
    return size


def _cpu(pid: int) -> float:
    """On Linux from the scheduler, in nanoseconds (the usual counters have 10 ms); a thread that ended is not in it."""
    tasks = Path(f"/proc/{pid}/task")
    if (tasks / str(pid) / "schedstat").exists():
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()) / 1e9
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


@contextmanager
def running(
    words: list[str], environment: Mapping[str, str], port: int, log: Path, python: str = sys.executable
) -> Iterator[Subject]:
    subject = Subject(words, environment, port, log, python)
    try:
        yield subject
    finally:
        subject.end()


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for data and logs, under build/ so that the test models can be hard-linked into it."""
    parent = ROOT / "build"
    parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=parent, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@contextmanager
def paced_host(folder: Path, *models: str, slots: int = 0) -> Iterator[Subject]:
    """The host that costs almost nothing; it lists `models`, or its usual ones, and streams `slots` at a time, first
    come, first served (0: all at once)."""
    port = free_port()
    words = ["-m", "uvicorn", "benchmarks.paced_host:app", "--port", str(port), "--no-access-log"]
    with running(
        words, {"PACED_HOST_MODELS": " ".join(models), "PACED_HOST_SLOTS": str(slots)}, port, folder / "host.log"
    ) as host:
        host.wait("/api/version")
        yield host


@contextmanager
def runtime(folder: Path, tags: tuple[str, ...], **environment: str) -> Iterator[Subject]:
    """The embedded runtime alone, with variants of the starter model."""
    from tests.starter_cache import linked_store

    port, store = free_port(), linked_store(folder / "runtime-store", tags)
    words = ["-m", "app", "runtime", "--port", str(port), "--store", str(store)]
    with running(words, environment, port, folder / "runtime.log") as host:
        host.wait("/api/version")
        yield host


@contextmanager
def loupe(data: Path, **environment: str) -> Iterator[Subject]:
    """`python -m app serve` on a free port; not waited for."""
    port = free_port()
    words, log = ["-m", "app", "serve"], data.with_suffix(".log")
    with running(words, {"LOUPE_PORT": str(port), "LOUPE_DATA": str(data), **environment}, port, log) as app:
        yield app


@contextmanager
def streamlit_page(page: str, log: Path, **environment: str) -> Iterator[Subject]:
    """`streamlit run` of one of benchmarks/pages, as it comes; not waited for."""
    port = free_port()
    words = [
        "-m", "streamlit", "run", str(PAGES / page), f"--server.port={port}", "--server.address=127.0.0.1",
        "--server.headless=true", "--browser.gatherUsageStats=false",
    ]  # fmt: skip
    with running(words, environment, port, log) as subject:
        yield subject


@contextmanager
def splice(folder: Path, to: int) -> Iterator[Subject]:
    """The least that a Python process can do between two sockets: it passes bytes on to port `to`."""
    port = free_port()
    with running(["-m", "benchmarks.splice", str(port), str(to)], {}, port, folder / "splice.log") as subject:
        wait_for("the splice", lambda: http(subject.url + "/api/version")[0] == 200, START_SECONDS, POLL_SECONDS)
        yield subject


@contextmanager
def litellm(folder: Path, config: str) -> Iterator[Subject]:
    """LiteLLM's proxy, one worker, in an environment of its own that is made once."""
    python = LITELLM_PLACE / "bin" / "python"
    if not (LITELLM_PLACE / "bin" / "litellm").exists():
        print(f"installing {LITELLM} into {LITELLM_PLACE}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(LITELLM_PLACE)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", LITELLM], check=True)
    path, port = folder / "litellm.yaml", free_port()
    path.write_text(config)
    words = [str(LITELLM_PLACE / "bin" / "litellm"), "--config", str(path), "--host", "127.0.0.1", "--port", str(port)]
    environment = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False", "LITELLM_LOG": "ERROR"}
    with running(words, environment, port, folder / "litellm.log", python=str(python)) as proxy:
        proxy.wait("/health/liveliness", seconds=LITELLM_SECONDS)
        yield proxy
