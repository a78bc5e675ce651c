"""`python -m app teach MODEL --out FILE`: a teacher's answers as training data, through the running instance (or one
started for the command). Beside FILE a manifest says who taught and under which licence.

Exit status: 0 done, 1 it failed or was refused, 130 stopped with Ctrl-C: what was answered by then is written.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.cli_models import STOPPED, ProgressLine, to_the_end
from app.core.errors import LoupeError

if TYPE_CHECKING:
    from app.cli_client import Instance

FAILED = 1


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="the teacher, like llama3.2:3b")
    parser.add_argument("--out", required=True, metavar="FILE", help="where the data goes")
    parser.add_argument("--form", choices=("messages", "sharegpt"), default="messages", help="which kind (messages)")
    parser.add_argument("--prompts", metavar="FILE", help="your own questions: a line each, JSON lines, or a set")
    parser.add_argument("--system", default="", metavar="TEXT", help="a system prompt, which the data then has too")
    parser.add_argument("--tokens", type=int, help="longest answer (1024); longer ones are left out")
    parser.add_argument("--host", default="", help="which host, where there are several")
    parser.set_defaults(command=teach)


def teach(options: argparse.Namespace) -> int:
    from app.cli_client import Refused, some_instance  # they read the settings, which other commands do not need

    try:
        body = _asked(options)
        with some_instance() as instance:
            return _taught(instance, instance.ask("POST", "/loupe/training", body), options)
    except (Refused, LoupeError, OSError) as error:
        print(error.message if isinstance(error, LoupeError) else error, file=sys.stderr)
        return FAILED


def _asked(options: argparse.Namespace) -> dict[str, Any]:
    body = {"model": options.model, "system": options.system, "tokens": options.tokens, "host": options.host}
    if options.prompts:
        from app.comparison.question_set import read_questions

        found = read_questions(Path(options.prompts))
        body |= {"question_set": found.name, "questions": [question.text for question in found.questions]}
    return {name: value for name, value in body.items() if value not in (None, "")}


def _taught(instance: Instance, told: dict[str, Any], options: argparse.Namespace) -> int:
    path, line, stopped = f"/loupe/training/{told['id']}", ProgressLine(quiet=False), False
    try:
        job = to_the_end(instance, told["job"], line.draw)
    except KeyboardInterrupt:
        job, stopped = instance.ask("POST", f"{path}/cancel")["job"], True
    line.end()
    if not stopped and job["state"] != "done":
        print(job["error"] or f"it was {job['state']}", file=sys.stderr)
        return FAILED
    _write(instance, path, Path(options.out), options.form)
    return STOPPED if stopped else 0


def _write(instance: Instance, path: str, file: Path, form: str) -> None:
    """Raises `Refused`, OSError."""
    from app.cli_client import Refused

    told = instance.ask("GET", f"{path}/manifest", form=form)
    status, content = instance.raw("GET", f"{path}/data", form=form)
    if status != 200:
        raise Refused(status, content[:300].decode("utf-8", "replace"))
    file.write_bytes(content)
    beside = file.with_name(f"{file.name}.manifest.json")
    beside.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    left_out = f", {len(told['left_out'])} left out because they were cut off" if told["left_out"] else ""
    print(f"{told['examples']} answers of {told['teacher']['model']} in {file}{left_out}. {told['caution']}".strip())
