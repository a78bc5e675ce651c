"""`make clients`: clients as their makers publish them, each up the same ladder, at each of three places.

    python -m tests.client_ladder [NAME …] [--at PLACE …] [--write]      --write puts the table into docs/clients.md

The clients live in environments of their own, which `make clients` makes under build/clients; their scripts are in
tests/clients, the places and the variables that name another server in tests/client_places.py.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from tests import client_page
from tests.client_page import PAGE
from tests.client_places import MADE, PLACES, Variables, places

SCRIPTS = Path(__file__).parent / "clients"
BEGIN, END = "<!-- what `make clients` wrote -->", "<!-- until here -->"
ABILITIES = ("list", "chat", "stream", "tools", "embeddings", "errors", "cancel", "key")
_PYTHON = str(MADE / "python" / "bin" / "python")
_OLLAMA = MADE / "go" / "bin" / "ollama"


def _script(name: str) -> list[str]:
    return [_PYTHON, str(SCRIPTS / f"{name}.py")]


CLIENTS = {
    "ollama_python": _script("ollama_python"),
    "ollama_python_async": _script("ollama_python_async"),
    "ollama_npm": ["node", "ollama.mjs"],
    "ollama_cli": _script("ollama_cli"),
    "openai_python": _script("openai_python"),
    "openai_npm": ["node", "openai.mjs"],
    "anthropic_python": _script("anthropic_python"),
    "langchain": _script("langchain_client"),
    "langchain_openai": _script("langchain_openai_client"),
    "litellm": _script("litellm_client"),
    "llm": _script("llm_client"),
}
SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Rung:
    """How far one client came with one thing at one place: "ok", "failed", or "-" where there is nothing to try."""

    client: str
    ability: str
    result: str
    detail: str
    place: str = ""


def climb(client: str, variables: dict[str, str], *, python: str = _PYTHON) -> list[Rung]:
    """Runs one client's script; a script that breaks off fails at what it had not reached."""
    words = [python if word == _PYTHON else word for word in CLIENTS[client]]
    folder = MADE / "npm" if words[0] == "node" else SCRIPTS
    with tempfile.TemporaryDirectory(prefix="loupe-client-") as home:
        own = {"HOME": home, "LLM_USER_PATH": home, "OLLAMA_CLI": str(_OLLAMA) if _OLLAMA.is_file() else ""}
        environment = os.environ | variables | own | {"PYTHONDONTWRITEBYTECODE": "1"}
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


def cell(rungs: list[Rung]) -> str:
    """One client and one ability: the same at every place, or each place with what came of it there.

    A place with nothing to try does not count where another has something.
    """
    told = {rung.place: rung.result for rung in rungs if rung.result != "-"}
    if len(set(told.values())) > 1:
        return ", ".join(f"{place}: {result}" for place, result in told.items())
    return next(iter(told.values()), "-")


def table(rungs: list[Rung]) -> str:
    clients = list(dict.fromkeys(rung.client for rung in rungs))
    lines = [f"| client | {' | '.join(ABILITIES)} |", f"|---|{'---|' * len(ABILITIES)}"]
    for client in clients:
        own = [rung for rung in rungs if rung.client == client]
        cells = [cell([rung for rung in own if rung.ability == ability]) for ability in ABILITIES]
        lines.append(f"| {client} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def remarks(rungs: list[Rung]) -> list[str]:
    """What failed, where; and once for each client what it has not."""
    tried = {(rung.client, rung.ability) for rung in rungs if rung.result != "-"}
    said: dict[str, None] = {}
    for rung in rungs:
        if rung.result == "failed":
            said[f"* {rung.client}, {rung.ability}, {rung.place}: failed: {rung.detail}"] = None
        elif (rung.client, rung.ability) not in tried:
            said[f"* {rung.client}, {rung.ability}: {rung.detail}"] = None
    return list(said)


def versions() -> list[str]:
    pins = [line for line in (SCRIPTS / "requirements.in").read_text().splitlines() if "==" in line]
    npm = json.loads((SCRIPTS / "npm" / "package.json").read_text())["dependencies"]
    pins += [f"{name}@{version} (npm)" for name, version in npm.items()]
    return [*pins, f"{(SCRIPTS / 'go.txt').read_text().strip()} (Go)"]


def written(page: str, rungs: list[Rung]) -> str:
    """The page with the results in the place of those that it has."""
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    said = "\n".join(remarks(rungs))
    results = f"{table(rungs)}\n{said}\n\nVersions: {', '.join(versions())}."
    return f"{before}{BEGIN}\n\n{results}\n\n{END}{after}"


def try_page(variables: Variables) -> bool:
    """Every block of the page that is a command or a program; says which went."""
    went = True
    for block in client_page.blocks():
        try:
            client_page.run(block, variables)
            print(f"* {block.language}: {block.title}: ok")
        except AssertionError as error:
            went = False
            print(f"* {block.language}: failed: {error}")
    return went


def main() -> int:
    parser = argparse.ArgumentParser(prog="make clients")
    parser.add_argument("clients", nargs="*", choices=[*CLIENTS, []], metavar="NAME", help=" ".join(CLIENTS))
    parser.add_argument("--at", nargs="+", choices=PLACES, default=list(PLACES), metavar="PLACE", help=" ".join(PLACES))
    parser.add_argument("--write", action="store_true", help="put the table into docs/clients.md")
    words = parser.parse_args()
    rungs: list[Rung] = []
    page_went = True
    with places(words.at) as ready:
        for client in words.clients or CLIENTS:
            for place, variables in ready.items():
                print(f"{client}, {place} …", file=sys.stderr, flush=True)
                rungs += [replace(rung, place=place) for rung in climb(client, variables)]
        if not words.clients:
            print(f"\nThe blocks of {PAGE.name}, {words.at[-1]}:", flush=True)
            page_went = try_page(ready[words.at[-1]])
    print(table(rungs))
    print("\n".join(remarks(rungs)))
    if words.write:
        PAGE.write_text(written(PAGE.read_text(), rungs))
    return 1 if not page_went or any(rung.result == "failed" for rung in rungs) else 0


if __name__ == "__main__":
    sys.exit(main())
