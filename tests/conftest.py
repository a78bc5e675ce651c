"""What every test stands on: loopback only, a clean environment, free ports, waiting with a deadline, a browser."""

from __future__ import annotations

import ipaddress
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, settings

from tooling.system_packages import find_chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

HERE = Path(__file__).parent
FOREIGN_PREFIXES = ("OLLAMA_", "LOUPE_", "STREAMLIT_", "OTEL_")
FOREIGN_NAMES = {"http_proxy", "https_proxy", "all_proxy", "no_proxy"}
OURS = {"LOUPE_REQUIRE_BROWSER", "LOUPE_CHROMIUM"}  # said to the tests themselves
CHROMIUM_FLAGS = [
    "--no-sandbox",  # containers and CI run as root, without user namespaces
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
NO_BROWSER = "no Chromium on this machine"
# How long an example takes says something of the machine, not of the code.
settings.register_profile("loupe", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("loupe")


def pytest_configure() -> None:
    """The developer's own settings reach no test and no process that a test starts."""
    for name in list(os.environ):
        if (name.startswith(FOREIGN_PREFIXES) or name.lower() in FOREIGN_NAMES) and name not in OURS:
            del os.environ[name]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The e2e floor runs on one worker, one test after another: its servers and browsers need the machine.

    Tests of real processes, sockets and browsers get one more try, since a busy machine can let any deadline pass. The
    summary names each that needed it (RERUN), and such a test is to be mended: what fails twice stops a release.
    """
    for item in items:
        if {HERE / "e2e", HERE / "contract"} & set(item.path.parents):
            item.add_marker(pytest.mark.flaky(reruns=1))
        if HERE / "e2e" in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("e2e"))
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.browser)
        if getattr(config.option, "loadgroup", False):
            _keep_group(item)


def _keep_group(item: Any) -> None:
    """pytest-xdist 3.8 tells groups by `_nodeid`, which pytest from 9.2 on does not read: they would be torn apart."""
    groups = sorted({str(mark.args[0]) for mark in item.iter_markers("xdist_group")})
    suffix = f"@{'_'.join(groups)}"
    if groups and not item.nodeid.endswith(suffix):
        item._id = type(item._id).parse(item.nodeid + suffix)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if NO_BROWSER in str(report.longrepr)]
    if skipped:
        terminalreporter.write_line(f"{len(skipped)} browser tests were skipped: {NO_BROWSER}", yellow=True)


@pytest.fixture
def anyio_backend() -> str:
    """Async tests run on asyncio, as the product does."""
    return "asyncio"


@pytest.fixture(autouse=True)
def clean_environ() -> Iterator[None]:
    """A test may change os.environ as it likes; the next one finds it as it was."""
    before = dict(os.environ)
    yield
    if os.environ != before:
        os.environ.clear()
        os.environ.update(before)


class OffLoopback(AssertionError):
    """A test reached for another machine."""


@pytest.fixture(autouse=True)
def off_loopback_attempts(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Refuses every connection and name look-up off loopback, and fails the test even if its code swallowed that.

    Yields the attempts; a test of the guard itself empties the list.
    """
    attempts: list[str] = []

    def refuse(host: object) -> None:
        if not _is_loopback(host):
            attempts.append(str(host))
            raise OffLoopback(f"a test reached for {host}: tests stay on loopback")

    def guarded(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(sock: socket.socket, *arguments: Any) -> Any:
            if sock.family in (socket.AF_INET, socket.AF_INET6):
                refuse(arguments[-1][0])
            return method(sock, *arguments)

        return call

    look_up = socket.getaddrinfo

    def guarded_look_up(host: Any, *arguments: Any, **options: Any) -> Any:
        refuse(host)
        return look_up(host, *arguments, **options)

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, guarded(getattr(socket.socket, name)))
    monkeypatch.setattr(socket, "getaddrinfo", guarded_look_up)
    yield attempts
    assert not attempts, f"the test reached for {', '.join(attempts)}"


def _is_loopback(host: object) -> bool:
    if isinstance(host, bytes):
        host = host.decode()
    if host in (None, "", "localhost"):  # None and "" are what a server that binds looks up
        return True
    try:
        address = ipaddress.ip_address(str(host).partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


@pytest.fixture
def free_port() -> Callable[[], int]:
    """A function that gives a loopback port nobody listens on, another with each call."""
    given: set[int] = set()

    def find() -> int:
        while True:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = int(probe.getsockname()[1])
            if port not in given:
                given.add(port)
                return port

    return find


@pytest.fixture
def wait_until() -> Callable[..., Any]:
    """`wait_until(predicate, deadline=10.0, what="")`: polls a real process until the predicate holds.

    Returns what the predicate returned; fails with `what` after `deadline` seconds.
    """

    def wait(predicate: Callable[[], Any], deadline: float = 10.0, what: str = "") -> Any:
        end = time.monotonic() + deadline
        while not (found := predicate()):
            if time.monotonic() > end:
                pytest.fail(f"waited {deadline:g} s for {what or getattr(predicate, '__name__', 'a condition')}")
            time.sleep(0.02)
        return found

    return wait


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium for the tests of one file.

    Not for the whole session: Playwright's loop stays in this thread while it lives, and async tests want their own.
    Without a Chromium the test is skipped, or fails where tasks.py could have installed one.
    """
    program = find_chromium()
    if program is None and os.environ.get("LOUPE_REQUIRE_BROWSER") == "1":
        pytest.fail(f"{NO_BROWSER}, and it can be installed here: python3 tasks.py test does that")
    if program is None:
        pytest.skip(NO_BROWSER)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=CHROMIUM_FLAGS, headless=True)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of its own profile, 1280 by 800. A request to another machine fails the test that made it."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, locale="en-GB")
    elsewhere: list[str] = []

    def note(request: Any) -> None:
        if not _is_loopback(urlsplit(request.url).hostname):  # data: and blob: have none
            elsewhere.append(request.url)

    context.on("request", note)
    yield context.new_page()
    context.close()
    assert not elsewhere, f"the page asked other machines: {elsewhere}"
