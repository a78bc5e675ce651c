"""The verbs: one function each, in the order in which `help` lists them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tooling.console import TaskFailed, say, warn
from tooling.environment import Environment
from tooling.locks import make_locks
from tooling.system_packages import apt_command, ensure_chromium, ensure_libgomp, ensure_prometheus

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("app", "tests", "benchmarks", "proving", "tooling", "tasks.py")

Verb = Callable[[list[str]], int]
VERBS: dict[str, Verb] = {}


def verb(function: Verb) -> Verb:
    """Register a function under its own name; the first line of its docstring is its help."""
    VERBS[function.__name__.strip("_").replace("_", "-")] = function
    return function


def run_verb(words: list[str]) -> int:
    """Carry out `words`, a verb and its arguments; the exit status. Failures are one line on standard error."""
    name, arguments = (words[0], words[1:]) if words else ("help", [])
    if name not in VERBS:
        warn(f"there is no verb {name!r}: one of {' '.join(VERBS)}")
        return 2
    signal.signal(signal.SIGTERM, _interrupt)  # so that what is half-made is removed
    try:
        return VERBS[name](arguments)
    except TaskFailed as failure:
        warn(f"{name}: {failure}")
        return 1
    except KeyboardInterrupt:
        return 130


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def environment(*, dev: bool) -> Environment:
    """The environment of this checkout, ready for use."""
    made = Environment(ROOT)
    made.ensure(dev=dev)
    return made


def python(words: list[str], *, dev: bool = True, extra: dict[str, str] | None = None) -> int:
    """Run the environment's Python with `words` in the checkout; its exit status."""
    program = environment(dev=dev).python
    child = subprocess.Popen([str(program), *words], cwd=ROOT, env=_variables(extra))
    # An interrupt of the terminal reaches the child as well: let it tidy up, and report what it says.
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: child.terminate())
    try:
        return child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _variables(extra: dict[str, str] | None = None) -> dict[str, str]:
    """This process's environment without what would put foreign modules before ours."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    return kept | (extra or {})


@verb
def run(arguments: list[str]) -> int:
    """make the environment, find Ollama or prepare the embedded runtime, and open Loupe on 127.0.0.1:8501"""
    program = environment(dev=False).python
    ensure_libgomp()
    words = ["-m", "app", "serve", *(["--open"] if _has_a_desktop() else []), *arguments]
    os.execve(program, [str(program), *words], _variables())  # noqa: S606 - our own interpreter


def sources() -> list[str]:
    """What is formatted and linted."""
    return [name for name in SOURCES if (ROOT / name).exists()]


def _has_a_desktop() -> bool:
    """Whether somebody sits at this machine who would see a browser open."""
    shown = sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    return shown and sys.stdout.isatty()


def _tests(folders: list[str], arguments: list[str], *, parallel: bool = True, browser: bool = True) -> int:
    ensure_libgomp()
    environment(dev=True)
    if browser:
        ensure_chromium()
        ensure_prometheus()
    words = ["-m", "pytest", *(folders if not _names_tests(arguments) else [])]
    if parallel:
        words += ["-n", str(max(2, min(4, os.cpu_count() or 2))), "--dist", "loadgroup"]
    required = {"LOUPE_REQUIRE_BROWSER": "1"} if apt_command() is not None else {}
    return python([*words, *arguments], extra=required)


def _names_tests(arguments: list[str]) -> bool:
    return any(word.startswith("tests/") for word in arguments)


@verb
def test(arguments: list[str]) -> int:
    """everything: unit, ui, contract and e2e, with a real model and a real browser"""
    return _tests(["tests"], arguments)


@verb
def test_unit(arguments: list[str]) -> int:
    """the floor without sockets: values, policies, codecs"""
    return _tests(["tests/unit"], arguments, browser=False)


@verb
def test_ui(arguments: list[str]) -> int:
    """every screen, run by Streamlit's AppTest over fakes"""
    return _tests(["tests/ui"], arguments, browser=False)


@verb
def test_contract(arguments: list[str]) -> int:
    """real sockets: recorded traffic, official clients, a stub Ollama"""
    return _tests(["tests/contract"], arguments)


@verb
def test_e2e(arguments: list[str]) -> int:
    """the served app as a process, a real model, a real browser; one test at a time"""
    return _tests(["tests/e2e"], arguments, parallel=False)


@verb
def check(arguments: list[str]) -> int:
    """format, lint, types, known-bad packages and the unit tests: what is quick"""
    return (
        python(["-m", "ruff", "format", "--check", "--quiet", *sources()])
        or lint([])
        or type_([])
        or python(["-m", "app", "audit-deps"])
        or test_unit(arguments)
    )


@verb
def fmt(arguments: list[str]) -> int:
    """write the code in the one format, with sorted imports"""
    fixed = python(["-m", "ruff", "check", "--quiet", "--select", "I", "--fix", *sources()])
    return fixed or python(["-m", "ruff", "format", *sources(), *arguments])


@verb
def lint(arguments: list[str]) -> int:
    """ruff, with the rules and reasons of pyproject.toml"""
    return python(["-m", "ruff", "check", *sources(), *arguments])


@verb
def type_(arguments: list[str]) -> int:
    """mypy, strict"""
    return python(["-m", "mypy", *arguments])


@verb
def bench(arguments: list[str]) -> int:
    """the benchmarks, or the one that is named, with its own words; each prints a table"""
    names = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py") if "__main__" in path.read_text())
    if arguments:
        if arguments[0] not in names:
            raise TaskFailed(f"there is no benchmark {arguments[0]!r}: one of {' '.join(names)}")
        return python(["-m", f"benchmarks.{arguments[0]}", *arguments[1:]])
    ensure_libgomp()
    return max([python(["-m", f"benchmarks.{name}"]) for name in names], default=0)


@verb
def prove(arguments: list[str]) -> int:
    """every reliability promise in full, or those that are named (SECTION=8,19), and docs/reliability.md from that"""
    ensure_libgomp()
    return python(["-m", "proving", *arguments])


@verb
def clients(arguments: list[str]) -> int:
    """other people's clients, unmodified, each up the same ladder, at the runtime and through Loupe; or those named"""
    from tooling.clients import prepare

    ensure_libgomp()
    environment(dev=True)
    prepare(ROOT)
    return python(["-m", "tests.client_ladder", *arguments])


@verb
def image(arguments: list[str]) -> int:
    """build the container image with docker, podman or buildah, whichever is here"""
    from tooling.image import build

    return build(ROOT, arguments)


@verb
def screenshots(arguments: list[str]) -> int:
    """pictures of every screen and state, light and dark, wide and narrow"""
    ensure_libgomp()
    ensure_chromium()
    return python(["-m", "tests.screenshots", *arguments])


@verb
def lock(arguments: list[str]) -> int:
    """make both locks from pyproject.toml; --upgrade takes the newest versions"""
    uv = environment(dev=True).folder / "bin" / "uv"
    make_locks(ROOT, uv, arguments)
    return 0


@verb
def help_(arguments: list[str]) -> int:
    """this list"""
    width = max(map(len, VERBS))
    say("make VERB [ARGS=...]   or   python3 tasks.py VERB ...\n")
    for name, function in VERBS.items():
        say(f"  {name:<{width}}  {(function.__doc__ or '').splitlines()[0]}")
    return 0


if sys.platform == "win32":  # said once, where everything would fail otherwise
    raise SystemExit("Loupe runs on Linux and macOS; on Windows use WSL")
