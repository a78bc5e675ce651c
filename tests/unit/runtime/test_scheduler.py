"""Which models are loaded: sharing, eviction, budget, reloads, the line, keep_alive, and leaving."""

from __future__ import annotations

import pytest

from app.core.errors import Draining, ModelLoadFailed, ModelTooLarge, QueueFull
from app.runtime.memory_budget import PROCESS
from tests.scheduling import GIB, Machine, a_model, bench, settle

pytestmark = pytest.mark.anyio


async def test_requests_for_one_model_share_its_load_and_its_worker():
    async with bench(Machine(held=True)) as b:
        first, second = await b.ask("a"), await b.ask("a")
        assert list(b.machine.starting) == ["a"]
        await b.loaded("a")
        third = await b.ask("a")
        assert len({id(request.holds) for request in (first, second, third)}) == 1
        assert first.runner is not None and first.runner.refs == 3


async def test_two_names_of_one_file_share_a_worker():
    async with bench() as b:
        await b.use(a_model("a", file="blob"))
        await b.use(a_model("b", file="blob"))
        assert b.machine.names() == ["blob"]


async def test_a_loaded_model_does_not_wait_for_the_load_of_another():
    async with bench() as b:
        await b.use("a")
        b.machine.held = True
        await b.ask("b")
        assert (await b.ask("a")).holds is not None


async def test_loads_happen_one_after_another_in_the_order_they_were_asked_for():
    async with bench(Machine(held=True)) as b:
        for name in ("a", "b"):
            await b.ask(name)
        assert list(b.machine.starting) == ["a"]
        await b.loaded("a")
        assert list(b.machine.starting) == ["b"]


# eviction and budget


async def test_the_idle_model_used_longest_ago_makes_room():
    async with bench(max_loaded=2) as b:
        for name in ("a", "b", "a"):
            await b.use(name)
            await b.advance(1)
        await b.use("c")
        assert b.names() == {"a", "c"}


async def test_a_model_in_use_is_never_evicted_even_if_it_was_used_longest_ago():
    async with bench(max_loaded=2) as b:
        held = await b.ask("a")
        await b.advance(60)
        await b.use("b")
        await b.use("c")
        assert b.names() == {"a", "c"}
        assert held.holds is not None and held.holds.alive


async def test_where_all_are_in_use_the_next_model_waits_for_the_first_that_is_not():
    async with bench(max_loaded=2) as b:
        first, second = await b.ask("a"), await b.ask("b")
        waiting = await b.ask("c")
        assert waiting.holds is None
        await second.finish()
        assert waiting.holds is not None
        assert b.names() == {"a", "c"}
        assert first.holds is not None and first.holds.alive


@pytest.mark.parametrize(("memory", "names"), [(4 * GIB, {"a", "b"}), (3 * GIB, {"b"})])
async def test_models_stay_together_while_they_fit_the_budget(memory: int, names: set[str]):
    machine = Machine(sizes={"a": 2 * GIB, "b": 2 * GIB - 2 * PROCESS})
    async with bench(machine, memory=memory) as b:
        await b.use("a")
        await b.use("b")
        assert b.names() == names


async def test_without_a_limit_the_budget_is_what_is_free():
    async with bench(Machine(memory=5 * GIB, sizes={"a": 2 * GIB, "b": 2 * GIB, "c": 2 * GIB})) as b:
        for name in ("a", "b", "c"):
            await b.use(name)
            await b.advance(1)
        assert b.names() == {"b", "c"}


async def test_a_limit_beyond_what_is_free_does_not_make_the_machine_swap():
    async with bench(Machine(memory=3 * GIB, sizes={"a": 2 * GIB, "b": 2 * GIB}), memory=100 * GIB) as b:
        await b.use("a")
        await b.use("b")
        assert b.names() == {"b"}


async def test_a_model_that_cannot_fit_alone_is_refused_with_sizes_before_anything_is_evicted():
    async with bench(Machine(sizes={"big": 9 * GIB}), memory=4 * GIB) as b:
        await b.use("a")
        refused = (await b.ask("big")).error()
        assert isinstance(refused, ModelTooLarge)
        assert refused.message.startswith("model requires more system memory (9.0 GiB) than is available (4.0 GiB): ")
        assert "smaller quantization" in refused.message and "LOUPE_RUNTIME_MEMORY" in refused.message
        assert b.names() == {"a"}


async def test_a_model_that_may_fit_alone_is_tried():
    async with bench(Machine(sizes={"big": 5 * GIB}, uncertain={"big": 2 * GIB}), memory=4 * GIB) as b:
        await b.use("a")
        await b.use("big")
        assert b.names() == {"big"}


async def test_a_load_that_runs_out_of_memory_is_tried_once_more_without_the_idle_models():
    failed = ModelLoadFailed("b", "failed to allocate CPU buffer")
    async with bench(Machine(failures={"b": [failed]})) as b:
        await b.use("a")
        await b.use("b")
        assert b.names() == {"b"}
        b.machine.failures["c"] = [failed, failed]
        assert (await b.ask("c")).error() is failed
        assert b.names() == set()


async def test_the_second_try_waits_until_the_memory_of_the_idle_models_is_free():
    async with bench(Machine(failures={"b": [ModelLoadFailed("b", "failed to allocate CPU buffer")]})) as b:
        await b.use("a")
        b.machine.workers[0].may_end.clear()
        waiting = await b.ask("b")
        assert waiting.holds is None and b.machine.names() == ["a"]
        b.machine.workers[0].may_end.set()
        await settle()
        assert waiting.holds is not None


async def test_a_model_with_one_slot_only_has_one():
    async with bench(parallel=4) as b:
        await b.use("a")
        await b.use(a_model("b", family="qwen3next"))
        assert [worker.config.parallel for worker in b.machine.workers] == [4, 1]


# reloads


async def test_the_same_options_need_no_reload_and_others_do():
    async with bench() as b:
        await b.use("a", num_ctx=512)
        await b.use("a", num_ctx=512, temperature=0)
        assert len(b.machine.workers) == 1
        await b.use("a", num_ctx=1024)
        assert [worker.alive for worker in b.machine.workers] == [False, True]


async def test_a_reload_waits_for_the_requests_under_way_while_others_like_them_are_served():
    async with bench() as b:
        held = await b.ask("a", num_ctx=512)
        waiting = await b.ask("a", num_ctx=1024)
        assert waiting.holds is None
        meanwhile = await b.ask("a", num_ctx=512)
        assert meanwhile.holds is held.holds
        await held.finish()
        assert waiting.holds is None
        await meanwhile.finish()
        assert waiting.holds is not None and waiting.holds.config.num_ctx == 1024
        assert b.machine.names() == ["a"]


async def test_a_worker_is_started_when_the_memory_of_the_one_it_replaces_is_free():
    async with bench(max_loaded=1) as b:
        for name, options in (("a", {"num_ctx": 512}), ("b", {})):
            await b.use("a")
            leaving = b.machine.living[0]
            leaving.may_end.clear()
            waiting = await b.ask(name, **options)
            assert waiting.holds is None and b.machine.living == [leaving]
            leaving.may_end.set()
            await settle()
            assert waiting.holds is not None
            await waiting.finish()


async def test_requests_that_want_different_reloads_each_get_theirs():
    async with bench(Machine(held=True)) as b:
        asked = [await b.ask("a", num_ctx=size) for size in (512, 1024, 512)]
        await b.loaded("a")
        assert [request.holds is not None for request in asked] == [True, False, True]
        await asked[0].finish()
        await asked[2].finish()
        await b.loaded("a")
        assert asked[1].holds is not None and asked[1].holds.config.num_ctx == 1024


async def test_the_physical_batch_is_capped_whatever_num_batch_says():
    async with bench(physical_batch=128) as b:
        for size in (512, 64, 1):
            await b.use("a", num_batch=size)
        assert [worker.config.batch for worker in b.machine.workers] == [128, 64, 2]


# the line


async def test_as_many_may_wait_as_the_setting_says_beside_the_one_whose_turn_it_is():
    async with bench(Machine(held=True), max_queue=2) as b:
        asked = [await b.ask(name) for name in ("a", "a", "b", "c", "a")]
        refused = [request for request in asked if request.task.done()]
        assert refused == asked[3:]
        assert all(isinstance(request.error(), QueueFull) for request in refused)
        await b.loaded("a")
        assert not (await b.ask("c")).task.done()


async def test_with_a_queue_of_none_a_request_is_taken_only_if_nothing_waits():
    async with bench(Machine(held=True), max_queue=0) as b:
        await b.ask("a")
        assert isinstance((await b.ask("b")).error(), QueueFull)
        await b.loaded("a")
        assert (await b.ask("a")).holds is not None


async def test_a_full_line_does_not_keep_requests_from_a_loaded_model():
    async with bench(max_queue=0) as b:
        await b.use("a")
        b.machine.held = True
        await b.ask("b")
        assert (await b.ask("a")).holds is not None


# keep_alive


@pytest.mark.parametrize(
    ("keep_alive", "seconds"), [(None, 300), (10, 10), ("10s", 10), ("1m30s", 90), (0.5, 0.5), ("1h", 3600)]
)
async def test_a_model_stays_for_its_keep_alive_after_its_last_request(keep_alive, seconds: float):
    async with bench() as b:
        first, second = await b.ask("a", keep_alive), await b.ask("a")
        await first.finish()
        await b.advance(10_000)
        assert b.names() == {"a"}
        await second.finish()
        await b.advance(seconds - 0.1)
        assert b.names() == {"a"}
        await b.advance(0.1)
        assert b.names() == set() and b.machine.names() == []


@pytest.mark.parametrize("keep_alive", [-1, "-1s", -0.5])
async def test_a_negative_keep_alive_is_for_ever(keep_alive):
    async with bench() as b:
        await b.use("a", keep_alive)
        await b.advance(10**9)
        assert b.names() == {"a"}


@pytest.mark.parametrize("keep_alive", [0, "0", "0s", 0.0])
async def test_a_keep_alive_of_nothing_unloads_after_the_request(keep_alive):
    async with bench() as b:
        request = await b.ask("a", keep_alive)
        assert b.names() == {"a"}
        await request.finish()
        assert b.machine.names() == []


async def test_a_keep_alive_sticks_to_the_model_until_another_is_said():
    async with bench() as b:
        await b.use("a", 10)
        await b.advance(9)
        await b.use("a")
        await b.advance(9)
        assert b.names() == {"a"}
        await b.use("a", 20)
        await b.advance(19)
        assert b.names() == {"a"}
        await b.advance(1)
        assert b.names() == set()


async def test_a_new_worker_starts_with_the_keep_alive_of_the_settings():
    async with bench(keep_alive_ns=60 * 10**9) as b:
        await b.use("a", 10)
        await b.use("a", num_ctx=512)
        await b.advance(59)
        assert b.names() == {"a"}
        await b.advance(1)
        assert b.names() == set()


async def test_unloading_ends_an_idle_model_at_once_and_one_in_use_after_its_last_request():
    async with bench() as b:
        model = a_model("a")
        b.scheduler.unload(model)
        await b.use(model)
        b.scheduler.unload(model)
        assert b.names() == set()
        first, second = await b.ask(model), await b.ask(model)
        b.scheduler.unload(model)
        await first.finish()
        assert b.names() == {"a"}
        await second.finish()
        assert b.names() == set()


async def test_the_rows_are_the_longest_to_live_first_with_what_the_workers_say_they_take():
    async with bench(Machine(sizes={"a": 3 * GIB})) as b:
        await b.use("a", 60)
        await b.use("b", -1)
        held = await b.ask("c", 120)
        rows = b.scheduler.rows()
        assert [row.model.name.model for row in rows] == ["b", "c", "a"]
        assert rows[2].size == 3 * GIB and rows[2].num_ctx == 4096
        assert rows[2].expires_ns == round((b.clock.epoch + 60) * 1e9)
        await held.finish()


# leaving, failing, closing


async def test_a_load_ends_when_the_last_that_waits_for_it_leaves():
    async with bench(Machine(held=True)) as b:
        first, second = await b.ask("a"), await b.ask("a")
        await first.leave()
        assert b.machine.broken_off == []
        await second.leave()
        assert b.machine.broken_off == ["a"]
        assert b.machine.workers == []
        again = await b.ask("a")
        await b.loaded("a")
        assert again.holds is not None


async def test_a_request_that_comes_while_an_abandoned_load_is_ending_gets_a_load_of_its_own():
    async with bench(Machine(held=True)) as b:
        first = await b.ask("a")
        first.task.cancel()
        second = await b.ask("a")
        assert b.machine.broken_off == ["a"]
        await b.loaded("a")
        assert second.holds is not None


async def test_one_that_leaves_the_line_is_gone_at_once_and_its_model_is_not_loaded():
    async with bench(Machine(held=True), max_queue=1) as b:
        await b.ask("a")
        queued = await b.ask("b")
        await queued.leave()
        assert queued.task.cancelled()
        third = await b.ask("c")
        assert not third.task.done()
        await b.loaded("a")
        assert list(b.machine.starting) == ["c"]


async def test_one_that_leaves_while_it_waits_for_a_reload_leaves_the_loaded_model_in_peace():
    async with bench() as b:
        held = await b.ask("a", num_ctx=512)
        waiting = await b.ask("a", num_ctx=1024)
        await waiting.leave()
        await held.finish()
        assert [worker.alive for worker in b.machine.workers] == [True]


async def test_a_request_that_leaves_with_the_end_of_the_load_gives_its_hold_back():
    async with bench(Machine(held=True)) as b:
        request = await b.ask("a", 0)
        b.machine.starting["a"].set_result(None)
        await request.leave()
        assert request.runner is None or request.runner.refs == 0
        assert all(row.model.name.model != "a" or row.expires_ns for row in b.scheduler.rows())
        await b.use("a", 0)
        assert b.machine.names() == []


async def test_a_failed_load_fails_for_all_that_waited_and_is_tried_anew_by_the_next():
    async with bench(Machine(held=True)) as b:
        asked = [await b.ask("a"), await b.ask("a")]
        await b.loaded("a", ModelLoadFailed("a", "no such tensor"))
        assert [isinstance(request.error(), ModelLoadFailed) for request in asked] == [True, True]
        again = await b.ask("a")
        await b.loaded("a")
        assert again.holds is not None


async def test_the_next_in_line_is_loaded_after_a_failed_or_abandoned_load():
    async with bench(Machine(held=True)) as b:
        first, _, last = await b.ask("a"), await b.ask("b"), await b.ask("c")
        await first.leave()
        await b.loaded("b", ModelLoadFailed("b", "broken"))
        await b.loaded("c")
        assert last.holds is not None


async def test_closing_ends_loads_lines_and_workers_and_refuses_what_comes_later():
    async with bench(Machine(held=True)) as b:
        held = await b.ask("a")
        await b.loaded("a")
        loading, queued = await b.ask("b"), await b.ask("c")
        await b.scheduler.close()
        await held.finish()
        assert all(isinstance(request.error(), Draining) for request in (loading, queued))
        assert b.machine.broken_off == ["b"] and b.machine.names() == []
        assert isinstance((await b.ask("a")).error(), Draining)


async def test_a_model_that_cannot_be_run_here_says_why():
    from dataclasses import replace

    async with bench() as b:
        refused = (await b.ask(replace(a_model("a"), unusable="it has an adapter"))).error()
        assert isinstance(refused, ModelLoadFailed)
        assert refused.message == "a:latest cannot be run: it has an adapter"
        assert b.machine.workers == []
