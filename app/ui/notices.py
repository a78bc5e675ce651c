"""What the user is told when something went wrong: what happened, what to do, and whether trying again helps.

One entry per error class; the most specific one wins. `showing_errors` is the only place where screens meet errors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import TypeVar

import streamlit as st

from app.core import errors as e
from app.services.queueing.admission import QueueDrained
from app.ui.view_models import about, grouped, sentence


@dataclass(frozen=True, slots=True)
class Notice:
    """`tone` is bad (something is lost or broken), warn (it will pass or can be undone) or plain."""

    title: str
    what_to_do: str
    retry: bool = False
    tone: str = "bad"


T = TypeVar("T")
Writer = Callable[[e.LoupeError], Notice]


def _plain(title: str, what_to_do: str, *, retry: bool = False, tone: str = "bad") -> Writer:
    return lambda _: Notice(title, what_to_do, retry, tone)


def _told(title: str, *, retry: bool = False, tone: str = "bad") -> Writer:
    """A notice whose second line is the error's own sentence."""
    return lambda error: Notice(title, sentence(error.message), retry, tone)


def _queue_full(error: e.LoupeError) -> Notice:
    """Which bound was hit. One that was read back from history does not know it any more."""
    reason, most, wait = (getattr(error, name, None) for name in ("reason", "most", "wait"))
    title, told = {
        "wait": (
            "The wait would be too long",
            f"Your turn would come in {about(wait or 0)}, and nobody is let wait for more than {most or 0:.0f} s.",
        ),
        "flow": (
            "Enough of yours is waiting",
            f"{grouped(int(most or 0))} questions of this page wait already, and others want their turn too.",
        ),
        "count": ("Too many requests are waiting", f"All {grouped(int(most or 0))} places in the queue are taken."),
        "prompt tokens": (
            "Too much is waiting to be read",
            "The prompts in the queue would take longer to read than anybody is let wait.",
        ),
    }.get(reason or "", ("The queue took nothing more", "Too many waited, or for too long."))
    after = f"in {about(error.retry_after)}" if reason and error.retry_after else "in a moment"
    return Notice(title, f"{told} Nothing was lost; try again {after}.", True, "warn")


def _model_missing(error: e.LoupeError) -> Notice:
    model = getattr(error, "model", "")
    return Notice(
        f"{model or 'The model'} is not here any more", "Choose another variant below, or get this one again.", True
    )


def _no_host(error: e.LoupeError) -> Notice:
    """Each host's reason; the error's own sentence begins with what the title says already."""
    _, _, reasons = error.message.partition("(")
    told = sentence(reasons.removesuffix(")") or error.message)
    return Notice("No model host answers", f"{told} Nothing was lost; ask again when it is back.", True)


_ENDED = "llama-server process has terminated: "  # what Ollama's clients know it by, and people need not

NOTICES: dict[type[e.LoupeError], Writer] = {
    e.LoupeError: _told("That did not work"),
    e.BadRequest: _told("That cannot be done", tone="warn"),
    e.Unauthorized: _plain("You are signed out", "Reload the page and sign in with the token."),
    e.NotAllowed: _told("Not allowed here"),
    e.ModelNotLocal: _told("This model is not local"),
    e.ModelNotFound: _model_missing,
    e.ConversationNotFound: _plain("This chat does not exist", "It was deleted, or the link is wrong.", tone="plain"),
    e.PayloadTooLarge: _told("That is too long to send"),
    e.Cancelled: _plain("Stopped", "Nothing else was changed.", retry=True, tone="plain"),
    e.QueueFull: _queue_full,
    e.QueueTimeout: _plain("No slot became free in time", "The machine is busy; try again.", retry=True, tone="warn"),
    e.NoHealthyHost: _no_host,
    e.Draining: _plain("Loupe is shutting down", "Start it again, then reload the page.", retry=True, tone="warn"),
    QueueDrained: _plain(
        "The queue takes nothing new", "An administrator lets it empty itself. Nothing was lost; try again when it is "
        "open again (Service, Resume).", retry=True, tone="warn",
    ),
    e.HostError: _told("The model host reported an error", retry=True),
    e.HostUnreachable: _told("The model host does not answer", retry=True),
    e.HostTimeout: _told("The model host is too slow", retry=True, tone="warn"),
    e.HostProtocolError: _told("The answer broke off", retry=True),
    e.HostRefused: _told("The model host refused", retry=True),
    e.GenerationFailed: _told("The model stopped with an error", retry=True),
    e.ModelLoadFailed: lambda error: Notice(
        f"{getattr(error, 'model', 'The model')} could not be loaded",
        sentence(getattr(error, "reason", "") or error.message.removeprefix(_ENDED))
        + " A smaller variant or a shorter context needs less memory.",
        True,
    ),
    e.ModelFileDamaged: _told("The model file is damaged"),
    e.StoreError: _told("The store cannot be used", retry=True),
    e.DiskFull: _told("The disk is full", retry=True),
    e.IntegrityError: _told("The download is damaged", retry=True),
    e.SettingsError: _told("A setting is wrong"),
}  # fmt: skip


def notice_for(error: e.LoupeError) -> Notice:
    writer = next(NOTICES[kind] for kind in type(error).__mro__ if kind in NOTICES)
    notice = writer(error)
    return notice if not error.retryable or notice.retry else Notice(notice.title, notice.what_to_do, True, notice.tone)


def stored(code: str, message: str, *, began: bool) -> Notice:
    """For an answer read back from history, of whose error only the code and the sentence are left."""
    kind = next((kind for kind in NOTICES if kind.code == code and kind is not e.LoupeError), None)
    if kind is None:
        return Notice("The answer broke off" if began else "No answer", sentence(message), retry=True)
    error = kind.__new__(kind)  # without its fields: the writers have words for that
    error.message = message
    return notice_for(error)


def show(notice: Notice, *, key: str, on_retry: Callable[[], None] | None = None, retry: str = "Try again") -> None:
    """Draw a notice; with `on_retry` and a notice that says so, a button under it."""
    with st.container(key=f"notice-{notice.tone}-{key}", gap="xsmall"):
        st.html(
            f'<div class="lp-notice" role="status"><strong>{escape(notice.title)}</strong>'
            f"<span>{escape(notice.what_to_do)}</span></div>"
        )
        if on_retry is not None and notice.retry:
            st.button(retry, key=f"retry-{key}", on_click=on_retry)


def show_at(place: str, told: Mapping[str, Notice]) -> None:
    """Draw what is told at that place of a page, if anything is."""
    if place in told:
        show(told[place], key=place)


def told_at(told: MutableMapping[str, Notice], place: str, work: Callable[[], T]) -> T | None:
    """What `work` returns; None where it fails, and its error is told at that place from now on."""
    told.pop(place, None)
    try:
        return work()
    except e.LoupeError as error:
        told[place] = notice_for(error)
        return None


def broke(report: str) -> None:
    """For a bug: nothing of it is shown but the number under which the log has it."""
    show(Notice("Something broke", f"The log has it under {report}. Reload the page to go on."), key="broke")


@contextmanager
def showing_errors(key: str, on_retry: Callable[[], None] | None = None) -> Iterator[None]:
    """What goes wrong inside is told in its place. Bugs are not errors of ours, and pass through."""
    try:
        yield
    except e.LoupeError as error:
        show(notice_for(error), key=key, on_retry=on_retry)
