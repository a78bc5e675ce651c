"""What the cache tells of itself: lists, searches, one answer, deletions, an export, its age and what it saved."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from app.core.errors import BadRequest, CacheOff
from app.core.generation import GenerationRequest
from app.services import response_cache
from app.services.cached_answer import QUESTION_LIMIT, Origin, question_of
from app.services.response_cache import ResponseCache
from tests.fakes import DIGEST, MODEL, FakeClock, answer, chat

pytestmark = pytest.mark.anyio
OTHER = "smollm2:135m-instruct-q4_0"


class NowClock(FakeClock):
    """The database stamps its rows by the system's clock."""

    def __init__(self) -> None:
        super().__init__()
        self.epoch = time.time()


@pytest.fixture
async def clock() -> FakeClock:
    return NowClock()


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
async def cache(folder, clock):
    cache = ResponseCache(folder, 64 << 20, clock)
    await cache.start()
    yield cache
    await cache.close()


async def put(cache: ResponseCache, key: str, question: str = "", *, model: str = MODEL, **more: str) -> None:
    origin = Origin(model, more.pop("digest", DIGEST), question=question, **more)
    assert await cache.put(key, answer(f"About {key}", "."), origin, seconds=2.0)


async def keys(cache: ResponseCache, **asked: object) -> list[str]:
    page = await cache.entries("local", **asked)
    return [entry.key for entry in page.entries]


async def test_entries_are_listed_newest_first_and_in_pages(cache, monkeypatch):
    monkeypatch.setattr(response_cache, "BATCH", 3)
    for number in range(10):
        await put(cache, f"k{number}", f"Question {number}")
    listed, before = [], ""
    while True:
        page = await cache.entries("local", before=before, limit=4)
        listed += [entry.key for entry in page.entries]
        before = page.next
        if not before:
            break
    assert listed == [f"k{number}" for number in reversed(range(10))]
    [first] = (await cache.entries("local", limit=1)).entries
    assert (first.model, first.digest, first.question, first.output_tokens) == (MODEL, DIGEST, "Question 9", 2)
    assert (first.seconds, first.principal, first.endpoint) == (2.0, "local", "chat")
    assert first.size > 50


async def test_a_list_is_searched_by_question_in_any_case_and_by_model(cache):
    await put(cache, "france", "Name the capital of FRANCE.")
    await put(cache, "spain", "Name the capital of Spain.", model=OTHER)
    await put(cache, "street", "Straße")
    assert await keys(cache, text="france") == ["france"]
    assert await keys(cache, text="STRASSE") == ["street"]
    assert await keys(cache, text="capital") == ["spain", "france"]
    assert await keys(cache, text="q4_0") == ["spain"]
    assert await keys(cache, model=OTHER) == ["spain"]
    assert await keys(cache, text="nothing of this") == []


async def test_a_place_that_is_none_is_refused(cache):
    with pytest.raises(BadRequest):
        await cache.entries("local", before="yesterday")


async def test_one_answer_is_opened_and_deleted_and_belongs_to_its_principal(cache):
    await put(cache, "mine", "My question")
    await put(cache, "theirs", principal="somebody")
    found = await cache.open("mine", "local")
    assert (found.text, found.done_reason, found.entry.question) == ("About mine.", "stop", "My question")
    assert await cache.open("theirs", "local") is None
    assert not await cache.delete("theirs", "local")
    assert await cache.delete("mine", "local")
    assert not await cache.delete("mine", "local")
    assert cache.get("mine") is None
    assert cache.get("theirs") is not None
    assert await keys(cache) == []


async def test_a_model_is_purged_and_the_others_stay(cache, monkeypatch):
    monkeypatch.setattr(response_cache, "BATCH", 2)
    for number in range(5):
        await put(cache, f"a{number}")
        await put(cache, f"b{number}", model=OTHER)
    assert await cache.purge("local", model=OTHER) == 5
    assert cache.get("b0") is None
    assert await keys(cache) == [f"a{number}" for number in reversed(range(5))]


async def test_a_model_is_purged_by_whatever_spelling_it_was_asked(cache):
    for number, name in enumerate(("library/small", "small:latest", "SMALL", "smaller")):
        await put(cache, f"k{number}", model=name)
    assert await keys(cache, model="small") == ["k2", "k1", "k0"]
    assert await cache.purge("local", model="small:latest") == 3
    assert await keys(cache) == ["k3"]


async def test_entries_of_content_that_is_gone_die_in_memory_and_on_disk(cache):
    await put(cache, "old", digest="1" * 64)
    await put(cache, "new", digest="2" * 64)
    cache.forget_digest("1" * 64)
    await cache.stats()  # waits for what was to be written before it
    assert cache.get("old") is None
    assert await keys(cache) == ["new"]


async def test_everything_is_exported(cache):
    for number in range(3):
        await put(cache, f"k{number}", f"Question {number}")
    told = [(one.entry.question, one.text) async for one in cache.export("local")]
    assert told == [(f"Question {number}", f"About k{number}.") for number in (2, 1, 0)]


async def test_ages_are_told_in_bands_that_add_up(cache, clock):
    await put(cache, "a")
    await put(cache, "b")
    clock.advance(7200)
    stats = await cache.stats()
    assert [(band.upto, band.entries) for band in stats.ages if band.entries] == [(86_400.0, 2)]
    assert sum(band.entries for band in stats.ages) == stats.entries == 2
    clock.advance(365 * 86_400)
    assert [(band.upto, band.entries) for band in (await cache.stats()).ages if band.entries] == [(None, 2)]


async def test_what_was_saved_is_counted_over_restarts(cache, folder, clock):
    await put(cache, "k")
    for _ in range(3):
        assert cache.get("k") is not None
    assert cache.get("none") is None
    cache.joined()
    began = (await cache.stats()).since
    await cache.close()
    clock.advance(100)
    again = ResponseCache(folder, 64 << 20, clock)
    await again.start()
    assert again.get("k") is not None
    stats = await again.stats()
    assert (stats.hits, stats.misses, stats.joined, stats.stored) == (4, 1, 1, 1)
    assert (stats.seconds_saved, stats.tokens_saved, stats.since) == (8.0, 8, began)
    assert stats.hit_rate == 0.8
    await again.close()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"hits": -1, "misses": "many", "since": 1e300, "tokens_saved": true}']
)
async def test_totals_that_cannot_be_read_count_nothing(folder, clock, text):
    folder.mkdir(mode=0o700)
    (folder / "totals.json").write_text(text)
    cache = ResponseCache(folder, 64 << 20, clock)
    await cache.start()
    stats = await cache.stats()
    assert (stats.hits, stats.misses, stats.tokens_saved, stats.since) == (0, 0, 0, clock.now())
    await cache.close()


async def test_the_totals_are_saved_while_it_runs(cache, folder, clock):
    await put(cache, "k")
    clock.advance(30)
    assert cache.get("k") is not None
    await cache.stats()  # waits for what was to be written before it
    assert json.loads((folder / "totals.json").read_text())["hits"] == 1


async def test_a_cache_that_is_off_says_so_to_who_wants_to_change_it(tmp_path, clock):
    (tmp_path / "cache").write_text("in the way")
    cache = ResponseCache(tmp_path / "cache", 64 << 20, clock)
    await cache.start()
    with pytest.raises(CacheOff, match="FileExistsError") as told:
        await cache.clear()
    assert str(tmp_path) not in told.value.message
    assert told.value.retry_after == 60
    stats = await cache.stats()
    assert (stats.entries, stats.on_again_in) == (0, 60)
    await cache.close()


async def test_no_bytes_is_no_cache_neither_in_memory(tmp_path, clock):
    cache = ResponseCache(tmp_path / "cache", 0, clock)
    await cache.start()
    assert not await cache.put("k", answer("Paris"), Origin(MODEL), seconds=1)
    assert cache.get("k") is None
    stats = await cache.stats()
    assert stats.off == "turned off: LOUPE_CACHE_BYTES is 0"
    assert stats.on_again_in is None
    assert not (tmp_path / "cache").exists()
    await cache.close()


@pytest.mark.parametrize(
    ("request_", "question"),
    [
        (chat("What now?"), "What now?"),
        (GenerationRequest("chat", {"messages": [{"role": "user", "content": "One"}, {"role": "assistant"}]}), "One"),
        (GenerationRequest("chat", {"messages": [{"role": "system", "content": "Be brief"}, "no turn"]}), ""),
        (GenerationRequest("generate", {"prompt": "Once upon"}), "Once upon"),
        (GenerationRequest("generate", {"prompt": 7}), ""),
        (chat("x" * 5000), "x" * QUESTION_LIMIT),
    ],
)
def test_the_question_is_the_last_thing_the_user_said(request_, question):
    assert question_of(request_) == question
