"""Who comes in: Host and Origin on every scope, the token, the sign-in cookie, a bind that fails closed."""

from __future__ import annotations

import http.client
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.served import ROOT, Served, free_port, served_app
from tests.served import http as ask

pytestmark = [pytest.mark.timeout(120), pytest.mark.xdist_group("door")]
TOKEN = "a-long-secret-token"
ROUTES = ("/api/tags", "/api/version", "/", "/metrics", "/healthz", "/loupe/queue", "/_stcore/health")


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served_app(tmp_path_factory.mktemp("door") / "data", OLLAMA_HOST="127.0.0.1:9") as served:
        served.wait_ready("/healthz")
        yield served


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One that wants a token."""
    folder = tmp_path_factory.mktemp("closed")
    with served_app(folder / "data", OLLAMA_HOST="127.0.0.1:9", LOUPE_TOKEN=TOKEN) as served:
        served.wait_ready("/healthz")
        yield served


def status(
    app: Served, path: str, method: str = "GET", body: str = "", **headers: str
) -> tuple[int, dict[str, str], str]:
    """One exchange with exactly these headers (urllib and http.client would add a Host of their own)."""
    connection = http.client.HTTPConnection("127.0.0.1", port(app), timeout=20)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in {"Host": f"127.0.0.1:{port(app)}", **headers}.items():
            if value:
                connection.putheader(name.replace("_", "-"), value)
        if body:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body.encode())
        answer = connection.getresponse()
        text = answer.read().decode("utf-8", "replace")
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, text
    finally:
        connection.close()


def port(app: Served) -> int:
    return int(app.url.rpartition(":")[2])


def socket_status(app: Served, host: str = "", **headers: str) -> int:
    """The handshake of the page's websocket: 101, or the status it was refused with."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    address = f"ws://{host or '127.0.0.1'}:{port(app)}/_stcore/stream"
    try:
        with connect(address, additional_headers=named, subprotocols=["streamlit"], open_timeout=10):
            return 101
    except InvalidStatus as refused:
        return refused.response.status_code


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("host", ["localhost:{port}", "127.0.0.1:{port}", "[::1]:{port}"])
def test_names_of_this_machine_come_in(app: Served, route: str, host: str) -> None:
    assert status(app, route, Host=host.format(port=port(app)))[0] != 403


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:{port}",
        "127.0.0.1.evil.example",
        "localhost.evil.example:{port}",
        ":{port}",
        "0.0.0.0",
    ],
)
def test_any_other_name_is_refused_on_every_route(app: Served, route: str, host: str) -> None:
    assert status(app, route, Host=host.format(port=port(app)))[0] in (400, 403)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("origin", ["http://evil.example", "http://127.0.0.1:1", "http://localhost:3000", "null"])
def test_pages_of_other_origins_are_refused_on_every_route(app: Served, route: str, origin: str) -> None:
    assert status(app, route, Origin=origin.format(port=port(app)))[0] == 403


def test_our_own_pages_come_in_and_cross_site_ones_do_not(app: Served) -> None:
    assert status(app, "/api/version", Origin=app.url)[0] != 403
    assert status(app, "/api/tags", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="cors")[0] == 403


def test_a_form_of_another_page_cannot_post_json_in_disguise(app: Served) -> None:
    sent = status(app, "/api/generate", "POST", "{}", Origin=app.url, Content_Type="text/plain")
    assert sent[0] in (403, 415)


def test_a_program_that_names_no_site_may_send_json_by_any_name(app: Served) -> None:
    """Node's own fetch says `Sec-Fetch-Mode: cors` and calls a string text/plain; a browser names the site as well."""
    told = {"Sec_Fetch_Mode": "cors", "Content_Type": "text/plain;charset=UTF-8"}
    assert status(app, "/api/generate", "POST", "{}", **told)[0] not in (403, 415)
    assert status(app, "/api/generate", "POST", "{}", **told, Sec_Fetch_Site="same-origin")[0] == 415


def test_the_websocket_has_the_same_door(app: Served) -> None:
    assert socket_status(app, Origin=app.url) == 101
    assert socket_status(app, Origin="http://evil.example") == 403
    assert socket_status(app, Origin="http://localhost:3000") == 403
    assert socket_status(app, Host="evil.example", Origin="http://evil.example") in (400, 403)


@pytest.mark.parametrize("route", [route for route in ROUTES if route != "/healthz"])
def test_without_a_token_no_route_is_open(closed: Served, route: str) -> None:
    found, _, text = status(closed, route, Accept="application/json")
    assert found == 401
    assert "ollama is running" not in text.lower() and "models" not in text


@pytest.mark.parametrize("key", ["Bearer ", "Bearer wrong", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN.upper()}", TOKEN])
def test_a_wrong_token_opens_nothing(closed: Served, key: str) -> None:
    assert status(closed, "/api/version", Authorization=key)[0] == 401


def test_the_right_token_opens_and_health_is_open_to_all(closed: Served) -> None:
    assert status(closed, "/api/version", Authorization=f"Bearer {TOKEN}")[0] != 401
    assert status(closed, "/healthz")[0] == 200
    ready = status(closed, "/readyz")
    assert ready[0] in (401, 503) and "127.0.0.1" not in ready[2]


def test_the_sign_in_form_gives_a_cookie_that_is_not_the_token_and_opens_page_and_websocket(closed: Served) -> None:
    assert socket_status(closed, Origin=closed.url) in (401, 403)
    form = {"Content_Type": "application/x-www-form-urlencoded", "Origin": closed.url}
    refused = status(closed, "/loupe/sign-in", "POST", urlencode({"token": "wrong", "next": "/"}), **form)
    assert refused[0] in (401, 403) and "set-cookie" not in refused[1]
    taken = status(closed, "/loupe/sign-in", "POST", urlencode({"token": TOKEN, "next": "/"}), **form)
    assert taken[0] in (302, 303)
    cookie = taken[1]["set-cookie"]
    assert "httponly" in cookie.lower() and "samesite=strict" in cookie.lower() and TOKEN not in cookie
    pair = cookie.partition(";")[0]
    assert status(closed, "/", Cookie=pair, Accept="text/html")[0] == 200
    assert socket_status(closed, Cookie=pair, Origin=closed.url) == 101
    assert socket_status(closed, Cookie=pair[:-2] + "xx", Origin=closed.url) in (401, 403)


def test_a_way_on_after_sign_in_never_leads_to_another_site(closed: Served) -> None:
    form = {"Content_Type": "application/x-www-form-urlencoded", "Origin": closed.url}
    for target in ("https://evil.example/", "//evil.example", "/\\evil.example"):
        taken = status(closed, "/loupe/sign-in", "POST", urlencode({"token": TOKEN, "next": target}), **form)
        assert "evil" not in taken[1].get("location", "")


def started(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -m app serve` that is expected to end by itself."""
    return subprocess.run(
        [sys.executable, "-m", "app", "serve"], cwd=ROOT, capture_output=True, text=True, timeout=60,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "LOUPE_DATA": str(tmp_path / "other"), **environment},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, "LOUPE_TOKEN and LOUPE_ALLOWED_HOSTS"),
        ({"LOUPE_TOKEN": TOKEN}, "LOUPE_ALLOWED_HOSTS"),
        ({"LOUPE_ALLOWED_HOSTS": "loupe.lan"}, "LOUPE_TOKEN"),
    ],
)
def test_a_bind_that_others_reach_fails_closed(tmp_path: Path, environment: dict[str, str], wanted: str) -> None:
    ended = started(tmp_path, LOUPE_BIND="0.0.0.0", LOUPE_PORT=str(free_port()), **environment)
    assert ended.returncode != 0 and wanted in ended.stderr + ended.stdout
    assert "Traceback" not in ended.stderr


def test_a_second_instance_on_the_same_data_names_the_first(app: Served, tmp_path: Path) -> None:
    data = app.log.parent / "data"
    ended = started(tmp_path, LOUPE_DATA=str(data), LOUPE_PORT=str(free_port()), OLLAMA_HOST="127.0.0.1:9")
    told = ended.stderr + ended.stdout
    assert ended.returncode != 0 and str(app.process.pid) in told and app.url in told and "Traceback" not in told


def test_a_port_that_is_taken_is_one_clear_line(app: Served, tmp_path: Path) -> None:
    ended = started(tmp_path, LOUPE_PORT=str(port(app)), OLLAMA_HOST="127.0.0.1:9")
    told = ended.stderr + ended.stdout
    assert ended.returncode != 0 and str(port(app)) in told and "LOUPE_PORT" in told and "Traceback" not in told


def test_bad_settings_are_all_named_at_once(tmp_path: Path) -> None:
    ended = started(tmp_path, LOUPE_PORT="many", LOUPE_QUEUE_LIMIT="-3")
    told = ended.stderr + ended.stdout
    assert ended.returncode != 0
    assert all(word in told for word in ("LOUPE_PORT", "many", "LOUPE_QUEUE_LIMIT", "-3"))


def test_not_ready_says_why_and_health_is_about_the_process_only(app: Served) -> None:
    found, body = ask(f"{app.url}/readyz")
    assert found == 503 and b"no model host answers" in body
    assert ask(f"{app.url}/healthz")[0] == 200
