"""`python -m app aliases`: names that stand for models, through the running instance (or one started for it).

Exit status: 0 done, 1 it was refused, or the test failed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from app.cli_client import Instance

FAILED = 1
PATH = "/loupe/aliases"
TARGETS = "a model, another alias, family=NAME, best=NAME or best=*; @HOST behind it for one host only"


def add_commands(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(metavar="action", required=True)
    listing = commands.add_parser("list", help="every alias, and where it leads now")
    listing.add_argument("--json", action="store_true", help="as the route tells it")
    listing.set_defaults(command=_command(_list))
    setting = commands.add_parser("set", help="make an alias, or replace it")
    setting.add_argument("name")
    setting.add_argument("targets", nargs="+", metavar="target", help=f"{TARGETS}; the next ones are fallbacks")
    setting.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="such as num_ctx=16384")
    setting.add_argument("--system", help="a system prompt, for requests without one; @FILE reads it from a file")
    setting.add_argument("--think", help="true, false, low, medium, high or max")
    setting.add_argument("--keep-alive", help="such as 30m, 0 or -1")
    setting.add_argument("--guard", choices=("off", "warn", "refuse"), help="of prompts beyond the context (warn)")
    setting.add_argument("--note", help="what it is for")
    setting.add_argument("--anyway", action="store_true", help="also where a target is not there yet")
    setting.set_defaults(command=_command(_set))
    removing = commands.add_parser("remove", help="take an alias away; its models stay")
    removing.add_argument("name")
    removing.set_defaults(command=_command(_remove))
    testing = commands.add_parser("test", help="load what an alias leads to, and say which model that is")
    testing.add_argument("name")
    testing.set_defaults(command=_command(_test))


def _command(work: Callable[[Instance, argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    def run(options: argparse.Namespace) -> int:
        from app.cli_client import Refused, some_instance  # they read the settings, which other commands do not need

        with some_instance() as instance:
            try:
                return work(instance, options)
            except (Refused, ValueError) as error:
                print(error, file=sys.stderr)
            except OSError as error:
                print(f"{error.filename or 'the file'}: {error.strerror}", file=sys.stderr)
        return FAILED

    return run


def _list(instance: Instance, options: argparse.Namespace) -> int:
    told = instance.ask("GET", PATH)
    if options.json:
        print(json.dumps(told, indent=1))
        return 0
    for alias in told["aliases"]:
        _show(alias)
    if not told["aliases"]:
        print("there is no alias yet; `aliases set coder MODEL` makes one", file=sys.stderr)
    return 0


def _show(alias: dict[str, Any]) -> None:
    now = alias["now"]
    where = f" on {now['host']}" if now["host"] else ""
    print(f"{alias['name']} → {now['model'] + where if now['model'] else 'nothing that can answer now'}")
    for step in alias["steps"]:
        problems = [f"{one['model']}: {one['problem']}" for one in step["models"] if one["problem"]]
        problem = step["problem"] or "; ".join(problems)
        print(f"    {step['target']}" + (f"  ({problem})" if problem else ""))
    told = [f"{name}={value}" for name, value in alias["options"].items()]
    told += [f"{name}={alias[name]}" for name in ("think", "keep_alive") if alias[name] is not None]
    told += ["a system prompt"] if alias["system"] else []
    print(f"    guard={alias['guard']}" + (f", {', '.join(told)}" if told else ""))
    if now["shadowed"]:
        print(f"    there is a model of the name {alias['name']} too: the alias goes before it", file=sys.stderr)


def _set(instance: Instance, options: argparse.Namespace) -> int:
    body: dict[str, Any] = {"targets": options.targets, "anyway": options.anyway}
    body["options"] = dict(_option(told) for told in options.option)
    for name in ("guard", "note"):
        body |= {name: getattr(options, name)} if getattr(options, name) is not None else {}
    if options.system is not None:
        body["system"] = _text(options.system)
    if options.think is not None:
        body["think"] = {"true": True, "false": False}.get(options.think, options.think)
    if options.keep_alive is not None:
        body["keep_alive"] = _value(options.keep_alive)
    _show(instance.ask("PUT", f"{PATH}/{options.name}", body))
    return 0


def _text(given: str) -> str:
    return Path(given[1:]).read_text(encoding="utf-8") if given.startswith("@") else given


def _option(told: str) -> tuple[str, Any]:
    name, sign, value = told.partition("=")
    if not sign:
        raise ValueError(f"{told!r}: an option is written NAME=VALUE")
    return name, _value(value)


def _value(text: str) -> Any:
    """A number, a list … as JSON has it; everything else is a text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _remove(instance: Instance, options: argparse.Namespace) -> int:
    instance.ask("DELETE", f"{PATH}/{options.name}")
    print(f"{options.name} is gone")
    return 0


def _test(instance: Instance, options: argparse.Namespace) -> int:
    told = instance.ask("POST", f"{PATH}/{options.name}/test", {})
    if told["error"]:
        print(told["error"], file=sys.stderr)
        return FAILED
    why = f" (choice {told['choice']}: {told['reason']})" if told["reason"] else ""
    print(f"{options.name} → {told['model']} on {told['host']}, ready after {told['seconds']:.1f} s{why}")
    return 0
