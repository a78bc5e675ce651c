"""Ollama's own command line, built from its Go module."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from pathlib import Path

from rungs import CHAT, EMBEDDING, ENDLESS, MISSING, NEAR, QUESTION, are_near, climb, is_free_again, knows_paris

BINARY = os.environ.get("OLLAMA_CLI", "")
GREEDY = "greedy-of-the-ladder"


def ollama(*words: str, fails: bool = False) -> str:
    done = subprocess.run([BINARY, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
    assert (done.returncode != 0) == fails, f"ollama {' '.join(words)}: {done.returncode}: {done.stderr[-200:]}"
    return done.stderr if fails else done.stdout


def list_models() -> None:
    assert CHAT in ollama("list")
    assert "llama" in ollama("show", CHAT)
    assert "NAME" in ollama("ps")


def chat() -> None:
    """With a model that is made for it and goes again: `run` itself has no word for a temperature."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "Modelfile"
        file.write_text(f"FROM {CHAT}\nPARAMETER temperature 0\nPARAMETER num_predict 24\n")
        ollama("create", GREEDY, "-f", str(file))
    ollama("cp", GREEDY, f"{GREEDY}:again")
    knows_paris(ollama("run", f"{GREEDY}:again", QUESTION))
    ollama("stop", f"{GREEDY}:again")
    ollama("rm", GREEDY, f"{GREEDY}:again")
    assert GREEDY not in ollama("list")


def running_answer() -> subprocess.Popen[bytes]:
    """An answer that does not end, of which the beginning has been read."""
    words = [BINARY, "run", ENDLESS, QUESTION]
    asked = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert asked.stdout is not None
    assert os.read(asked.stdout.fileno(), 10), "it said nothing"
    return asked


def stream() -> None:
    asked = running_answer()
    try:
        assert os.read(asked.stdout.fileno(), 10)
        assert asked.poll() is None, "the answer had ended"
    finally:
        asked.kill()
        asked.wait()


def embeddings() -> None:
    are_near(*(json.loads(ollama("run", EMBEDDING, text)) for text in NEAR))


def errors() -> None:
    assert f"'{MISSING}' not found" in ollama("show", MISSING, fails=True)


def cancel() -> None:
    """Ctrl-C."""
    asked = running_answer()
    asked.send_signal(signal.SIGINT)
    asked.wait(30)
    is_free_again()


if BINARY:
    climb(
        "ollama (command line)", list=list_models, chat=chat, stream=stream, tools="it offers none by itself",
        embeddings=embeddings, errors=errors, cancel=cancel, key="it shows none to a server of one's own",
    )  # fmt: skip
else:
    unbuilt = "not built: there is no Go and C compiler here"
    climb("ollama (command line)", **dict.fromkeys(
        ("list", "chat", "stream", "tools", "embeddings", "errors", "cancel", "key"), unbuilt
    ))  # fmt: skip
