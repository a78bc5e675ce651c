"""`python -m app backup` and `restore`: the conversations, through the running instance (or one started for it).

Exit status: 0 done, 1 it failed or was refused.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from app.cli_client import Instance

FAILED = 1


def add_commands(commands: Any) -> None:
    backup = commands.add_parser("backup", help="back the conversations up")
    backup.add_argument("file", nargs="?", type=Path, help="also copy the backup to this file")
    backup.set_defaults(command=lambda options: _run(_backup, options))
    restore = commands.add_parser("restore", help="bring conversations back out of a backup; without one, list them")
    restore.add_argument("backup", nargs="?", help="the name of a backup, or a file that `backup FILE` has made")
    restore.set_defaults(command=lambda options: _run(_restore, options))


def _run(work: Callable[[Instance, argparse.Namespace], None], options: argparse.Namespace) -> int:
    from app.cli_client import Refused, some_instance  # they read the settings, which other commands do not need

    with some_instance() as instance:
        try:
            work(instance, options)
        except Refused as error:
            print(error.message, file=sys.stderr)
            return FAILED
        except OSError as error:
            print(f"{error.filename or 'the file'}: {error.strerror}", file=sys.stderr)
            return FAILED
    return 0


def _backup(instance: Instance, options: argparse.Namespace) -> None:
    made = instance.ask("POST", "/loupe/history/backups")
    kept = Path(instance.ask("GET", "/loupe/history/backups")["folder"]) / str(made["name"])
    if options.file is not None:
        shutil.copyfile(kept, options.file)
        kept = options.file
    print(f"{made['conversations']} conversations in {kept}")


def _restore(instance: Instance, options: argparse.Namespace) -> None:
    told = instance.ask("GET", "/loupe/history/backups")
    if options.backup is None:
        for backup in told["backups"]:
            when = time.strftime("%Y-%m-%d %H:%M", time.localtime(backup["made_at"]))
            print(f"{backup['name']}  {when}  {backup['conversations']} conversations")
        if not told["backups"]:
            print("there is no backup yet; `backup` makes one", file=sys.stderr)
        return
    file, name, copied = Path(options.backup), options.backup, None
    if all(name != backup["name"] for backup in told["backups"]) and file.is_file():
        name = time.strftime("conversations-%Y%m%d-%H%M%S.db")
        copied = Path(told["folder"]) / name
        copied.parent.mkdir(mode=0o700, exist_ok=True)
        shutil.copyfile(file, copied)
    try:
        came = instance.ask("POST", "/loupe/history/restore", {"name": name})["conversations"]
    finally:
        if copied is not None:
            copied.unlink(missing_ok=True)
    print(f"{came} conversations came back; what was here is as it was")
