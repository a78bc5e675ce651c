"""What clicks do on the Service screen: pause, cancel, move, drain, add and remove hosts; delete cached answers."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import streamlit as st

from app.core.generation import Priority
from app.ui import access, bridge, notices, who
from app.ui import service_words as words
from app.ui import view_models as vm
from app.ui.state import PAGE_OF_ENTRIES, service_state

T = TypeVar("T")
LIVE = "service-live"  # the component's key
ADD, ADDRESS, NAME, SLOTS, HOST_KEY = "add", "host-address", "host-name", "host-slots", "host-key"  # widget keys


HOSTS, QUEUE, ANSWERS = "change the hosts", "change the queue", "delete cached answers"  # what needs an administrator


def _told_at(place: str, what: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T | None:
    """What `work` returns; None where the visitor may not do `what` or it fails: that is told there on the page."""

    def run() -> T:
        who.require_admin(what)
        return bridge.call(work())

    return notices.told_at(service_state().notices, place, run)


# -- queue and hosts --------------------------------------------------------------------------------------------------


def acted() -> None:
    """A button of the live part was pressed: `{"what", "id", "value"}`."""
    asked: dict[str, str] = dict(st.session_state[LIVE]["act"] or {})
    what, name = str(asked.get("what", "")), str(asked.get("id", ""))
    if what == "remove":
        ask("remove", name)
    elif what:
        subject = HOSTS if what in ("drain", "undrain") else QUEUE
        _told_at("live", subject, lambda: _operate(what, name, str(asked.get("value", ""))))


def drain_host(name: str, *, draining: bool) -> None:
    """From now on nothing new is sent there, or is again."""
    _told_at("live", HOSTS, lambda: access.services().hosts.drain(name, draining=draining))


async def _operate(what: str, name: str, value: str) -> None:
    queue, hosts = access.services().queue, access.services().hosts
    operations: dict[str, Callable[[], object]] = {
        "pause": queue.pause,
        "drain-queue": queue.drain,
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
    if _told_at("add", HOSTS, lambda: hosts.add(name, address, slots, key or None)):
        st.session_state[ADDRESS] = st.session_state[NAME] = st.session_state[HOST_KEY] = ""
        st.session_state[ADD] = False  # close the panel: the host stands on the page


def remove_host(name: str) -> bool:
    """Whether it is gone, or goes as soon as nothing runs there any more."""
    gone = _told_at("dialog", HOSTS, lambda: access.services().hosts.remove(name))
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
    owner = access.principal()
    _told_at("cache", ANSWERS, lambda: access.services().cache.delete(key, owner))


def delete_answers(model: str) -> bool:
    """All of a model, or all there are; whether it was done."""
    cache = access.services().cache
    owner = access.principal()
    number = _told_at("dialog", ANSWERS, lambda: cache.purge(owner, model=model) if model else cache.clear())
    if number is None:
        return False
    st.toast(words.deleted_words(number))
    return True
