"""The commands and programs of docs/clients.md, run as they stand there against a Loupe of the ladder.

Put in are only its address for the usual one, and the models of the ladder for those that are named.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.client_places import CHAT, EMBEDDING, MADE, ROOT, Variables

PAGE = ROOT / "docs" / "clients.md"
SECONDS = 300.0
USUAL = "http://127.0.0.1:8501"
BLOCK = re.compile(r"^```(bash|python|js)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """`language` as the fence has it; `title` is its first line."""

    language: str
    text: str

    @property
    def title(self) -> str:
        return self.text.partition("\n")[0][:70]


def blocks(page: Path = PAGE) -> Iterator[Block]:
    for language, text in BLOCK.findall(page.read_text()):
        assert USUAL in text, f"a block without an address: {text}"
        yield Block(language, text)


def run(block: Block, variables: Variables, *, python: Path = MADE / "python" / "bin" / "python") -> str:
    """What it printed. Raises AssertionError with what it complained about."""
    text = block.text.replace(USUAL, variables["OLLAMA_HOST"]).replace(CHAT, variables["CHAT_MODEL"])
    text = text.replace(f'"{EMBEDDING.partition(":")[0]}"', f'"{variables["EMBEDDING_MODEL"]}"')
    words = {
        "bash": ["bash", "-euo", "pipefail", "-c", text],
        "python": [str(python), "-c", text],
        "js": ["node", "--input-type=module", "-e", text],
    }[block.language]
    with tempfile.TemporaryDirectory(prefix="loupe-page-") as home:
        path = os.pathsep.join((str(python.parent), str(MADE / "go" / "bin"), os.environ["PATH"]))
        environment = os.environ | {"HOME": home, "LLM_USER_PATH": home, "PATH": path}
        done = subprocess.run(
            words, cwd=MADE / "npm" if block.language == "js" else home, env=environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=SECONDS,
        )  # fmt: skip
    assert done.returncode == 0, f"{block.title}: {done.stderr[-400:]}"
    assert done.stdout.strip(), f"{block.title}: it printed nothing"
    return done.stdout
