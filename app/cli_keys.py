"""`python -m app keys`: create, list and revoke, in the running instance, or in the data folder where none runs.

Exit status: 0 done, 1 it was refused. A new key is the only thing on standard output, so `KEY=$(… keys create NAME)`
works; it is not shown again.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from app.core.errors import LoupeError
from app.core.generation import Json

if TYPE_CHECKING:
    from app.config import Settings

FAILED = 1
SCOPES = ("read", "infer", "admin")


class Keys(Protocol):
    """The keys as the routes tell them, wherever they are."""

    def list(self) -> dict[str, Any]: ...
    def create(self, wish: Mapping[str, Json]) -> dict[str, Any]: ...
    def revoke(self, which: str) -> dict[str, Any]: ...
    def forget_all(self) -> int: ...


def add_commands(parser: argparse.ArgumentParser) -> None:
    """The sub-commands of `keys`; without one it lists."""
    parser.add_argument("--json", action="store_true", help="one JSON object")
    _run_as(parser, _list)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="one JSON object")
    commands = parser.add_subparsers(metavar="what")
    _run_as(commands.add_parser("list", help="the keys and what they have used (the default)", parents=[common]), _list)
    create = commands.add_parser("create", help="make a key; it is shown once", parents=[common])
    create.add_argument("name", help="whose it is, or what for")
    create.add_argument("--scope", choices=SCOPES, default="infer", help="read, infer (ask models; the default), admin")
    create.add_argument(
        "--model", action="append", default=[], metavar="NAME", help="only this model, or a pattern like 'qwen2.5:*'"
    )
    create.add_argument("--per-minute", type=int, metavar="N", help="requests a minute")
    create.add_argument("--at-once", type=int, metavar="N", help="requests at once")
    create.add_argument("--tokens-a-day", type=int, metavar="N", help="tokens a day, read and written (UTC)")
    _run_as(create, _create)
    revoke = commands.add_parser("revoke", help="take a key back", parents=[common])
    revoke.add_argument("which", nargs="?", help="its name or id")
    revoke.add_argument("--all", action="store_true", help="forget every key: this machine needs none any more")
    revoke.add_argument("--yes", "-y", action="store_true", help="do not ask")
    _run_as(revoke, _revoke)


def _run_as(parser: argparse.ArgumentParser, work: Callable[[Keys, argparse.Namespace], int]) -> None:
    parser.set_defaults(command=lambda options: _run(work, options))


def _run(work: Callable[[Keys, argparse.Namespace], int], options: argparse.Namespace) -> int:
    from app.cli_client import find_instance  # it reads the settings, which other commands do not need
    from app.config_report import load_settings
    from app.instance import Instance

    try:
        settings = load_settings(bind="127.0.0.1").settings  # a bind that wants a key must not keep us from making it
        running = find_instance(settings)
        if running is not None:
            return work(_Running(running), options)
        with Instance.acquire(settings.data):
            return work(_InFolder(settings), options)
    except LoupeError as error:
        print(error.message, file=sys.stderr)
        return FAILED


class _Running:
    def __init__(self, instance: Any) -> None:
        self._instance = instance

    def list(self) -> dict[str, Any]:
        return dict(self._instance.ask("GET", "/loupe/keys"))

    def create(self, wish: Mapping[str, Json]) -> dict[str, Any]:
        return dict(self._instance.ask("POST", "/loupe/keys", wish))

    def revoke(self, which: str) -> dict[str, Any]:
        return dict(self._instance.ask("DELETE", f"/loupe/keys/{which}"))

    def forget_all(self) -> int:
        return int(self._instance.ask("DELETE", "/loupe/keys")["forgotten"])


class _InFolder:
    """The folder is ours alone: its lock is held."""

    def __init__(self, settings: Settings) -> None:
        from app.core.ports import SystemClock
        from app.services.access_keys import AccessKeys
        from app.services.key_usage import KeyUsage

        self._token = settings.token is not None
        self._keys = AccessKeys(settings.data, SystemClock(), token=self._token)
        self._keys.load()
        self._usage = KeyUsage(self._keys, settings.data, SystemClock())
        self._usage.load()

    def list(self) -> dict[str, Any]:
        needed = self._token or self._keys.made
        return {"keys": [view.told() for view in self._usage.views()], "needed": needed, "token": self._token}

    def create(self, wish: Mapping[str, Any]) -> dict[str, Any]:
        from app.services.access_keys import LIMITS, KeyLimits, KeyScope, KeyWish

        limits = KeyLimits(**{name: wish[name] for name in LIMITS})
        key, secret = self._keys.create(KeyWish(wish["name"], KeyScope(wish["scope"]), tuple(wish["models"]), limits))
        return {"key": self._usage.view(key).told(), "secret": secret}

    def revoke(self, which: str) -> dict[str, Any]:
        return {"key": self._usage.view(self._keys.revoke(which)).told()}

    def forget_all(self) -> int:
        return self._keys.forget_all()


def _list(keys: Keys, options: argparse.Namespace) -> int:
    told = keys.list()
    if options.json:
        print(json.dumps(told))
        return 0
    if not told["keys"]:
        print("there is no key yet; `keys create NAME` makes one", file=sys.stderr)
        return 0
    for key in told["keys"]:
        print(_line(key))
    return 0


def _line(key: Mapping[str, Any]) -> str:
    state = f"revoked {_day(key['revoked_at'])}" if key["revoked_at"] else f"since {_day(key['created_at'])}"
    limits = [f"{key['limits'][name]} {name.replace('_', ' ')}" for name in key["limits"] if key["limits"][name]]
    used = f"today {key['requests_today']} requests, {key['tokens_today']} tokens"
    words = [f"{key['id']}  {key['hint']}…  {key['name']}", key["scope"], state, used]
    return "  ".join([*words, *limits, *([f"only {', '.join(key['models'])}"] if key["models"] else [])])


def _day(at: float) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(at))


def _create(keys: Keys, options: argparse.Namespace) -> int:
    first = not keys.list()["keys"]
    made = keys.create({
        "name": options.name, "scope": options.scope, "models": options.model, "per_minute": options.per_minute,
        "at_once": options.at_once, "tokens_a_day": options.tokens_a_day,
    })  # fmt: skip
    if options.json:
        print(json.dumps(made))
        return 0
    print("this key is shown once; keep it where the client finds it", file=sys.stderr)
    if first:
        print("from now on everybody needs a key, also your browser: sign in there with this one", file=sys.stderr)
    print(made["secret"])
    return 0


def _revoke(keys: Keys, options: argparse.Namespace) -> int:
    if options.all == bool(options.which):
        print("say which key, by its name or id, or --all", file=sys.stderr)
        return FAILED
    if not options.all:
        gone = keys.revoke(options.which)
        print(json.dumps(gone) if options.json else f"{gone['key']['name']} ({gone['key']['id']}) is revoked")
        return 0
    if not options.yes:
        print("every key is forgotten, and whoever reaches this Loupe without one is its owner again", file=sys.stderr)
        if input("forget them all? [y/N] ").strip().lower() not in ("y", "yes"):
            return FAILED
    count = keys.forget_all()
    print(json.dumps({"forgotten": count}) if options.json else f"{count} keys are forgotten")
    return 0
