"""Three real runtimes under load: one is killed, one stalls, and nobody who had no byte yet notices.

`THREE_HOSTS_REQUESTS` says how many requests (docs/development.md gives the command for two hundred).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from proving.runtimes import runtimes
from proving.stand import chat, loupe
from proving.three_hosts import NAMES, Trial

pytestmark = pytest.mark.anyio
REQUESTS = int(os.environ.get("THREE_HOSTS_REQUESTS", "30"))
MODEL = "smollm2:135m-instruct-q2_K"
STALL = 4.0


def question(number: int) -> dict[str, Any]:
    return chat(f"Count from {number} on.", model=MODEL, num_predict=16, num_ctx=256, temperature=0.8)


@pytest.mark.timeout(900)
async def test_one_is_killed_and_one_stalls_and_nothing_that_had_not_begun_fails(tmp_path: Path) -> None:
    async with runtimes(tmp_path, "q2_K", NAMES) as hosts:
        words = [f"{name}={host.url};slots=2" for name, host in zip(NAMES, hosts, strict=True)]
        async with loupe(
            tmp_path, words, stall_seconds=STALL, queue_limit=1000, queue_per_client=1000, queue_wait_seconds=600
        ) as product:
            trial = Trial(product, hosts, REQUESTS, at_once=9, stall=STALL, body=question, few=8)
            await trial.run()
            assert trial.wrong() == []
            assert len(trial.endings) == REQUESTS
            assert 1 <= len(trial.cut()) <= 4, "the faults met no answer, or more than the hosts had slots for"
            assert {ending.host for ending in trial.endings if ending.complete} >= {"three"}
            print(f"{len(trial.cut())} cut, late by {[round(trial.late(ending), 2) for ending in trial.cut()]} s")
            await trial.back()
