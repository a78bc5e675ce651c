"""What a batch costs the people who chat meanwhile: the wait of a chat question for its slot, and its first token.

    python -m benchmarks.batch [--rounds 12]

Loupe as a process with its embedded runtime and one slot. A round asks one chat question while no batch runs, one
behind a batch of short answers (16 tokens), and one behind a batch of long answers (400), each at a moment at which the
batch is being answered. What a person waits for is the rest of the answer that runs, or two seconds of it.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks import subjects
from benchmarks.harness import Figures, Metric, Report, interleave
from tests.served import Served, served_app, wait_for
from tests.served import http as fetch
from tests.starter_cache import linked_store

MODEL = "smollm2:135m-instruct-q4_0"
METRICS = (
    Metric("wait", "wait for the slot", "ms", 0), Metric("first", "question to first token", "ms", 0),
)  # fmt: skip
COUNTER = itertools.count()
SECONDS = 60.0


class Bench:
    def __init__(self, app: Served) -> None:
        self._app = app

    def ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        status, content = fetch(self._app.url + path, body, method=method)
        assert status < 300, content
        told: dict[str, Any] = json.loads(content)
        return told

    def batch(self, tokens: int) -> str:
        """A batch that waits to be resumed."""
        content = "\n".join(f"Tell a long story about the number {number}." for number in range(2000))
        options = {"num_predict": tokens, "num_ctx": 1024, "temperature": 0.8}
        body = {"name": f"{tokens}.txt", "content": content, "model": MODEL, "options": options}
        batch_id = str(self.ask("POST", "/loupe/batches", body)["id"])
        self.ask("POST", f"/loupe/batches/{batch_id}/pause")
        return batch_id

    def alone(self) -> Figures:
        wait_for("an idle queue", lambda: not self._running(), SECONDS)
        return self._question()

    def behind(self, batch_id: str) -> Figures:
        self.ask("POST", f"/loupe/batches/{batch_id}/resume")
        wait_for("the batch to be answered", self._decoding, SECONDS)
        try:
            return self._question()
        finally:
            self.ask("POST", f"/loupe/batches/{batch_id}/pause")
            wait_for("an idle queue", lambda: not self._running(), SECONDS)

    def _running(self) -> list[dict[str, Any]]:
        return list(self.ask("GET", "/loupe/queue")["running"])

    def _decoding(self) -> bool:
        return any(row["phase"] == "decode" for row in self._running())

    def _question(self) -> Figures:
        body = {
            "model": MODEL, "messages": [{"role": "user", "content": f"Question {next(COUNTER)}: what is a tree?"}],
            "options": {"num_predict": 8, "num_ctx": 1024, "temperature": 0.8},
        }  # fmt: skip
        connection = http.client.HTTPConnection("127.0.0.1", int(self._app.url.rpartition(":")[2]), timeout=SECONDS)
        began = time.perf_counter()
        connection.request("POST", "/api/chat", json.dumps(body))
        answer = connection.getresponse()
        answer.readline()
        first = time.perf_counter() - began
        answer.read()
        connection.close()
        told = self.ask("GET", f"/loupe/requests/{answer.headers['x-loupe-request-id']}")
        waited = sum(span["duration_ns"] for span in told["spans"]["children"] if span["name"] == "queue")
        return {"wait": waited / 1e6, "first": first * 1e3}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.batch", description=__doc__)
    parser.add_argument("--rounds", type=int, default=12)
    options = parser.parse_args()
    report = Report("batch", "Chat beside a batch")
    with subjects.scratch() as folder:
        data = folder / "data"
        data.mkdir(mode=0o700)
        linked_store(data / "models", ("q4_0",))
        with served_app(data, LOUPE_STARTER="off", LOUPE_SLOTS="1") as app:
            app.wait_ready()
            bench = Bench(app)
            short, long = (partial(bench.behind, bench.batch(tokens)) for tokens in (16, 400))
            measured: dict[str, Callable[[], Figures]] = {
                "alone": bench.alone, "behind short answers": short, "behind long answers": long,
            }  # fmt: skip
            samples = interleave(measured, rounds=options.rounds)
            report.compare("A chat question of 8 tokens", METRICS, samples)
    report.finish()


if __name__ == "__main__":
    main()
