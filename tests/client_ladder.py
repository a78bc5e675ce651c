"""`make clients`: clients as their makers publish them, each up the same ladder, against a runtime started for it.

    python -m tests.client_ladder [NAME …] [--write]      --write puts the table into docs/clients.md

The clients live in an environment of their own, which `make clients` makes under build/clients; their scripts are in
tests/clients. `OLLAMA_HOST` names another server; then CHAT_MODEL, TOOLS_MODEL,
EMBEDDING_MODEL and ENDLESS_MODEL name its models.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.minilm import install, minilm_gguf
from tests.runtime_process import RuntimeProcess, runtime
from tests.starter_cache import linked_store

ROOT = Path(__file__).parents[1]
SCRIPTS, MADE = ROOT / "tests" / "clients", ROOT / "build" / "clients"
PAGE = ROOT / "docs" / "clients.md"
ABILITIES = ("list", "chat", "stream", "tools", "embeddings", "errors", "cancel")
CHAT, TOOLS, EMBEDDING = "smollm2:135m-instruct-q8_0", "weather:latest", "all-minilm:latest"
ENDLESS = "endless:latest"
_PYTHON = str(MADE / "python" / "bin" / "python")
CLIENTS = {
    "ollama_python": [_PYTHON, str(SCRIPTS / "ollama_python.py")],
    "ollama_python_async": [_PYTHON, str(SCRIPTS / "ollama_python_async.py")],
    "ollama_npm": ["node", "ladder.mjs"],
    "openai_python": [_PYTHON, str(SCRIPTS / "openai_python.py")],
    "langchain": [_PYTHON, str(SCRIPTS / "langchain_client.py")],
    "litellm": [_PYTHON, str(SCRIPTS / "litellm_client.py")],
    "llm": [_PYTHON, str(SCRIPTS / "llm_client.py")],
}
SECONDS = 600.0
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


@dataclass(frozen=True, slots=True)
class Rung:
    """How far one client came with one thing: "ok", "failed", or "-" where there is nothing to try."""

    client: str
    ability: str
    result: str
    detail: str


@contextmanager
def server() -> Iterator[dict[str, str]]:
    """The server of the ladder, as the variables that the scripts read."""
    if host := os.environ.get("OLLAMA_HOST"):
        names = {name: os.environ.get(name, "") for name in ("CHAT_MODEL", "TOOLS_MODEL", "EMBEDDING_MODEL")}
        if not names["CHAT_MODEL"]:
            sys.exit("CHAT_MODEL has to name a model of the server at OLLAMA_HOST")
        endless = os.environ.get("ENDLESS_MODEL") or names["CHAT_MODEL"]
        yield {"OLLAMA_HOST": host if "://" in host else f"http://{host}", "ENDLESS_MODEL": endless, **names}
        return
    with tempfile.TemporaryDirectory(prefix="loupe-clients-") as folder:
        store = linked_store(Path(folder) / "store", (CHAT.rpartition("-")[2],))
        with runtime(store, Path(folder) / "log", OLLAMA_NUM_PARALLEL="1") as started:
            install(started, EMBEDDING, minilm_gguf())
            _make(started, TOOLS, WEATHER)
            _make(started, ENDLESS, ROUND)
            yield {
                "OLLAMA_HOST": started.url, "CHAT_MODEL": CHAT, "TOOLS_MODEL": TOOLS, "EMBEDDING_MODEL": EMBEDDING,
                "ENDLESS_MODEL": ENDLESS,
            }  # fmt: skip


def _make(started: RuntimeProcess, name: str, template: str) -> None:
    body = {"model": name, "from": CHAT, "template": template, "parameters": {"repeat_penalty": 1.0}, "stream": False}
    made = started.send("POST", "/api/create", body)
    assert made.json == {"status": "success"}, made.body


def climb(client: str, variables: dict[str, str], *, python: str = _PYTHON) -> list[Rung]:
    """Runs one client's script; a script that breaks off fails at what it had not reached."""
    words = [python if word == _PYTHON else word for word in CLIENTS[client]]
    folder = MADE / "npm" if client == "ollama_npm" else SCRIPTS
    with tempfile.TemporaryDirectory(prefix="loupe-client-") as home:
        environment = os.environ | variables | {"HOME": home, "LLM_USER_PATH": home, "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            done = subprocess.run(
                words, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                timeout=SECONDS,
            )  # fmt: skip
            said, complained = done.stdout, done.stderr
        except subprocess.TimeoutExpired as error:
            said, complained = (error.stdout or b"").decode(), f"not done after {SECONDS:g} s"
    rungs = [Rung(**json.loads(line)) for line in said.splitlines() if line.startswith('{"client"')]
    reached = {rung.ability for rung in rungs}
    name = rungs[0].client if rungs else client
    why = (complained.strip().splitlines() or ["it said nothing"])[-1][:300]
    return rungs + [Rung(name, ability, "failed", why) for ability in ABILITIES if ability not in reached]


def table(rungs: list[Rung]) -> str:
    clients = list(dict.fromkeys(rung.client for rung in rungs))
    results = {(rung.client, rung.ability): rung.result for rung in rungs}
    lines = [f"| client | {' | '.join(ABILITIES)} |", f"|---|{'---|' * len(ABILITIES)}"]
    lines += [f"| {name} | {' | '.join(results[name, ability] for ability in ABILITIES)} |" for name in clients]
    return "\n".join(lines) + "\n"


def page(rungs: list[Rung]) -> str:
    pins = [line for line in (SCRIPTS / "requirements.in").read_text().splitlines() if "==" in line]
    npm = json.loads((SCRIPTS / "npm" / "package.json").read_text())["dependencies"]
    pins += [f"{name}@{version} (npm)" for name, version in npm.items()]
    why = [f"* {rung.client}, {rung.ability}: {rung.detail}" for rung in rungs if rung.result != "ok"]
    return f"""# Clients

Clients as their makers publish them, unmodified, against the embedded runtime with real models: the starter (q8_0),
the same with a template that has tools, and all-MiniLM-L6-v2. `make clients` makes an environment for them under
`build/clients`, sends each up the same ladder (`tests/clients`) and prints this table; it fails where a rung fails.
Another server: `OLLAMA_HOST=http://127.0.0.1:11434 CHAT_MODEL=… TOOLS_MODEL=… EMBEDDING_MODEL=…
ENDLESS_MODEL=… make clients` (the last one: a model that at temperature 0 goes on until its client leaves).

{table(rungs)}
`cancel` means: the client leaves in the middle of a long answer, and the only slot answers the next request.

{chr(10).join(why)}

Versions: {", ".join(pins)}.
""".replace("\n\n\n\n", "\n\n")


def main() -> int:
    parser = argparse.ArgumentParser(prog="make clients")
    parser.add_argument("clients", nargs="*", choices=[*CLIENTS, []], metavar="NAME", help=" ".join(CLIENTS))
    parser.add_argument("--write", action="store_true", help="put the table into docs/clients.md")
    words = parser.parse_args()
    rungs: list[Rung] = []
    with server() as variables:
        for client in words.clients or CLIENTS:
            print(f"{client} …", file=sys.stderr, flush=True)
            rungs += climb(client, variables)
    print(table(rungs))
    for rung in rungs:
        if rung.result != "ok":
            print(f"{rung.client}, {rung.ability}: {rung.result}: {rung.detail}")
    if words.write:
        PAGE.write_text(page(rungs))
    return 1 if any(rung.result == "failed" for rung in rungs) else 0


if __name__ == "__main__":
    sys.exit(main())
