"""Requests: what became of the last ones, and everything about one of them."""

from __future__ import annotations

from app.ui import request_actions
from app.ui.components import copying, request_list, request_one


def show() -> None:
    """The list, or the request that the address names."""
    named = request_actions.open_id()
    if named:
        request_one.show(named)
    else:
        request_list.show()
    copying.listen()
