"""What clicks do in the Requests view. What is shown stands in the address, so that a colleague can be sent it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from urllib.parse import urlencode, urlsplit

import streamlit as st

from app.services.request_log import MOST, RequestFilter
from app.services.request_trace import FinishedRequest
from app.ui import access, bridge, notices
from app.ui.state import PAGE_OF_REQUESTS, REQUEST_PARAMETER, requests_state

LINKS = "requests-links"  # the key of the component that hears clicks on rows
# Parameters of the address; a widget of the list has the same name behind KEY.
TEXT, VARIANT, USER, STATUS, CACHE, ORDER = "q", "variant", "user", "status", "cache", "order"
KEY = "requests-"
NEW, SLOW = "Newest first", "Slowest first"
ANY = ""
FAILED = "failed"


def seen_by() -> str:
    """Whose requests this page may show: "" for everybody's."""
    return "" if access.administers() else access.principal()


def open_id() -> str:
    """The request that the address names, "" for the list."""
    return str(st.query_params.get(REQUEST_PARAMETER, ""))


def open_request(request_id: str) -> None:
    """Go to a request; "" is the list. To be called in a callback."""
    requests_state().notices.clear()
    if request_id:
        st.query_params[REQUEST_PARAMETER] = request_id
    else:
        st.query_params.pop(REQUEST_PARAMETER, None)


def heard() -> None:
    """A row was clicked, or newer requests are to be shown: `{"what", "id"}`."""
    asked: dict[str, str] = dict(st.session_state[LINKS]["act"] or {})
    if asked.get("what") == "open":
        open_request(str(asked.get("id", "")))


def chosen(name: str) -> str:
    """What the address says of that filter."""
    return str(st.query_params.get(name, ""))


def seed(name: str, allowed: Sequence[str] = ()) -> None:
    """The widget begins with what the address says, where it is one of the `allowed`. A widget that is not drawn for
    a while loses its value; the address does not."""
    wanted = chosen(name)
    if KEY + name not in st.session_state and (not allowed or wanted in allowed):
        st.session_state[KEY + name] = wanted


def changed(name: str) -> None:
    """A filter was set: into the address, and the list is short again."""
    value = str(st.session_state[KEY + name] or "").strip()
    requests_state().shown = PAGE_OF_REQUESTS
    if value:
        st.query_params[name] = value
    else:
        st.query_params.pop(name, None)


def without_filters() -> None:
    for name in (TEXT, VARIANT, USER, STATUS, CACHE, ORDER):
        st.query_params.pop(name, None)
        st.session_state.pop(KEY + name, None)


def more() -> None:
    requests_state().shown = min(MOST, 5 * requests_state().shown)


def wanted() -> RequestFilter:
    return RequestFilter(
        model=chosen(VARIANT), principal=seen_by() or chosen(USER), status=chosen(STATUS), cache=chosen(CACHE),
        text=chosen(TEXT), slow_first=chosen(ORDER) == "slow", limit=requests_state().shown,
    )  # fmt: skip


def filtered() -> bool:
    return any(chosen(name) for name in (TEXT, VARIANT, USER, STATUS, CACHE))


def newer_query(newest: float) -> str:
    """What `/loupe/requests` is asked for those that have ended since; `newest` in seconds since the epoch."""
    asked = {
        "model": chosen(VARIANT), "principal": chosen(USER), "status": chosen(STATUS), "cache": chosen(CACHE),
        "q": chosen(TEXT), "since": repr(math.nextafter(newest, math.inf)), "limit": "100",
    }  # fmt: skip
    return urlencode({name: value for name, value in asked.items() if value})


def find(request_id: str) -> FinishedRequest | None:
    return access.services().telemetry.find(request_id, seen_by())


def base_url() -> str:
    """Where this page was opened, for commands that are to reach the same Loupe."""
    here = urlsplit(st.context.url or "")
    if here.scheme and here.netloc:
        return f"{here.scheme}://{here.netloc}"
    return f"http://127.0.0.1:{access.services().settings.port}"


def wants_key() -> bool:
    services = access.services()
    return bool(services.settings.signs_in_without_key or services.keys.made)


# -- asking again -----------------------------------------------------------------------------------------------------


def ask_again(request_id: str) -> None:
    caller, services = access.caller(), access.services()
    caller.trace = services.telemetry.trace(principal=caller.principal, flow=caller.flow)
    begun = notices.told_at(
        requests_state().notices, "one",
        lambda: bridge.call(services.asking_again.ask(request_id, caller, sees=seen_by())),
    )  # fmt: skip
    if begun is not None:
        open_request(begun)


def stop(request_id: str) -> None:
    bridge.call(access.services().asking_again.stop(request_id, access.principal()))
