"""Row 24: what people were told is written stays written, whenever the process is killed."""

from __future__ import annotations

import asyncio
import signal

from proving.chat_record import faults
from proving.chatting import COMMITS_LATER, Plan, chatting, told
from proving.promises import Run, promise
from proving.raw_host import RawHost, listening

PIECES = tuple(f"piece {number} of an answer, " for number in range(12))
STARTING = 5  # of so many kills one comes while the process starts


@promise(
    24,
    "Acknowledged history survives a crash",
    section="history",
    figure="0 questions lost or doubled, 0 finished answers lost or cut, integrity_check ok, after each of 300 kill -9 "
    "of a server with four people who chat",
    controls=(COMMITS_LATER,),
    untested="real power loss: the process is killed, the machine never is",
)
async def killed_chats(run: Run) -> None:
    """F43: one history file, one process after another on it, each killed at any moment of chats or of its start."""
    data = run.folder / "data"
    data.mkdir(mode=0o700)
    log = run.folder / "told"
    async with listening(RawHost(PIECES, rate=150)) as host:
        for number in range(run.scale(short=3, full=300)):
            starting = number % STARTING == STARTING - 1
            plan = Plan(data, f"one={host};slots=3", log, number, off=run.off)
            with chatting(plan) as process:
                if not starting:
                    await process.first_question()
                await asyncio.sleep(run.random.uniform(0, 0.6))
                ended = process.ended
                process.send(signal.SIGKILL)
                process.join()
            run.require(not ended, f"process {number} ended by itself: {_last_words(plan)}")
            asked, answered = told(log)
            wrong = faults(data / "loupe.db", asked, answered, "".join(PIECES))
            run.trial(not wrong, f"kill {number}: {len(wrong)} faults, {'; '.join(wrong[:3])}")
            if wrong:
                return  # what is lost stays lost: the next ones would tell the same
    run.figure("questions taken", len(asked))
    run.figure("answers said to be finished", len(answered))


def _last_words(plan: Plan) -> str:
    log = plan.data.with_suffix(".log")
    return " / ".join(log.read_text(errors="replace").splitlines()[-3:]) if log.exists() else ""
