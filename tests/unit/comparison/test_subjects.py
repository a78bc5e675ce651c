"""What is to be compared: families, variants by name or level, one host, one reference."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.comparison.plan import Asked, Kind, steps_of
from app.comparison.subjects import choose, look, reference_of
from app.core.errors import BadRequest, ModelNotFound
from app.models.catalog import CatalogFamily, CatalogVariant, CatalogView
from tests.fakes import FakeBackend, model_info

pytestmark = pytest.mark.anyio
FULL, HALF, SMALL = (
    CatalogVariant(f"m:1b-{tag}", label, digest=tag * 8, hosts=("one",))
    for tag, label in (("fp16", "F16"), ("q8_0", "Q8_0"), ("q4_K_M", "Q4_K_M"))
)
OTHER = CatalogVariant("n:1b-q8_0", "Q8_0", digest="n" * 8, hosts=("one", "two"))


def view(*variants: CatalogVariant) -> CatalogView:
    family = CatalogFamily("k", "m:1b", "", "1B", 4096, variants or (FULL, HALF, SMALL))
    return CatalogView((family, CatalogFamily("l", "n:1b", "", "1B", 4096, (OTHER,))))


@pytest.mark.parametrize("name", ["m:1b-q4_K_M", "m:1b", "M:1B-q8_0", "k"])
def test_any_name_of_a_family_means_all_of_it(name: str) -> None:
    chosen = choose(Asked((name,)), view())
    assert (chosen.family, chosen.host) == ("m:1b", "one")
    assert {one.casefold() for one in chosen.names} == {"m:1b-fp16", "m:1b-q8_0", "m:1b-q4_k_m"}


def test_variants_may_be_named_by_their_level() -> None:
    assert set(choose(Asked(("m:1b", "Q8_0")), view()).names) == {"m:1b-fp16", "m:1b-q8_0"}
    assert set(choose(Asked(("m:1b-q4_K_M", "q8_0")), view()).names) == {"m:1b-q4_K_M", "m:1b-q8_0"}


def test_a_reference_of_another_family_is_taken_along() -> None:
    assert "n:1b-q8_0" in choose(Asked(("m:1b-q8_0",), reference="n:1b-q8_0"), view()).names


def test_two_names_of_one_file_are_nothing_to_compare() -> None:
    twin = replace(HALF, aliases=("m:latest",))
    with pytest.raises(BadRequest, match="one and the same file under several names"):
        choose(Asked(("m:1b-q8_0", "m:latest")), view(FULL, twin))


def test_a_family_of_one_says_how_to_get_another() -> None:
    with pytest.raises(BadRequest, match="models make n:1b-q8_0"):
        choose(Asked(("n:1b-q8_0",)), view())


def test_all_of_it_has_to_be_on_one_host() -> None:
    elsewhere = replace(HALF, hosts=("two",))
    with pytest.raises(BadRequest, match="m:1b-q8_0 is not on one"):
        choose(Asked(("m:1b-fp16", "m:1b-q8_0")), view(FULL, elsewhere, SMALL))
    assert set(choose(Asked(("m:1b-fp16",)), view(FULL, elsewhere, SMALL)).names) == {"m:1b-fp16", "m:1b-q4_K_M"}


def test_what_is_not_there_is_said_to_be_not_there() -> None:
    with pytest.raises(ModelNotFound):
        choose(Asked(("nobody",)), view())
    with pytest.raises(BadRequest, match="still being made"):
        choose(Asked(("m:1b-q8_0",)), view(FULL, replace(HALF, state="making")))
    with pytest.raises(BadRequest, match="computed elsewhere"):
        choose(Asked(("m:1b-q8_0",)), view(FULL, replace(HALF, remote=True)))


async def test_names_of_one_digest_are_one_subject_and_the_reference_is_the_one_asked_for() -> None:
    infos = [model_info("m:1b-q8_0", "a" * 64), model_info("m:1b-fp16", "b" * 64), model_info("m:copy", "a" * 64)]
    backend = FakeBackend(models=infos)
    subjects = await look(backend, ("m:1b-q8_0", "m:copy", "m:1b-fp16"))
    assert [one.names for one in subjects] == [("m:1b-fp16",), ("m:1b-q8_0", "m:copy")]
    assert (reference_of(subjects), reference_of(subjects, "m:copy")) == (0, 1)
    with pytest.raises(ModelNotFound):
        await look(backend, ("m:gone",))


@pytest.mark.parametrize(
    "asked",
    [Asked(()), Asked(("  ",)), Asked(("m",), depth="long"), Asked(("m",), context=10), Asked(("m",), use="poetry")],
)
def test_what_makes_no_sense_is_refused(asked: Asked) -> None:
    with pytest.raises(BadRequest):
        asked.checked()


def test_speed_goes_to_and_fro_and_quality_follows_the_reference() -> None:
    steps = steps_of("quick", 3, 0)
    assert [step.variant for step in steps if step.kind is Kind.SPEED] == [1, 2, 0, 0, 2, 1]
    kinds = [(step.kind, step.variant) for step in steps]
    assert kinds.index((Kind.ANSWERS, 0)) < kinds.index((Kind.QUALITY, 2))
    changes = sum(one.variant != two.variant for one, two in zip(steps, steps[1:], strict=False))
    assert changes == 4, "each but the reference is visited twice, and it answers between its own two visits"
    assert not any(step.kind is Kind.TASKS for step in steps)
    deep = steps_of("deep", 2, 1)
    assert [step.variant for step in deep if step.kind is Kind.TASKS] == [1, 0]
    assert len({step.key for step in deep}) == len(deep)
