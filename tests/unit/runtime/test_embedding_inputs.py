"""How a text is fitted into a model's context, with a tokenizer that makes a token of each word."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from app.core.errors import BadRequest
from app.runtime.embedding_inputs import NO_SHORTER, NOTHING_LEFT, TOO_LONG, EmbeddingInputs

pytestmark = pytest.mark.anyio


@dataclass
class Words:
    """Stands in for a worker; `read` is how many characters each request had it look at."""

    read: list[int] = field(default_factory=list)
    known: list[str] = field(default_factory=list)

    async def tokenize(self, text: str) -> list[int]:
        self.read.append(len(text))
        return [self._number(word) for word in text.split()]

    async def detokenize(self, tokens: list[int]) -> str:
        return " ".join(self.known[token - 1000] for token in tokens)

    def _number(self, word: str) -> int:
        if word not in self.known:
            self.known.append(word)
        return 1000 + self.known.index(word)


@dataclass
class Facts:
    numbers: dict[str, int]

    def number(self, key: str) -> int | None:
        return self.numbers.get(key)


@dataclass
class Model:
    trained_context: int = 20
    gguf: Any = None


def inputs(num_ctx: int = 0, model: Model | None = None) -> tuple[EmbeddingInputs, Words]:
    worker = Words()
    return EmbeddingInputs(cast(Any, model or Model()), cast(Any, worker), num_ctx), worker


def words(count: int) -> str:
    return " ".join(f"word-{number}" for number in range(count))


async def test_a_text_that_fits_is_left_as_it_is_with_its_spaces():
    fitter, _ = inputs()
    text = words(18).replace(" ", "   ")
    assert await fitter.fitting(text) == text
    assert await fitter.checked(text) == text


async def test_a_longer_text_keeps_what_the_context_holds_beside_the_two_marks():
    fitter, _ = inputs()
    assert await fitter.fitting(words(19)) == words(18)
    with pytest.raises(BadRequest, match=TOO_LONG):
        await fitter.checked(words(19))


@pytest.mark.parametrize(("num_ctx", "left"), [(5, 3), (3, 1), (999, 18), (0, 18), (-7, 18)])
async def test_the_context_asked_for_counts_up_to_the_models_own(num_ctx: int, left: int):
    assert await inputs(num_ctx)[0].fitting(words(30)) == words(left)


@pytest.mark.parametrize("num_ctx", [1, 2])
async def test_a_context_with_no_room_for_a_word_is_an_error_whether_cut_or_not(num_ctx: int):
    fitter, _ = inputs(num_ctx)
    for attempt in (fitter.fitting, fitter.checked):
        with pytest.raises(BadRequest, match=NOTHING_LEFT):
            await attempt(words(30))


async def test_marks_that_are_in_the_text_already_need_no_room():
    gguf = Facts({"tokenizer.ggml.bos_token_id": 1000, "tokenizer.ggml.eos_token_id": 1001})
    fitter, _ = inputs(model=Model(gguf=gguf))
    inside = "begin " + words(18) + " end"  # the first word's number is 1000; that of "end" is not 1001
    assert await fitter.fitting(inside) == " ".join(inside.split()[:19])


async def test_a_batch_that_was_too_small_cuts_once_more_and_says_where_that_does_not_help():
    fitter, _ = inputs()
    assert await fitter.cut_to(words(15), 10) == words(8)
    with pytest.raises(BadRequest, match=NO_SHORTER):
        await fitter.cut_to(words(15), 2048)
    with pytest.raises(BadRequest, match=NO_SHORTER):
        await fitter.cut_to(words(15), 0)


async def test_of_forty_megabytes_a_few_kilobytes_are_read():
    fitter, worker = inputs()
    text = words(40) + " and so on" * 4_000_000
    assert await fitter.fitting(text) == words(18)
    with pytest.raises(BadRequest, match=TOO_LONG):
        await fitter.checked(text)
    with pytest.raises(BadRequest, match=TOO_LONG):
        await fitter.sendable(text)
    assert max(worker.read) < 20_000


async def test_a_text_with_few_words_in_much_space_is_read_to_its_end():
    fitter, worker = inputs()
    text = " " * 1_000_000 + words(19)
    assert await fitter.fitting(text) == words(18)
    assert worker.read[-1] == len(text)


async def test_a_text_too_short_to_be_too_long_is_not_looked_at():
    fitter, worker = inputs(model=Model(trained_context=512))
    short = "an ASCII character is a token at most"
    assert await fitter.fitting(short) == await fitter.checked(short) == await fitter.sendable(short) == short
    assert worker.read == []
    await fitter.fitting("é" * 50)  # these may come apart
    assert worker.read == [50]


async def test_the_legacy_route_leaves_the_last_two_tokens_to_the_worker():
    fitter, _ = inputs()
    assert await fitter.sendable(words(20)) == words(20)
    with pytest.raises(BadRequest, match=TOO_LONG):
        await fitter.sendable(words(21))
