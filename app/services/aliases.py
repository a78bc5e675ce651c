"""Aliases: which there are, what each leads to now, and changing them while Loupe runs (`aliases.json`).

The table is replaced as a whole with every change: a request that has begun keeps the alias that it found. A name that
is a model's is refused; where a model of that name comes later, past Loupe, the alias stays what the name means, and
the list says so: what a name leads to never changes by itself.
"""

from __future__ import annotations

import asyncio
import difflib
import errno
import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import structlog

from app.core.errors import BadRequest, DiskFull, LoupeError, ModelNotFound, NoHealthyHost, StoreError
from app.core.hosts import ANSWERING
from app.core.ports import Clock
from app.services.alias_targets import DEEPEST, AliasTargets, AliasView, Choose, Wish
from app.services.alias_values import EVERYTHING, Alias, Kind, Target, alias_json, members_of, read_alias
from app.services.host_pool import HostPool
from app.services.small_file import read_small, write_small
from app.services.watched_host import canonical

log = structlog.get_logger("loupe.aliases")
FILE_NAME = "aliases.json"
MOST_ALIASES = 256
NEAREST = 3


class AliasNotFound(LoupeError):
    status = 404
    code = "alias_not_found"

    def __init__(self, name: str, names: Collection[str]) -> None:
        super().__init__(f"there is no alias {name[:80]!r}" + _near(name, names))
        self.name = name


class Aliases:
    """Belongs to one event loop. `choose` asks the advisor."""

    def __init__(self, pool: HostPool, folder: Path, clock: Clock, choose: Choose) -> None:
        self._pool, self._file, self._clock = pool, folder / FILE_NAME, clock
        self.targets = AliasTargets(self.find, pool, choose)
        self._table: Mapping[str, Alias] = {}
        self._changing = asyncio.Lock()
        self.version = 0
        """Rises with every change."""

    def find(self, model: str) -> Alias | None:
        """The alias of that name, in any spelling; None for what is none."""
        return self._table.get(canonical(model)) if self._table else None

    def all(self) -> tuple[Alias, ...]:
        return tuple(sorted(self._table.values(), key=lambda alias: alias.name.casefold()))

    def get(self, name: str) -> Alias:
        """Raises `AliasNotFound`."""
        alias = self.find(name)
        if alias is None:
            raise AliasNotFound(name, [one.name for one in self._table.values()])
        return alias

    async def views(self) -> tuple[AliasView, ...]:
        """Every alias with where it leads now."""
        return tuple([await self.targets.view(alias) for alias in self.all()])

    def check_free(self, model: str) -> None:
        """Raises `BadRequest` where something is to be made, pulled or deleted under the name of an alias."""
        if (alias := self.find(model)) is not None:
            raise BadRequest(
                f"{alias.name} is an alias, not a model; name the model itself, or remove the alias first "
                f"(python -m app aliases remove {alias.name})",
                "model",
            )

    # -- changing -------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Read what is kept. A damaged file is put aside, an alias that cannot be read is left out; the log says so."""
        content = await asyncio.to_thread(read_small, self._file)
        if content is None and self._file.exists():
            log.error("the aliases cannot be read; the file is put aside", file=FILE_NAME)
            with suppress(OSError):
                self._file.replace(self._file.with_name(f"{FILE_NAME}.damaged"))
        rows = content.get("aliases") if isinstance(content, dict) else None
        table: dict[str, Alias] = {}
        for row in rows if isinstance(rows, list) else []:
            try:
                if not isinstance(row, dict):
                    raise BadRequest("it is no object")
                at = row.get("changed_at")
                alias = read_alias(
                    str(row.get("name")), members_of(row), float(at) if isinstance(at, int | float) else 0.0
                )
            except BadRequest as problem:
                log.warning("an alias is left out", why=problem.message)
                continue
            table[canonical(alias.name)] = alias
        self._table = table

    async def put(self, alias: Alias, *, anyway: bool = False) -> Alias:
        """Make or replace it; requests that come from now on take it. `anyway`: also where a target is not there (yet).

        Raises `BadRequest` for a name that is a model's, a target that is not there and one that leads back to the
        alias itself; `StoreError` where the change cannot be kept.
        """
        async with self._changing:
            alias = replace(alias, changed_at=self._clock.now())
            table = {**self._table, canonical(alias.name): alias}
            if len(table) > MOST_ALIASES:
                raise BadRequest(f"there are at most {MOST_ALIASES} aliases", "name")
            self._check_circle(alias, table)
            await self._check(alias, anyway=anyway)
            await self._keep(table)
        return alias

    async def remove(self, name: str) -> None:
        """Raises `AliasNotFound`, and `BadRequest` where another alias points at it."""
        async with self._changing:
            alias = self.get(name)
            key = canonical(alias.name)
            users = [one.name for one in self._table.values() if any(_names(one, key))]
            if users:
                raise BadRequest(f"{', '.join(users)} points at {alias.name}; change that first", "name")
            await self._keep({known: one for known, one in self._table.items() if known != key})

    async def _keep(self, table: dict[str, Alias]) -> None:
        """Remember first: a change that would be lost at the next start is refused instead."""
        text = json.dumps({"aliases": [alias_json(alias) for alias in table.values()]}, indent=1)
        try:
            await asyncio.to_thread(write_small, self._file, text)
        except OSError as error:
            kind = DiskFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else StoreError
            raise kind(f"the change cannot be kept in {FILE_NAME} of the data folder: {error.strerror}") from error
        self._table = table
        self.version += 1

    def _check_circle(self, alias: Alias, table: Mapping[str, Alias]) -> None:
        def follow(key: str, way: tuple[str, ...]) -> None:
            if key in way:
                raise BadRequest(f"that goes round in a circle: {' → '.join((*way, key))}", "targets")
            if len(way) >= DEEPEST:
                raise BadRequest(f"aliases may point at aliases {DEEPEST} deep at most", "targets")
            for target in table[key].targets:
                if target.kind is Kind.VARIANT and canonical(target.name) in table:
                    follow(canonical(target.name), (*way, key))

        follow(canonical(alias.name), ())
        for other in table.values():  # it may have become too deep for one that was there
            follow(canonical(other.name), ())

    async def _check(self, alias: Alias, *, anyway: bool) -> None:
        known = {status.address.name: status for status in self._pool.statuses()}
        try:
            names = [row.info.name for row in await self._pool.tags()]
        except NoHealthyHost as error:
            if anyway:
                return
            why = f"what it points at cannot be looked for now ({error.message}); ask again later, or `anyway`"
            raise BadRequest(why, "targets") from error
        if canonical(alias.name) in map(canonical, names) and self.find(alias.name) is None:
            raise BadRequest(f"{alias.name} is a model; take another name for the alias", "name")
        if anyway:
            return
        away = [name for name, status in known.items() if status.state not in ANSWERING]
        for target in alias.targets:
            if target.host and target.host not in known:
                raise BadRequest(f"there is no host {target.host!r}" + _near(target.host, known), "targets")
            await self._check_target(target, names, away)

    async def _check_target(self, target: Target, names: Sequence[str], away: Sequence[str]) -> None:
        if target.name == EVERYTHING or self.find(target.name) is not None and target.kind is Kind.VARIANT:
            return
        if target.kind is Kind.VARIANT:
            there = canonical(target.name) in map(canonical, names)
            if there and target.host and target.host not in away and not self._pool.offers(target.name, target.host):
                raise BadRequest(f"{target.host} does not have {target.name}", "targets")
        else:
            try:
                await self.targets.choose(Wish(target.name, target.host))
                there = True
            except ModelNotFound:
                there = False
        if not there:
            hidden = f" (not asked: {', '.join(away)}, away now)" if away else ""
            known = [*names, *(alias.name for alias in self._table.values())]
            raise BadRequest(
                f"no host has {target.name!r}{hidden}" + _near(target.name, known)
                + "; pull it first, or ask for it `anyway`", "targets",
            )  # fmt: skip


def _names(alias: Alias, key: str) -> Sequence[bool]:
    return [target.kind is Kind.VARIANT and canonical(target.name) == key for target in alias.targets]


def _near(name: str, names: Collection[str]) -> str:
    near = difflib.get_close_matches(name, names, NEAREST, 0.4)
    if near:
        return f"; nearest: {', '.join(near)}"
    return f"; there is {', '.join(sorted(names)[:8])}" if names else ""
