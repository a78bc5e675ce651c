"""Where the questions and the moments of a load run come from, where they are not made up: one's own chats, and the
requests that Loupe remembers."""

from __future__ import annotations

from app.comparison.load_lab.others import FLOW
from app.comparison.load_lab.plan import MOST_REQUESTS, Recorded
from app.comparison.load_lab.questions import Asking
from app.core.errors import BadRequest
from app.services.history import History
from app.services.request_log import RequestLog

CHATS_LOOKED_AT = 200


async def of_chats(history: History, principal: str) -> tuple[Asking, ...]:
    """The first question of each of the newest chats, with the length of its answer. Raises `BadRequest` where there is
    none."""
    found: list[Asking] = []
    for row in await history.conversations(principal, limit=CHATS_LOOKED_AT):
        messages = (await history.get(row.id, principal)).messages
        asked = next((at for at, one in enumerate(messages) if one.role == "user" and one.content.strip()), None)
        if asked is not None:
            answers = (one.usage.output_tokens for one in messages[asked + 1 :] if one.usage is not None)
            found.append(Asking(messages[asked].content, next(answers, 0)))
    if not found:
        raise BadRequest("there are no chats to take questions from yet; ask something in Chat first", "chats")
    return tuple(found)


def of_requests(log: RequestLog) -> tuple[Recorded, ...]:
    """The generations that Loupe remembers, load runs left out. Raises `BadRequest` where there are too few to be a
    day."""
    rows = [one for one in log.recent(MOST_REQUESTS) if one.usage is not None and not one.flow.startswith(FLOW)]
    if len(rows) < 2:
        raise BadRequest(
            "Loupe remembers no requests yet that could be played again; give a recording, or choose other arrivals",
            "recording",
        )
    return tuple(
        Recorded(one.started_at, one.usage.prompt_tokens, one.usage.output_tokens)
        for one in rows
        if one.usage is not None
    )
