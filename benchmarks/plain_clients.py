"""Clients that know nothing of Loupe but its addresses: people who ask, with their own clock, and readers of feeds."""

from __future__ import annotations

import http.client
import json
import threading
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

SECONDS = 120.0  # that a client waits for a piece of an answer
PAUSE = 0.5  # before the same is asked again: while the first answer is being put away, the second joins it


@dataclass(slots=True)
class Asked:
    """One question: moments in monotonic seconds; `pieces` when each piece with text came, `repeated` whether the same
    words were asked before by the same client."""

    model: str
    cacheable: bool
    repeated: bool
    began: float
    id: str = ""
    pieces: list[float] = field(default_factory=list)
    ended: float = 0.0
    last: dict[str, Any] = field(default_factory=dict)

    @property
    def ttft(self) -> float:
        return self.pieces[0] - self.began

    @property
    def whole(self) -> float:
        return self.ended - self.began


class Person:
    """Asks one question after another until told to stop: new words, the same again, and something that no cache may
    answer. `asked` are those that were answered, `now` the one that is being answered."""

    def __init__(self, url: str, number: int, models: Sequence[str], tokens: int = 48) -> None:
        self._place, self._number, self._models, self._tokens = url.removeprefix("http://"), number, models, tokens
        self.asked: list[Asked] = []
        self.now: Asked | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends with the question that is being answered."""
        self._stop.set()

    def join(self) -> None:
        self._thread.join(SECONDS)
        assert not self._thread.is_alive(), "a client's answer does not end"

    def _run(self) -> None:
        connection = http.client.HTTPConnection(self._place, timeout=SECONDS)
        turn = 0
        while not self._stop.is_set():
            kind, topic = turn % 3, turn // 3
            # The models change slowly: a change of the model is a load where they do not fit together.
            model = self._models[(topic // 2 + self._number) % len(self._models)]
            self._ask(connection, model, f"Person {self._number}, question {topic}: what is a tree?", kind)
            turn += 1
        connection.close()

    def _ask(self, connection: http.client.HTTPConnection, model: str, words: str, kind: int) -> None:
        options: dict[str, Any] = {"num_predict": self._tokens, "num_ctx": 1024}
        options |= {"temperature": 0.0} if kind < 2 else {"temperature": 0.8}
        body = {"model": model, "messages": [{"role": "user", "content": words}], "options": options}
        if kind == 1:
            self._stop.wait(PAUSE)
        self.now = asked = Asked(model, kind < 2, kind == 1, time.monotonic())
        connection.request("POST", "/api/chat", json.dumps(body))
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        asked.id = answer.headers["x-loupe-request-id"]
        for line in answer:
            moment, record = time.monotonic(), json.loads(line)
            if record["message"]["content"]:
                asked.pieces.append(moment)
            if record["done"]:
                asked.last = record
        asked.ended = time.monotonic()
        assert asked.last, "an answer without an end"
        self.asked.append(asked)
        self.now = None


class Feed:
    """Reads server-sent events in a thread; `take` is handed each one's data as it comes."""

    def __init__(self, url: str, take: Callable[[dict[str, Any]], None]) -> None:
        self._take = take
        threading.Thread(target=self._read, args=(url,), daemon=True).start()

    def _read(self, url: str) -> None:
        with suppress(OSError), urllib.request.urlopen(url, timeout=SECONDS) as feed:  # noqa: S310 -- our own address
            for line in feed:
                if line.startswith(b"data: "):
                    self._take(json.loads(line[6:]))


class Series:
    """The live series put together from what the feed tells: each sample whole, with when it came."""

    def __init__(self, url: str, beside: Callable[[], dict[str, float]]) -> None:
        self.samples: list[tuple[float, dict[str, float], dict[str, float]]] = []
        self._figures: dict[str, float] = {}
        self._beside = beside
        Feed(f"{url}/loupe/series/events", self._take)

    def _take(self, told: dict[str, Any]) -> None:
        moment, beside = time.monotonic(), self._beside()
        figures = dict(told["now"]) if "now" in told else {**self._figures, **told.get("set", {})}
        for name in told.get("gone", ()):
            figures.pop(name, None)
        self._figures = figures
        self.samples.append((moment, figures, beside))
