"""`python -m app batch FILE --out RESULTS`: a file of prompts through the batch class of the queue of the running
instance (or of one started for the command). The results are written as they come, in the order in which they end; at
the end the file is written anew in the order of the prompts.

`batch list`, `pause`, `resume`, `cancel`, `retry` and `rm` do with a batch by its id what they say; `batch results ID`
writes what is there. Ctrl-C leaves the batch running where Loupe runs by itself, and says how to come back to it.

Exit status: 0 all answered, 1 refused or failed, 3 some prompts failed, 130 left with Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from app.cli_models import STOPPED, ProgressLine, print_table, sentence_of
from app.core.errors import BadRequest, LoupeError

if TYPE_CHECKING:
    from app.cli_client import Instance

FAILED, SOME_FAILED = 1, 3
LOOK_SECONDS = 1.0
VERBS = ("list", "results", "pause", "resume", "cancel", "retry", "rm")
Row = dict[str, Any]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", metavar="FILE", help=f"a file of prompts, or one of {', '.join(VERBS)}")
    parser.add_argument("id", nargs="?", default="", metavar="ID", help="of a batch, after such a word")
    parser.add_argument("--model", default="", help="for prompts that name none themselves")
    parser.add_argument("--system", default="", metavar="TEXT", help="a system prompt for those that have none")
    parser.add_argument("--options", default="", metavar="JSON", help='like {"temperature": 0, "num_predict": 200}')
    parser.add_argument("--form", choices=("jsonl", "csv", "text", "openai"), default="", help="what FILE is (guessed)")
    parser.add_argument("--out", metavar="FILE", help="where the answers go; in the form that its ending names")
    parser.add_argument("--format", choices=("jsonl", "csv", "openai"), default="", help="in which form (as FILE's)")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.set_defaults(command=batch)


def batch(options: argparse.Namespace) -> int:
    from app.cli_client import Refused, some_instance  # they read the settings, which other commands do not need

    try:
        verb = options.what if options.what in VERBS and not Path(options.what).exists() else ""
        body = {} if verb else _asked(options)
        with some_instance() as instance:
            return _VERBS[verb](instance, options) if verb else _answered(instance, body, options)
    except (Refused, LoupeError, OSError) as error:
        sentence = sentence_of(error)
        if options.json:
            print(json.dumps({"error": sentence}))
        print(sentence, file=sys.stderr)
        return FAILED


def _asked(options: argparse.Namespace) -> Row:
    """Raises `BadRequest`, OSError."""
    file = Path(options.what)
    if not file.exists():
        raise BadRequest(f"there is no file {options.what}; name one with prompts, or say {', '.join(VERBS)}", "file")
    _check_out(options)
    if Path(options.out).resolve() == file.resolve():
        raise BadRequest("--out is the file of prompts itself; name another one", "out")
    try:
        content = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadRequest(f"{file.name} is no text in UTF-8; save it as such", "file") from error
    body: Row = {"name": file.name, "content": content, "model": options.model, "system": options.system,
                 "form": options.form}  # fmt: skip
    if options.options:
        try:
            body["options"] = json.loads(options.options)
        except ValueError as error:
            raise BadRequest(
                f'--options is no JSON ({error}); it wants like {{"temperature": 0}}', "options"
            ) from error
    return {name: value for name, value in body.items() if value != ""}


def _check_out(options: argparse.Namespace) -> None:
    """Before the first prompt is asked: whether its answer has a place to go to. Raises `BadRequest`."""
    if not options.out:
        raise BadRequest("say where the answers go: --out answers.jsonl", "out")
    out = Path(options.out)
    if not out.parent.is_dir():
        raise BadRequest(f"--out: there is no folder {out.parent}; make it first", "out")
    if out.is_dir():
        raise BadRequest(f"--out: {out} is a folder; name a file in it", "out")


def _answered(instance: Instance, body: Row, options: argparse.Namespace) -> int:
    told = instance.ask("POST", "/loupe/batches", body)
    if not options.json:
        print(f"Batch {told['id']}: {told['total']} prompts", file=sys.stderr)
    return _followed(instance, told, options)


def _followed(instance: Instance, told: Row, options: argparse.Namespace) -> int:
    """Write what comes until it is over; Ctrl-C leaves it."""
    from app.cli_client import NotRunning

    path, line, form = f"/loupe/batches/{told['id']}", ProgressLine(quiet=options.json), _format(options)
    out = Path(options.out)
    last = "0"
    try:
        with out.open("wb") as file:
            while True:
                told = instance.ask("GET", path)
                last = _more(instance, path, form, last, file)
                if told["job"] is not None:
                    line.draw(told["job"])
                if told["state"] not in ("running", "paused"):
                    break
                time.sleep(LOOK_SECONDS)
    except (NotRunning, OSError) as error:  # gone, or the file cannot be written
        line.end()
        when = "when Loupe is started again" if isinstance(error, NotRunning) else "all the same"
        print(f"The batch goes on {when}: python -m app batch results {told['id']} --out {out}", file=sys.stderr)
        raise
    except KeyboardInterrupt:
        line.end()
        _write(instance, told["id"], out, form)
        print(f"Left. The batch goes on where Loupe runs: python -m app batch results {told['id']} --out {out}",
              file=sys.stderr)  # fmt: skip
        return STOPPED
    line.end()
    _write(instance, told["id"], out, form)
    return _told(told, options)


def _more(instance: Instance, path: str, form: str, last: str, file: BinaryIO) -> str:
    """Append what has ended since `last`; the number of the last one."""
    while True:
        status, content, now = instance.marked(f"{path}/results", "X-Loupe-Last", format=form, after=last)
        if status != 200 or not content:
            return last
        file.write(content)
        file.flush()
        last = now


def _format(options: argparse.Namespace) -> str:
    ending = Path(options.out).suffix.lower() if options.out else ""
    named = {".csv": "csv", ".jsonl": "", ".ndjson": ""}.get(ending, "")
    return str(options.format or named)


def _write(instance: Instance, batch_id: str, out: Path, form: str) -> None:
    """Raises `Refused`, OSError."""
    from app.cli_client import Refused

    status, content = instance.raw("GET", f"/loupe/batches/{batch_id}/results", format=form)
    if status != 200:
        raise Refused(status, content[:300].decode("utf-8", "replace"))
    draft = out.with_name(f"{out.name}.part")
    draft.write_bytes(content)
    draft.replace(out)


def _told(told: Row, options: argparse.Namespace) -> int:
    if options.json:
        print(json.dumps(told))
    else:
        failed = f", {told['failed']} failed" if told["failed"] else ""
        where = f" in {options.out}" if options.out else ""
        print(f"{told['answered']} of {told['total']} prompts answered{failed}{where}: {told['state']}")
    if told["state"] in ("failed", "cancelled"):
        print(told["error"] or f"it was {told['state']}; `batch resume {told['id']}` goes on", file=sys.stderr)
        return FAILED
    return SOME_FAILED if told["failed"] else 0


# -- one batch by its id ----------------------------------------------------------------------------------------------


def _list(instance: Instance, options: argparse.Namespace) -> int:
    found = instance.ask("GET", "/loupe/batches")["batches"]
    if options.json:
        print(json.dumps({"batches": found}))
        return 0
    counts = [f"{each['answered']}/{each['total']}" + (f" ({each['failed']} failed)" if each["failed"] else "")
              for each in found]  # fmt: skip
    print_table([(each["id"], count, each["state"], each["name"]) for each, count in zip(found, counts, strict=True)])
    if not found:
        print("no batch yet; `batch FILE --model MODEL --out ANSWERS` begins one", file=sys.stderr)
    return 0


def _results(instance: Instance, options: argparse.Namespace) -> int:
    """What is answered so far; with a batch that runs, to its end."""
    told = instance.ask("GET", f"/loupe/batches/{_id(options)}")
    _check_out(options)
    if told["state"] == "running":
        return _followed(instance, told, options)
    _write(instance, told["id"], Path(options.out), _format(options))
    return _told(told, options)


def _operate(instance: Instance, options: argparse.Namespace) -> int:
    told = instance.ask("POST", f"/loupe/batches/{_id(options)}/{options.what}")
    print(json.dumps(told) if options.json else f"{told['name']}: {told['state']}")
    return 0


def _remove(instance: Instance, options: argparse.Namespace) -> int:
    told = instance.ask("DELETE", f"/loupe/batches/{_id(options)}")
    print(json.dumps(told) if options.json else f"Deleted {told['deleted']} with its answers.")
    return 0


def _id(options: argparse.Namespace) -> str:
    if not options.id:
        raise BadRequest(f"say which batch: batch {options.what} ID (`batch list` shows them)", "id")
    return str(options.id)


_VERBS: dict[str, Callable[[Instance, argparse.Namespace], int]] = {
    "list": _list, "results": _results, "rm": _remove,
    **dict.fromkeys(("pause", "resume", "cancel", "retry"), _operate),
}  # fmt: skip
