"""A host is added to a Loupe that runs its own runtime: both are used, and both are there after a restart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.served import Served, http, served_app, served_runtime, wait_for
from tests.starter_cache import linked_store

MODEL = "smollm2:135m-instruct-q2_K"


def hosts(app: Served) -> dict[str, Any]:
    status, body = http(f"{app.url}/loupe/hosts")
    return {host["name"]: host for host in json.loads(body)["hosts"]} if status == 200 else {}


def both_answer(app: Served) -> bool:
    return [host["state"] for host in hosts(app).values()] == ["healthy", "healthy"]


@pytest.mark.timeout(180)
def test_a_host_is_added_beside_our_own_runtime(tmp_path: Path) -> None:
    bench_store = linked_store(tmp_path / "bench", ("q2_K",))
    data = tmp_path / "data"
    with served_runtime(bench_store, tmp_path / "bench.log") as bench:
        bench.wait_ready("/api/version")
        with served_app(data, LOUPE_STARTER="off") as app:
            app.wait_ready("/healthz")
            wait_for("our own runtime", lambda: hosts(app).get("embedded", {}).get("state") == "healthy", 60)
            assert http(f"{app.url}/readyz")[0] == 503, "our own runtime has no model"
            status, told = http(f"{app.url}/loupe/hosts", {"name": "bench", "url": bench.url})
            assert (status, json.loads(told)["added"]) == (201, True)
            asked = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "stream": False,
                     "options": {"num_predict": 4, "num_ctx": 256}}  # fmt: skip
            status, answer = http(f"{app.url}/api/chat", asked)
            assert (status, json.loads(answer)["done"]) == (200, True), answer
            assert http(f"{app.url}/loupe/hosts/embedded", method="DELETE")[0] == 403
        with served_app(data, LOUPE_STARTER="off") as app:
            app.wait_ready("/readyz")
            wait_for("both hosts", lambda: both_answer(app), 60)
            assert http(f"{app.url}/loupe/hosts/bench", method="DELETE") == (200, b'{"removed":true}')
            assert list(hosts(app)) == ["embedded"]
