"""Aliases on the real runtime and from the command line: the host's own count, the advisor's choice, a switch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.runtime_process import runtime
from tests.served import ROOT, Served, served_app
from tests.served import http as ask
from tests.starter_cache import linked_store

pytestmark = [pytest.mark.xdist_group("aliases"), pytest.mark.timeout(300)]
Q4, Q8 = "smollm2:135m-instruct-q4_K_M", "smollm2:135m-instruct-q8_0"
OPTIONS = {"num_ctx": 256, "num_predict": 2, "temperature": 0, "seed": 1}


@dataclass(frozen=True)
class Place:
    app: Served
    data: Path

    def run(self, *arguments: str) -> tuple[int, str, str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("LOUPE_", "OLLAMA_"))}
        done = subprocess.run(
            [sys.executable, "-m", "app", "aliases", *arguments], cwd=ROOT, text=True, timeout=120, check=False,
            env=clean | {"LOUPE_DATA": str(self.data)}, capture_output=True,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    def ask(self, path: str, body: Any = None, method: str | None = None) -> tuple[int, dict[str, Any]]:
        status, content = ask(self.app.url + path, body, method=method)
        return status, json.loads(content)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("aliases")
    linked_store(folder / "store", ("q8_0", "q4_K_M"))
    with (
        runtime(folder / "store", folder / "runtime.log") as host,
        served_app(folder / "data", OLLAMA_HOST=host.url) as app,
    ):
        app.wait_ready()
        yield Place(app, folder / "data")


def test_the_command_line_makes_lists_tries_and_removes_them(place: Place):
    code, out, err = place.run("set", "coder", Q4, Q8, "--option", "num_ctx=512", "--think", "false", "--note", "x")
    assert (code, err) == (0, "") and out.startswith(f"coder → {Q4}\n")
    code, out, _ = place.run("test", "coder")
    assert code == 0 and f"coder → {Q4} on " in out
    [row] = json.loads(place.run("list", "--json")[1])["aliases"]
    assert (row["targets"], row["options"], row["think"], row["note"]) == ([Q4, Q8], {"num_ctx": 512}, False, "x")
    code, out, err = place.run("set", "coder", "smollm2:135m-instruct-q8_1")
    assert code == 1 and Q8 in err and "nearest" in err
    assert place.run("remove", "coder")[:2] == (0, "coder is gone\n")
    assert place.run("remove", "coder")[0] == 1


def test_the_guard_tells_the_hosts_own_count(place: Place):
    text = "word " * 300
    for guard in ("refuse", "warn"):
        body = {"targets": [Q8], "options": OPTIONS, "guard": guard}
        assert place.ask("/loupe/aliases/strict", body, "PUT")[0] in (200, 201)
        for path, asked in (
            ("/api/generate", {"prompt": text}),
            ("/v1/chat/completions", {"messages": [{"role": "user", "content": text}], "max_tokens": 2}),
        ):
            status, told = place.ask(path, {"model": "strict", "stream": False, **asked})
            if guard == "warn":
                assert status == 200, told
                continue
            message = told["error"] if isinstance(told["error"], str) else told["error"]["message"]
            assert status == 400 and "holds 256" in message, message
            counted = int(message.split("has ")[1].split(" tokens")[0])
            roomy = {**asked, "options": {**OPTIONS, "num_ctx": 512}, "num_ctx": 512}
            status, told = place.ask(path, {"model": "strict", "stream": False, **roomy})
            usage = told.get("prompt_eval_count") or told["usage"]["prompt_tokens"]
            assert status == 200 and usage == counted, "the count is that of the prompt itself"


def test_an_alias_for_the_advisors_choice_answers_and_is_switched(place: Place):
    body = {"targets": ["best=*", Q8], "options": OPTIONS}
    status, told = place.ask("/loupe/aliases/best", body, "PUT")
    assert status == 201 and told["now"]["model"] in (Q4, Q8), told
    names = []
    for target in (Q4, Q8, "family=smollm2:135m-instruct"):
        place.ask("/loupe/aliases/best", {"targets": [target], "options": OPTIONS}, "PUT")
        status, answer = place.ask("/api/generate", {"model": "best", "prompt": "The sea is", "stream": False})
        assert status == 200
        names.append(answer["model"])
    assert names[:2] == [Q4, Q8] and names[2] in (Q4, Q8)
