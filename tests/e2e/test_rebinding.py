"""DNS rebinding as a browser does it: a page of another name whose address turns into ours asks under that name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.conftest import CHROMIUM_FLAGS
from tests.served import Served, served_app
from tooling.system_packages import find_chromium

pytestmark = pytest.mark.timeout(300)
NAME = "rebound.example"
OPEN = (
    "--disable-features=LocalNetworkAccessChecks,PrivateNetworkAccessSendPreflights,BlockInsecurePrivateNetworkRequests"
)
PAGE = "<!doctype html><title>another site</title><p>loaded before its name pointed here</p>"
TRY = """async () => {
  const told = {}
  for (const path of ["/api/tags", "/api/version", "/v1/models", "/loupe/queue", "/metrics", "/healthz", "/"]) {
    const answer = await fetch(path, {headers: {accept: "application/json"}})
    told[path] = [answer.status, (await answer.text()).length]
  }
  const sent = {method: "POST", headers: {"content-type": "application/json"}, body: '{"model": "x"}'}
  for (const path of ["/api/chat", "/api/pull", "/api/generate"]) {
    const answer = await fetch(path, sent)
    told[path] = [answer.status, (await answer.text()).length]
  }
  told.socket = await new Promise(done => {
    const socket = new WebSocket(`ws://${location.host}/_stcore/stream`, ["streamlit"])
    socket.onopen = () => done("open")
    socket.onerror = () => done("refused")
  })
  return told
}"""
ELSEWHERE = """async url => { try {
  return (await (await fetch(url, {mode: "no-cors"})).text()).length
} catch (error) { return "refused" } }"""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served_app(tmp_path_factory.mktemp("rebinding") / "data", OLLAMA_HOST="127.0.0.1:9") as served:
        served.wait_ready("/healthz")
        yield served


@pytest.fixture(scope="module")
def open_to_it(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The control: a server that takes the name for its own."""
    folder = tmp_path_factory.mktemp("open")
    allowed = {"LOUPE_ALLOWED_HOSTS": f"127.0.0.1,{NAME}", "OLLAMA_HOST": "127.0.0.1:9"}
    with served_app(folder / "data", **allowed) as served:
        served.wait_ready("/healthz")
        yield served


@contextmanager
def attacker(browser: Any, host: str) -> Iterator[Any]:
    """A page of `host` in a Chromium that finds NAME on this machine. The page itself comes from elsewhere."""
    # Without Chromium's own check of local addresses, which other browsers and older ones do not have.
    flags = [*CHROMIUM_FLAGS, OPEN, f"--host-resolver-rules=MAP {NAME} 127.0.0.1"]
    own = browser.browser_type.launch(executable_path=find_chromium(), args=flags, headless=True)
    try:
        page = own.new_page()
        page.route("**/attack", lambda route: route.fulfill(body=PAGE, content_type="text/html"))
        page.goto(f"http://{host}/attack")
        yield page
    finally:
        own.close()


def rebound(browser: Any, app: Served) -> dict[str, Any]:
    """What a page of the other name is told, once its name leads to us."""
    with attacker(browser, f"{NAME}:{app.url.rpartition(':')[2]}") as page:
        told: dict[str, Any] = page.evaluate(TRY)
        return told


def test_a_rebound_name_is_told_nothing(browser: Any, app: Served) -> None:
    told = rebound(browser, app)
    assert told.pop("socket") == "refused"
    assert told and all(answer == [403, 0] for answer in told.values()), told


def test_the_same_page_reads_a_server_that_takes_its_name(browser: Any, open_to_it: Served) -> None:
    told = rebound(browser, open_to_it)
    assert told["socket"] == "open" and told["/healthz"][0] == 200 and told["/"][0] == 200


def test_a_page_of_another_port_or_name_can_neither_send_nor_read(browser: Any, app: Served) -> None:
    with attacker(browser, f"{NAME}:9") as page:
        for host in (f"{NAME}:9", "localhost:9", "127.0.0.1:9"):
            page.goto(f"http://{host}/attack")
            for path in ("/api/tags", "/"):
                with page.expect_response(app.url + path, timeout=30_000) as answer:
                    assert page.evaluate(ELSEWHERE, app.url + path) in (0, "refused")
                assert answer.value.status == 403
