"""What the advisor gives an alias: measured or published, what fits, what is loaded, and for how long it holds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest

from app.comparison.alias_choice import CHOICE_SECONDS, NOTHING_SECONDS, AliasChooser, KeptChoices
from app.comparison.results import Finding, Scorecard, Severity
from app.comparison.room import Room
from app.core.errors import ModelNotFound, NoHealthyHost
from app.core.hardware import Gpus
from app.core.hosts import HostAddress, LoadedModel, ModelDetail
from app.models.catalog import CatalogFamily, CatalogVariant, CatalogView
from app.services.alias_targets import Choice, Wish
from tests.fakes import FakeClock
from tests.unit.comparison.cards import card
from tests.unit.models.test_memory_fit import llama

pytestmark = pytest.mark.anyio
GIB = 1 << 30
HERE = HostAddress("here", "http://127.0.0.1:11434")
FAR = HostAddress("far", "http://10.0.0.9:11434")


def family(title: str, weights: float, *levels: tuple[str, float], host: str = "here", kind: str = "") -> CatalogFamily:
    variants = tuple(
        CatalogVariant(
            f"{title}-{label}", label, f"{title}{label}", round(weights * bits / 8), bits, hosts=(host,),
            capabilities=("completion",),
        )
        for label, bits in levels
    )  # fmt: skip
    return CatalogFamily(title, title, kind, "", 8192, variants)


LADDER = (("F16", 16.0), ("Q8_0", 8.5), ("Q4_K_M", 4.9), ("Q2_K", 3.0))
SMALL, LARGE = family("small:1b", 1e9, *LADDER), family("large:7b", 7e9, *LADDER)


@dataclass
class Shop:
    """A catalog that a test fills."""

    view: CatalogView
    known: ModelDetail | None = None

    async def snapshot(self, *, stale_ok: bool = False) -> CatalogView:
        return self.view

    def detail(self, digest: str) -> ModelDetail | None:
        return self.known


def chooser(
    *families: CatalogFamily, free: float = 16.0, cards: tuple[Scorecard, ...] = (), here: HostAddress = HERE,
    known: ModelDetail | None = None,
) -> AliasChooser:  # fmt: skip
    addresses = {"here": here, "far": FAR}

    def address(name: str) -> HostAddress:
        if name not in addresses:
            raise NoHealthyHost({})
        return addresses[name]

    shop = Shop(CatalogView(families), known)
    return AliasChooser(shop, lambda: cards, address, Room(lambda: round(free * GIB), Gpus))  # type: ignore[arg-type]


def loaded(one: CatalogVariant) -> CatalogVariant:
    return replace(one, loaded=LoadedModel(one.name, one.digest, one.size, 0, datetime.now(UTC), 4096))


async def test_the_best_of_a_family_is_what_fits_the_memory_that_is_free():
    roomy = await chooser(LARGE, free=40)(Wish("large:7b"))
    tight = await chooser(LARGE, free=9)(Wish("large:7b-Q8_0"))
    assert roomy.names[0] in ("large:7b-F16", "large:7b-Q8_0") and roomy.why
    assert tight.names[0] == "large:7b-Q4_K_M"


async def test_where_nothing_sound_fits_nothing_is_chosen_and_it_is_said_why():
    nothing = await chooser(LARGE, free=3)(Wish("large:7b"))
    assert nothing.names == () and nothing.why


async def test_of_all_models_the_largest_that_has_a_sound_variant_which_fits():
    assert (await chooser(SMALL, LARGE, free=9)(Wish("*"))).names[0] == "large:7b-Q4_K_M"
    assert (await chooser(SMALL, LARGE, free=4.6)(Wish("*"))).names[0].startswith("small:1b")
    other = replace(LARGE, kind="abliterated")
    assert (await chooser(SMALL, other, free=40)(Wish("*"))).names[0].startswith("small:1b"), "other weights unasked"
    assert (await chooser()(Wish("*"))).names == ()


async def test_a_family_that_is_not_there_is_no_family():
    with pytest.raises(ModelNotFound):
        await chooser(SMALL)(Wish("large:7b"))
    with pytest.raises(ModelNotFound):
        await chooser(SMALL)(Wish("small:1b", host="far"))


async def test_memory_of_loaded_models_counts_as_free_for_it_can_be_had_back():
    held = replace(SMALL, variants=(loaded(replace(SMALL.variants[0], size=6 * GIB)), *SMALL.variants[1:]))
    assert (await chooser(LARGE, free=4)(Wish("large:7b"))).names == ()
    assert (await chooser(LARGE, held, free=4)(Wish("large:7b"))).names[0] == "large:7b-Q4_K_M"


async def test_what_the_host_keeps_the_context_in_counts():
    """Four slots of 4,096 tokens are 2 GiB in 16 bits and 0.6 in four."""
    plain = replace(HERE, slots=4, embedded=True)
    found, small = [
        await chooser(LARGE, free=7.5, here=one, known=llama())(Wish("large:7b"))
        for one in (plain, replace(plain, kv_type="q4_0"))
    ]
    assert found.names[0] == small.names[0] == "large:7b-Q4_K_M"
    assert "with the cache kept as q8_0" in found.why and "cache kept" not in small.why


async def test_of_another_machine_no_memory_is_known_and_none_is_counted():
    far = family("large:7b", 7e9, *LADDER, host="far")
    assert (await chooser(far, free=1)(Wish("large:7b"))).names[0] in ("large:7b-F16", "large:7b-Q8_0")


async def test_a_family_prefers_what_is_loaded_and_has_something_even_where_nothing_fits():
    two = replace(LARGE, variants=(*LARGE.variants[:2], loaded(LARGE.variants[2]), LARGE.variants[3]))
    assert (await chooser(two, free=40)(Wish("large:7b", loaded=True))).names[0] == "large:7b-Q4_K_M"
    assert (await chooser(LARGE, free=1)(Wish("large:7b", loaded=True))).names == ("large:7b-Q2_K",)


async def test_only_what_can_talk_and_is_ready_is_chosen():
    odd = replace(
        SMALL,
        variants=(
            replace(SMALL.variants[0], capabilities=("embedding",)), replace(SMALL.variants[1], remote=True),
            replace(SMALL.variants[2], state="making"), SMALL.variants[3],
        ),
    )  # fmt: skip
    assert (await chooser(odd)(Wish("small:1b", loaded=True))).names == ("small:1b-Q2_K",)


async def test_what_was_measured_is_believed_unless_it_was_refused_or_is_not_done():
    made = card()
    variants = tuple(
        CatalogVariant(f"own:{one.quantization}", one.quantization, one.digest, one.size, one.bits_per_weight,
                       hosts=("here",))
        for one in made.variants
    )  # fmt: skip
    own = CatalogFamily("own", "own", "", "", 8192, variants)
    by_card = await chooser(own, cards=(made,))(Wish("own"))
    assert by_card.names and by_card.names[0].startswith("own:"), "by the name that it has here"
    first = next(one.name for one in made.variants if f"own:{one.quantization}" == by_card.names[0])
    refused = Finding("stranger", Severity.REFUSED, "Another model.", variants=(first,))
    running = replace(made, state="running")
    for cards in ((replace(made, findings=(refused,)),), (running,), ()):
        assert (await chooser(own, cards=cards)(Wish("own"))).why != by_card.why


async def test_a_choice_holds_for_a_while_and_nothing_for_a_moment():
    clock, asked = FakeClock(), []

    async def choose(wish: Wish) -> Choice:
        asked.append(wish)
        return Choice(("a",) if wish.family == "a" else (), "why")

    kept = KeptChoices(choose, clock)
    for wish, seconds in ((Wish("a"), CHOICE_SECONDS), (Wish("b"), NOTHING_SECONDS)):
        asked.clear()
        for wait in (0.0, seconds - 0.1):
            clock.advance(wait)
            await kept(wish)
        assert len(asked) == 1
        clock.advance(0.2)
        await kept(wish)
        assert len(asked) == 2
        kept.look_again()
        await kept(wish)
        assert len(asked) == 3
