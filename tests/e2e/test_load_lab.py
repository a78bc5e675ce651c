"""A load on a real model, from the command line: what it tells agrees with what the server has kept of each request."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.served import ROOT, http, served_app
from tests.starter_cache import linked_store

pytestmark = [pytest.mark.model, pytest.mark.timeout(240)]
MODEL = "smollm2:135m-instruct-q4_0"
ASKED = 6


def test_a_load_on_a_real_model_agrees_with_the_requests_that_the_server_remembers(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    linked_store(data / "models", ("q4_0",))
    with served_app(data, LOUPE_STARTER="off") as app:
        app.wait_ready()
        words = (
            MODEL, "--arrivals", "constant", "--rate", "4", "--count", str(ASKED), "--prompt", "24", "--output", "6",
            "--context", "512", "--e2e", "600", "--fail-below", "1", "--json",
        )  # fmt: skip
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("LOUPE_", "OLLAMA_", "OTEL_"))}
        asked = subprocess.run(
            [sys.executable, "-m", "app", "load", *words], cwd=ROOT, text=True, stdin=subprocess.DEVNULL, timeout=180,
            capture_output=True, env={**clean, "LOUPE_DATA": str(data), "LOUPE_PORT": app.url.rpartition(":")[2]},
        )  # fmt: skip
        assert asked.returncode == 0, asked.stderr
        told = json.loads(asked.stdout)
        remembered = json.loads(http(f"{app.url}/loupe/requests?model={MODEL}")[1])["requests"]
        rows = json.loads(http(f"{app.url}/loupe/load/{told['id']}/rows")[1])["rows"]
    figures = told["figures"]
    assert (told["state"], figures["asked"], figures["answered"], figures["kept"]) == ("done", ASKED, ASKED, 1.0)
    assert told["loads"][MODEL] > 0
    kept = sorted(remembered, key=lambda one: one["started_at"])[1:]  # the first one warmed up
    assert len(kept) == len(rows) == ASKED
    for row, one in zip(rows, kept, strict=True):
        assert (row["prompt_tokens"], row["output_tokens"]) == (one["prompt_tokens"], one["output_tokens"])
        assert 1 <= row["output_tokens"] <= 6
        waited, server = row["first"] - row["sent"], one["ttft_ns"] / 1e9
        assert server - 0.001 <= waited  # the server's own clock begins after the sending and ends before the reading
        assert one["duration_ns"] / 1e9 <= row["end"] - row["sent"] + 0.001
        assert row["due"] <= row["sent"] < row["first"] <= row["end"]
