"""Where the ladder of clients goes up: a runtime by itself, Loupe in front of it, and Loupe with the embedded one.

Each place is told as the variables that the scripts in tests/clients read. `OLLAMA_HOST` names another server in the
place of the runtime; then CHAT_MODEL, TOOLS_MODEL, EMBEDDING_MODEL and ENDLESS_MODEL name its models.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.http_target import HttpTarget
from tests.minilm import install, minilm_gguf
from tests.runtime_process import runtime
from tests.served import served_app
from tests.starter_cache import linked_store

ROOT = Path(__file__).parents[1]
MADE = ROOT / "build" / "clients"  # by `make clients`
PLACES = {
    "runtime": "the runtime by itself",
    "gateway": "Loupe in front of a separate runtime, every answer made anew (LOUPE_CACHE_MODE=bypass)",
    "embedded": "Loupe with its embedded runtime, and with its cache",
}
CHAT, TOOLS, EMBEDDING = "smollm2:135m-instruct-q8_0", "weather:latest", "all-minilm:latest"
ENDLESS = "endless:latest"
OWNER = "the-owner-of-the-ladder"
# A chat that shows so small a model how a tool is called; whoever offers tools gets it before the question.
WEATHER = """{{- if .Tools }}<|im_start|>system
You may call functions: {{ .Tools }}<|im_end|>
<|im_start|>user
Weather in Rome?<|im_end|>
<|im_start|>assistant
<tool_call>
{"name": "get_weather", "arguments": {"city": "Rome"}}
</tool_call><|im_end|>
<|im_start|>tool
11<|im_end|>
<|im_start|>assistant
It is 11 degrees in Rome.<|im_end|>
<|im_start|>user
Weather in Oslo?<|im_end|>
<|im_start|>assistant
<tool_call>
{"name": "get_weather", "arguments": {"city": "Oslo"}}
</tool_call><|im_end|>
<|im_start|>tool
2<|im_end|>
<|im_start|>assistant
It is 2 degrees in Oslo.<|im_end|>
{{ end }}
{{- range .Messages }}<|im_start|>{{ .Role }}
{{ .Content }}
{{- if .ToolCalls }}{{ range .ToolCalls }}
<tool_call>
{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}
</tool_call>
{{- end }}{{ end }}<|im_end|>
{{ end }}<|im_start|>assistant
"""
# What has gone round so often goes on to do so: an answer that ends only when its client leaves.
ROUND = "{{ range .Messages }}{{ end }}" + "red, orange, yellow, green, blue, violet, " * 8

Variables = dict[str, str]


@contextmanager
def places(wanted: Collection[str] = tuple(PLACES)) -> Iterator[dict[str, Variables]]:
    """The places named, each of them ready."""
    with ExitStack() as stack:
        folder, told = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="loupe-clients-"))), {}
        if {"runtime", "gateway"} & set(wanted):
            server = stack.enter_context(_server(folder))
            told["runtime"] = server
            if "gateway" in wanted:
                told["gateway"] = stack.enter_context(_before(server, folder))
        if "embedded" in wanted:
            told["embedded"] = stack.enter_context(_embedded(folder / "embedded"))
        yield {name: told[name] for name in wanted}


@contextmanager
def _server(folder: Path) -> Iterator[Variables]:
    if host := os.environ.get("OLLAMA_HOST"):
        names = {name: os.environ.get(name, "") for name in ("CHAT_MODEL", "TOOLS_MODEL", "EMBEDDING_MODEL")}
        if not names["CHAT_MODEL"]:
            sys.exit("CHAT_MODEL has to name a model of the server at OLLAMA_HOST")
        endless = os.environ.get("ENDLESS_MODEL") or names["CHAT_MODEL"]
        yield {"OLLAMA_HOST": host if "://" in host else f"http://{host}", "ENDLESS_MODEL": endless, **names}
        return
    store = linked_store(folder / "store", (CHAT.rpartition("-")[2],))
    with runtime(store, folder / "log", OLLAMA_NUM_PARALLEL="1") as started:
        yield _filled(started)


@contextmanager
def _before(server: Variables, folder: Path) -> Iterator[Variables]:
    """Loupe in front of a server; and once more, asking for a key; the clients have one that lets them ask models."""
    shared = {"OLLAMA_HOST": server["OLLAMA_HOST"], "LOUPE_CACHE_MODE": "bypass", "LOUPE_ALLOW_CREATE": "on"}
    for name in ("open", "keyed"):
        (folder / name).mkdir()
    with (
        served_app(folder / "open" / "data", **shared) as app,
        served_app(folder / "keyed" / "data", **shared, LOUPE_TOKEN=OWNER) as keyed,
    ):
        app.wait_ready()
        keyed.wait_ready()
        owner = {"Authorization": f"Bearer {OWNER}", "Content-Type": "application/json"}
        made = HttpTarget(keyed.url).send("POST", "/loupe/keys", {"name": "ladder"}, owner)
        assert made.status == 201, made.body
        yield {**server, "OLLAMA_HOST": app.url, "KEYED_HOST": keyed.url, "KEY": made.json["secret"]}


@contextmanager
def _embedded(folder: Path) -> Iterator[Variables]:
    data = folder / "data"
    data.mkdir(mode=0o700, parents=True)
    linked_store(data / "models", (CHAT.rpartition("-")[2],))
    with served_app(data, LOUPE_STARTER="off", LOUPE_ALLOW_CREATE="on") as app:
        app.wait_ready()
        yield _filled(HttpTarget(app.url))


def _filled(server: HttpTarget) -> Variables:
    """A server with the models of the ladder, made as any client makes them."""
    install(server, EMBEDDING, minilm_gguf())
    for name, template in ((TOOLS, WEATHER), (ENDLESS, ROUND)):
        body = {
            "model": name, "from": CHAT, "template": template, "parameters": {"repeat_penalty": 1.0}, "stream": False,
        }  # fmt: skip
        made = server.send("POST", "/api/create", body)
        assert made.json == {"status": "success"}, made.body
    return {
        "OLLAMA_HOST": server.url, "CHAT_MODEL": CHAT, "TOOLS_MODEL": TOOLS, "EMBEDDING_MODEL": EMBEDDING,
        "ENDLESS_MODEL": ENDLESS,
    }  # fmt: skip
