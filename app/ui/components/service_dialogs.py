"""The dialogs of the Service screen: each names what is lost, and its button says the verb."""

from __future__ import annotations

from collections.abc import Callable

from app.ui import batch_actions, batch_words, batching_actions, service_actions
from app.ui import view_models as vm
from app.ui.components import cache_answer, confirming
from app.ui.state import service_state


def show() -> None:
    """Draws the dialog that the page's state names, if any."""
    asked = service_state().confirming
    if asked is None:
        return
    what, name = asked
    if what == "answer":
        cache_answer.show(name)
        return
    told = vm.plain(name)
    if what == "batch":
        batch = batch_actions.find(name)
        if batch is None:
            service_actions.close_dialog()
            return
        title, verb = f"Delete {vm.plain(batch.name)}?", "Delete"
        lines = [batch_words.deleting(batch)]
        work: Callable[[], bool] = lambda: batch_actions.delete(name)  # noqa: E731
    elif what == "study":
        title, verb = "Delete this study?", "Delete"
        lines = ["Its figures are deleted for good. A setting that was applied stays in force."]
        work = lambda: batching_actions.delete(name)  # noqa: E731
    elif what == "remove":
        title, verb = f"Remove the host {told}?", "Remove"
        lines = ["Nothing new is sent there. What it is answering now ends first. Its models stay where they are."]
        work = lambda: service_actions.remove_host(name)  # noqa: E731
    else:
        title = f"Delete all cached answers of {told}?" if name else "Clear the cache?"
        verb = "Delete" if name else "Clear"
        whose = "Its cached answers are" if name else "All cached answers are"
        lines = [f"{whose} deleted for good. The next time, the model answers anew. Chats keep what they show."]
        work = lambda: service_actions.delete_answers(name)  # noqa: E731
    confirming.show(title, lines, verb, work, service_actions.close_dialog, service_state().notices)
