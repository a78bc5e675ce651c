"""What clicks do on the Service screen: pause, cancel, move, drain, add and remove hosts; delete cached answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import streamlit as st

from app.core.generation import Priority
from app.ui import access, bridge, notices
from app.ui import service_words as words
from app.ui import view_models as vm
from app.ui.state import PAGE_OF_ENTRIES, service_state

T = TypeVar("T")
LIVE = "service-live"  # the component's key
ADD, ADDRESS, NAME, SLOTS, HOST_KEY = "add", "host-address", "host-name", "host-slots", "host-key"  # widget keys


def _told_at(place: str, work: Callable[[], T]) -> T | None:
    """What `work` returns; None where it fails, and its error is told at that place of the page."""
    return notices.told_at(service_state().notices, place, work)


# -- queue and hosts --------------------------------------------------------------------------------------------------


def acted() -> None:
    """A button of the live part was pressed: `{"what", "id", "value"}`."""
    asked: dict[str, str] = dict(st.session_state[LIVE]["act"] or {})
    what, name = str(asked.get("what", "")), str(asked.get("id", ""))
    if what == "remove":
        ask("remove", name)
    elif what:
        _told_at("live", lambda: bridge.call(_operate(what, name, str(asked.get("value", "")))))


async def _operate(what: str, name: str, value: str) -> None:
    queue, hosts = access.services().queue, access.services().hosts
    operations: dict[str, Callable[[], object]] = {
        "pause": queue.pause,
        "resume": queue.resume,
        "cancel": lambda: queue.cancel(name),
        "move": lambda: queue.move(name, Priority(value)),
    }
    if what in operations:
        operations[what]()
    elif what in ("drain", "undrain"):
        await hosts.drain(name, draining=what == "drain")


def add_host() -> None:
    """The form of a new host was sent."""
    address, name, key = (str(st.session_state.get(each) or "").strip() for each in (ADDRESS, NAME, HOST_KEY))
    name, slots = name or words.host_name(address), int(st.session_state.get(SLOTS) or 1)
    hosts = access.services().hosts
    if _told_at("add", lambda: bridge.call(hosts.add(name, address, slots, key or None))):
        st.session_state[ADDRESS] = st.session_state[NAME] = st.session_state[HOST_KEY] = ""
        st.session_state[ADD] = False  # close the panel: the host stands on the page


def remove_host(name: str) -> bool:
    """Whether it is gone, or goes as soon as nothing runs there any more."""
    gone = _told_at("dialog", lambda: bridge.call(access.services().hosts.remove(name)))
    if gone is False:
        st.toast(f"{vm.plain(name)} goes when its last answer has ended")
    return gone is not None


def ask(what: str, name: str) -> None:
    """Open the dialog that asks whether this is meant."""
    service_state().confirming = (what, name)


def close_dialog() -> None:
    service_state().confirming = None
    service_state().notices.pop("dialog", None)


# -- the cache --------------------------------------------------------------------------------------------------------


def searched() -> None:
    service_state().shown = PAGE_OF_ENTRIES


def more() -> None:
    service_state().shown += PAGE_OF_ENTRIES


def delete_entry(key: str) -> None:
    _told_at("cache", lambda: bridge.call(access.services().cache.delete(key, access.principal())))


def delete_answers(model: str) -> bool:
    """All of a model, or all there are; whether it was done."""
    cache = access.services().cache
    work = cache.purge(access.principal(), model=model) if model else cache.clear()
    number = _told_at("dialog", lambda: bridge.call(work))
    if number is None:
        return False
    st.toast(words.deleted_words(number))
    return True
