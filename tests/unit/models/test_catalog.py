"""The catalog over fake hosts that say what a real Ollama was recorded to say."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from app.core.errors import HostUnreachable, ModelNotFound
from app.core.generation import GenerationRequest
from app.core.hosts import HostAddress, HostState, HostStatus, ModelDetail
from app.core.making import STARTER_FAMILY, STARTER_PROVENANCE, STARTER_REFERENCE
from app.models.catalog import Catalog, parse_parameters
from app.runtime.starter import LADDER
from app.wire.answers import parse_show, parse_tags
from tests.fakes import FakeBackend, FakeClock, loaded_model, settle
from tests.recordings import recording

pytestmark = pytest.mark.anyio
Q4_WEIGHTS = "27e1496775b07d69415cc5b6658f448ded3829cd2d769473cf2781e77d020b19"
OTHER_WEIGHTS = "a269e3181fcbb25046f99f64ba8d3c159165b211c2ff4ffca7ba1bb219d2ccd0"


def body(name: str) -> bytes:
    return json.dumps(recording(name).body).encode()


class RecordedHost(FakeBackend):
    """Lists and shows what was recorded; counts how often it was asked to show."""

    def __init__(self, name: str = "one") -> None:
        super().__init__(name, models=parse_tags(body("tags")))
        self.loaded_list = []
        self.shown: list[str] = []
        self.broken: set[str] = set()

    async def show(self, model: str) -> ModelDetail:
        self.shown.append(model)
        if model in self.broken:
            raise ModelNotFound(model)
        shown = parse_show(body("show_q4_K_M" if "q4_K_M" in model else "show"))
        return replace(shown, details=next(m.details for m in self.model_list if m.name == model))


class Fleet:
    def __init__(self, *hosts: FakeBackend) -> None:
        self.hosts = {host.address.name: host for host in hosts}
        self.states = dict.fromkeys(self.hosts, HostState.HEALTHY)

    def statuses(self) -> tuple[HostStatus, ...]:
        return tuple(HostStatus(HostAddress(name, ""), state) for name, state in self.states.items())

    def backend(self, host: str) -> FakeBackend:
        return self.hosts[host]


async def nothing(request: GenerationRequest) -> None:
    return None


def catalog_of(*hosts: FakeBackend, **more: Any) -> tuple[Catalog, FakeClock]:
    clock = FakeClock()
    return Catalog(Fleet(*hosts), more.pop("run", nothing), clock=clock, **more), clock


async def test_the_quantizations_of_the_recorded_model_are_one_family_with_the_reference_first() -> None:
    catalog, _ = catalog_of(RecordedHost())
    view = await catalog.snapshot()
    family = next(f for f in view.families if any(v.name == STARTER_REFERENCE for v in f.variants))
    labels = [v.label for v in family.variants]
    assert labels[0] == "F16" and "Q4_K_M" in labels
    assert [v.reference for v in family.variants] == [True] + [False] * (len(labels) - 1)
    assert (family.parameter_size, family.context_length, family.provenance) == ("134.52M", 8192, STARTER_PROVENANCE)
    assert family.variants[0].defaults == {"stop": ["<|im_start|>", "<|im_end|>"]}


async def test_two_names_of_one_digest_are_one_variant_that_either_name_finds() -> None:
    catalog, _ = catalog_of(RecordedHost())
    view = await catalog.snapshot()
    found = view.find("registry.ollama.ai/library/ALIAS")
    assert found is not None and found == view.find(STARTER_REFERENCE)
    assert view.find("nothing:here") is None


async def test_details_are_asked_once_per_digest_and_lists_at_most_once_a_second() -> None:
    host = RecordedHost()
    catalog, clock = catalog_of(host)
    await catalog.snapshot()
    asked = len(host.shown)
    assert asked == len({info.digest for info in host.model_list})
    host.loaded_list = [loaded_model(STARTER_REFERENCE, host.model_list[0].digest)]
    assert all(v.loaded is None for f in (await catalog.snapshot()).families for v in f.variants)
    clock.advance(1.1)
    assert any(v.loaded for f in (await catalog.snapshot()).families for v in f.variants)
    assert len(host.shown) == asked


async def test_weights_name_the_variant_whose_host_shows_them_a_loaded_one_first() -> None:
    """By the recorded line `FROM <models>/blobs/sha256-…` of what a real Ollama shows."""
    host = RecordedHost()
    catalog, clock = catalog_of(host)
    assert catalog.with_weights(Q4_WEIGHTS) == ""  # nobody has looked yet
    view = await catalog.snapshot()
    named = view.find(catalog.with_weights(Q4_WEIGHTS))
    assert named is not None and named[1].label == "Q4_K_M" and catalog.with_weights("0" * 64) == ""
    shared = sorted(v.name for f in view.families for v in f.variants if "q4_K_M" not in v.name)
    assert len(shared) > 1 and catalog.with_weights(OTHER_WEIGHTS) in shared
    for name in shared:
        digest = next(info.digest for info in host.model_list if info.name == name)
        host.loaded_list = [loaded_model(name, digest)]
        clock.advance(1.1)
        await catalog.snapshot()
        assert catalog.with_weights(OTHER_WEIGHTS) == name


async def test_a_page_in_a_hurry_gets_the_last_view_at_once_and_the_next_one_is_new() -> None:
    host = RecordedHost()
    catalog, clock = catalog_of(host)
    before = await catalog.snapshot(stale_ok=True)
    assert before.families
    host.model_list = []
    clock.advance(2)
    assert await catalog.snapshot(stale_ok=True) is before
    await settle()
    assert (await catalog.snapshot(stale_ok=True)).families == ()
    host.model_list = list(parse_tags(body("tags")))
    clock.advance(11)
    assert (await catalog.snapshot(stale_ok=True)).families


async def test_a_host_that_fails_is_named_and_the_others_are_still_listed() -> None:
    good, bad = RecordedHost("good"), RecordedHost("bad")
    bad.down = HostUnreachable("bad")
    catalog, _ = catalog_of(good, bad)
    view = await catalog.snapshot()
    assert view.families and any("bad does not answer" in problem for problem in view.problems)


async def test_while_no_host_answers_the_models_last_seen_stay_and_none_is_loaded() -> None:
    host = RecordedHost()
    host.loaded_list = [loaded_model(STARTER_REFERENCE, host.model_list[0].digest)]
    catalog, clock = catalog_of(host)
    before = await catalog.snapshot()
    host.down = HostUnreachable("one")
    clock.advance(2)
    after = await catalog.snapshot()
    assert [f.title for f in after.families] == [f.title for f in before.families] != []
    assert not any(v.loaded for f in after.families for v in f.variants) and after.problems
    host.down, host.model_list = None, []
    clock.advance(2)
    assert (await catalog.snapshot()).families == ()


async def test_a_model_that_cannot_be_shown_is_listed_with_what_is_known() -> None:
    host = RecordedHost()
    host.model_list = host.model_list[:1]
    host.broken = {host.model_list[0].name}
    catalog, _ = catalog_of(host)
    view = await catalog.snapshot()
    assert view.problems and view.find(host.model_list[0].name) is not None


async def test_one_name_with_two_contents_is_a_conflict() -> None:
    one, two = RecordedHost("one"), RecordedHost("two")
    one.model_list = [m for m in one.model_list if m.name == STARTER_REFERENCE]
    two.model_list = [replace(one.model_list[0], digest="e" * 64)]
    catalog, _ = catalog_of(one, two)
    view = await catalog.snapshot()
    variants = [v for f in view.families for v in f.variants]
    assert [v.conflict for v in variants] == [True, True]


async def test_what_is_being_made_stands_in_its_family_before_it_is_there() -> None:
    host = RecordedHost()
    host.model_list = [m for m in host.model_list if m.name == STARTER_REFERENCE]
    making = {STARTER_REFERENCE: None, "smollm2:135m-instruct-q2_K": None, "smollm2:135m-instruct-q8_0": 0.4}
    catalog, _ = catalog_of(host, making=lambda: making)
    (family,) = (await catalog.snapshot()).families
    assert [(v.label, v.state, v.progress) for v in family.variants] == [
        ("F16", "ready", None), ("Q2_K", "waiting", None), ("Q8_0", "making", 0.4),
    ]  # fmt: skip


async def test_with_nothing_there_yet_what_is_being_made_is_a_family_of_its_own() -> None:
    host = RecordedHost()
    host.model_list = []
    catalog, _ = catalog_of(host, making=lambda: {STARTER_REFERENCE: 0.1})
    (family,) = (await catalog.snapshot()).families
    assert (family.title, family.provenance) == ("smollm2:135m-instruct", STARTER_PROVENANCE)


async def test_load_and_unload_go_the_way_of_every_request_and_make_the_next_look_fresh() -> None:
    host, seen = RecordedHost(), []

    async def run(request: GenerationRequest) -> None:
        seen.append(request.body)

    catalog, _ = catalog_of(host, run=run)
    await catalog.snapshot()
    await catalog.load("m")
    await catalog.unload("m")
    assert seen == [{"model": "m", "stream": True}, {"model": "m", "stream": True, "keep_alive": 0}]
    host.model_list = []
    assert (await catalog.snapshot()).families == ()


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        ("", {}),
        ('stop                           "<|im_end|>"', {"stop": ["<|im_end|>"]}),
        ("temperature                    0.2\nnum_ctx 4096", {"temperature": 0.2, "num_ctx": 4096}),
        ('stop "a"\nstop "b"\nodd', {"stop": ["a", "b"]}),
        ("use_mmap true\nname nonsense(", {"use_mmap": True, "name": "nonsense("}),
    ],
)
def test_the_parameters_text_is_read_line_by_line(text: str, parameters: dict[str, Any]) -> None:
    assert parse_parameters(text) == parameters


def test_the_family_that_pages_announce_is_the_one_that_is_made() -> None:
    assert tuple(step.name for step in LADDER) == STARTER_FAMILY
