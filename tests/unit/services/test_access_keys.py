"""Keys: made once, kept as digests, found again, and what they allow."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from app.core.errors import BadRequest, StoreError
from app.services.access_keys import OWNER, AccessKeys, KeyLimits, KeyScope, KeyWish, Visitor
from app.services.key_errors import KeyLimitReached, KeyNotFound, ModelNotForKey
from app.services.key_usage import FREE_SEAT, KeyUsage
from tests.fakes import FakeClock

pytestmark = pytest.mark.anyio
BOSS = KeyWish("boss", KeyScope.ADMIN)


def opened(folder: Path, clock: FakeClock | None = None, *, token: bool = True) -> AccessKeys:
    keys = AccessKeys(folder, clock or FakeClock(), token=token)
    keys.load()
    return keys


def test_a_key_is_found_by_what_a_client_shows_also_after_a_restart_and_its_file_does_not_hold_it(
    tmp_path: Path,
) -> None:
    key, secret = opened(tmp_path).create(KeyWish("ci", models=("qwen2.5:*",), limits=KeyLimits(5, 2, 1000)))
    kept = (tmp_path / "keys.json").read_text()
    assert secret.removeprefix("loupe_") not in kept and (tmp_path / "keys.json").stat().st_mode & 0o077 == 0
    again = opened(tmp_path)
    assert again.find(secret.encode()) == key == again.list()[0]
    assert again.visitor(key.principal) == Visitor(key.principal, "ci", KeyScope.INFER, ("qwen2.5:*",))


def test_nothing_but_the_whole_key_is_found(tmp_path: Path) -> None:
    keys = opened(tmp_path)
    key, secret = keys.create(KeyWish("ci"))
    wrong = [
        b"", b"loupe_", secret[:-1].encode(), (secret + "x").encode(), secret.upper().encode(), key.digest.encode(),
        key.hint.encode(), key.id.encode(), b"' OR '1'='1", b"\xff\xfe", secret.encode() + b"\0", b"a" * (1 << 20),
    ]  # fmt: skip
    assert [keys.find(shown) for shown in wrong] == [None] * len(wrong)


def test_a_revoked_key_is_known_as_one_and_lets_nobody_in_and_the_door_stays_closed(tmp_path: Path) -> None:
    clock = FakeClock()
    keys = opened(tmp_path, clock)
    key, secret = keys.create(KeyWish("ci"))
    clock.advance(60)
    assert keys.revoke("ci").revoked_at == clock.now()
    for view in (keys, opened(tmp_path)):
        found = view.find(secret.encode())
        assert found is not None and found.revoked_at == clock.now() and view.made
        assert view.visitor(key.principal) is None
    with pytest.raises(KeyNotFound, match="revoked before"):
        keys.revoke(key.id)
    assert keys.create(KeyWish("ci"))[0].id != key.id
    assert keys.forget_all() == 2 and not keys.made and not (tmp_path / "keys.json").exists()


def test_a_key_is_told_by_its_name_and_other_flows_as_they_are(tmp_path: Path) -> None:
    keys = opened(tmp_path)
    key, _ = keys.create(KeyWish("ci"))
    assert [keys.named(flow) for flow in (key.principal, "local@::1", "key:nobody")] == [
        "key ci",
        "local@::1",
        "key:nobody",
    ]


def test_without_a_token_the_first_key_is_an_administrators(tmp_path: Path) -> None:
    keys = opened(tmp_path, token=False)
    with pytest.raises(BadRequest, match="scope admin"):
        keys.create(KeyWish("ci"))
    keys.create(BOSS)
    keys.create(KeyWish("ci"))


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        (KeyWish(""), "name"),
        (KeyWish("a" * 65), "name"),
        (KeyWish("a\nb"), "name"),
        (KeyWish("<script>"), "name"),
        (KeyWish("ci", models=("a b",)), "models"),
        (KeyWish("ci", models=("",)), "models"),
        (KeyWish("ci", KeyScope.ADMIN, ("a",)), "models"),
        (KeyWish("ci", limits=KeyLimits(per_minute=0)), "per_minute"),
        (KeyWish("ci", limits=KeyLimits(at_once=-1)), "at_once"),
        (KeyWish("taken"), "name"),
    ],
)
def test_a_wish_that_cannot_be_met_names_what_is_wrong(tmp_path: Path, wish: KeyWish, field: str) -> None:
    keys = opened(tmp_path)
    keys.create(KeyWish("taken"))
    with pytest.raises(BadRequest) as refused:
        keys.create(wish)
    assert refused.value.field == field and len(keys.list()) == 1


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"version":1}',
        b'{"version":2,"keys":[]}',
        b'{"version":1,"keys":[{"id":"a"}]}',
        b"\xff",
    ],
)
def test_a_damaged_file_is_no_file_without_keys(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "keys.json").write_bytes(damage)
    with pytest.raises(StoreError, match="keys.json"):
        opened(tmp_path)


@pytest.mark.parametrize("field", ["id", "scope", "models", "limits", "sha256", "created_at", "revoked_at"])
def test_a_row_of_another_form_is_damage(tmp_path: Path, field: str) -> None:
    opened(tmp_path).create(KeyWish("ci"))
    told = json.loads((tmp_path / "keys.json").read_text())
    told["keys"][0][field] = {"x": True}
    (tmp_path / "keys.json").write_text(json.dumps(told))
    if field == "limits":
        told["keys"][0][field] = {"per_minute": "5"}
        (tmp_path / "keys.json").write_text(json.dumps(told))
    with pytest.raises(StoreError):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("patterns", "may", "may_not"),
    [
        ((), ("anything", "a/b:c"), ()),
        (
            ("llama3.2",),
            ("llama3.2", "llama3.2:latest", "LLAMA3.2", "registry.ollama.ai/library/llama3.2"),
            ("llama3.2:1b", "x/llama3.2", ""),
        ),
        (("qwen2.5:*",), ("qwen2.5:7b", "qwen2.5", " qwen2.5:7b"), ("qwen2.5-coder:7b", "evil/qwen2.5:7b")),
        (("hf.co/me/*", "a:b"), ("hf.co/me/x:Q8_0", "a:b"), ("hf.co/you/x:Q8_0", "a", "hf.co/me")),
        (("a.b",), ("a.b",), ("axb",)),
    ],
)
def test_a_key_may_use_what_its_names_and_patterns_say(
    patterns: tuple[str, ...], may: tuple[str, ...], may_not: tuple[str, ...]
) -> None:
    visitor = Visitor("key:1", "ci", KeyScope.INFER, patterns)
    assert [model for model in may if not visitor.may_use(model)] == []
    assert [model for model in may_not if visitor.may_use(model)] == []


def test_each_scope_covers_those_before_it() -> None:
    scopes = list(KeyScope)
    for place, scope in enumerate(scopes):
        assert [scope.covers(needed) for needed in scopes] == [rank <= place for rank in range(3)]


# Limits


class Meter:
    """One key and its figures."""

    def __init__(self, folder: Path, **limits: int) -> None:
        self.folder, self.clock = folder, FakeClock()
        self.keys = opened(folder, self.clock)
        self.key, _ = self.keys.create(KeyWish("ci", models=("m",), limits=KeyLimits(**limits)))
        self.usage = KeyUsage(self.keys, folder, self.clock)

    def ask(self, model: str = "m") -> None:
        with self.usage.enter(self.key.principal, model):
            pass

    def refused(self) -> float:
        """Seconds of Retry-After."""
        with pytest.raises(KeyLimitReached) as error:
            self.usage.enter(self.key.principal, "m")
        assert not self.usage.may_enter(self.key.principal, "m")
        assert error.value.retry_after is not None
        return error.value.retry_after


def test_the_owner_has_no_limits_and_no_figures(tmp_path: Path) -> None:
    meter = Meter(tmp_path)
    assert meter.usage.enter(OWNER.principal, "m") is FREE_SEAT and meter.usage.may_enter(OWNER.principal, "m")
    meter.usage.charge(OWNER.principal, 9)
    assert [view.usage.requests for view in meter.usage.views()] == [0]


def test_so_many_a_minute_and_no_more_in_any_minute(tmp_path: Path) -> None:
    meter = Meter(tmp_path, per_minute=2)
    meter.ask()
    meter.clock.advance(20)
    meter.ask()
    assert meter.refused() == 40
    meter.clock.advance(40)
    meter.ask()
    assert meter.refused() == 20
    assert meter.usage.view(meter.key).usage.requests == 3


def test_so_many_at_once_and_a_seat_is_given_back_once(tmp_path: Path) -> None:
    meter = Meter(tmp_path, at_once=1)
    seat = meter.usage.enter(meter.key.principal, "m")
    assert meter.refused() == 1
    for _ in range(2):
        seat.__exit__()
    meter.usage.enter(meter.key.principal, "m")
    assert meter.refused() == 1 and meter.usage.view(meter.key).usage.running == 1


def test_tokens_of_the_day_end_with_it(tmp_path: Path) -> None:
    meter = Meter(tmp_path, tokens_a_day=100)
    meter.usage.charge(meter.key.principal, 99)
    meter.ask()
    meter.usage.charge(meter.key.principal, 50)
    left = 86_400 - meter.clock.now() % 86_400
    assert meter.refused() == left
    meter.clock.advance(left)
    meter.ask()
    usage = meter.usage.view(meter.key).usage
    assert (usage.requests_today, usage.tokens_today, usage.requests, usage.tokens) == (1, 0, 2, 149)


def test_another_model_is_refused_and_not_counted(tmp_path: Path) -> None:
    meter = Meter(tmp_path)
    with pytest.raises(ModelNotForKey, match="'other' not found"):
        meter.ask("other")
    assert not meter.usage.may_enter(meter.key.principal, "other")
    assert meter.usage.view(meter.key).usage.requests == 0


async def test_a_key_that_is_revoked_while_its_request_waits_is_not_let_on(tmp_path: Path) -> None:
    meter = Meter(tmp_path)
    meter.keys.revoke("ci")
    assert not meter.usage.may_enter(meter.key.principal, "m")


async def test_the_figures_of_the_day_survive_a_restart(tmp_path: Path) -> None:
    meter = Meter(tmp_path, tokens_a_day=100)
    await meter.usage.start()
    meter.ask()
    meter.usage.charge(meter.key.principal, 100)
    await meter.usage.stop()
    meter.usage = KeyUsage(meter.keys, tmp_path, meter.clock)
    await meter.usage.start()
    meter.refused()
    usage = meter.usage.view(meter.key).usage
    assert (usage.requests, usage.tokens_today, usage.last_used) == (1, 100, meter.clock.now())
    await meter.usage.stop()


async def test_the_figures_are_written_while_it_runs_too(tmp_path: Path) -> None:
    meter = Meter(tmp_path, tokens_a_day=100)
    await meter.usage.start()
    meter.ask()
    meter.usage.charge(meter.key.principal, 100)
    async with asyncio.timeout(30):
        while not (tmp_path / "key-usage.json").exists():
            await asyncio.sleep(0.02)
    after = KeyUsage(meter.keys, tmp_path, meter.clock)  # of a process that comes after a kill
    after.load()
    with pytest.raises(KeyLimitReached):
        after.enter(meter.key.principal, "m")
    await meter.usage.stop()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"keys": []}',
        '{"keys": {"key:1": [1]}}',
        '{"keys": {"key:1": 5}}',
        '{"keys": {"key:1": [NaN, 1, 1, Infinity, 1, 1]}}',
    ],
)
async def test_figures_that_cannot_be_read_begin_anew(tmp_path: Path, content: str) -> None:
    (tmp_path / "key-usage.json").write_text(content)
    meter = Meter(tmp_path)
    meter.usage.load()
    meter.ask()
