"""What a load run may be asked for: lengths in words, moments by the law asked for, nothing without a bound."""

from __future__ import annotations

import random
import statistics

import pytest

from app.comparison.load_lab.arrivals import Arrivals
from app.comparison.load_lab.figures import spread
from app.comparison.load_lab.gaps import Gaps
from app.comparison.load_lab.lengths import Lengths
from app.comparison.load_lab.plan import LoadPlan, Recorded
from app.comparison.load_lab.questions import Asking, shots
from app.comparison.result_json import from_json, to_json
from app.core.errors import BadRequest

MIX = {"a": 3.0, "b": 1.0}


def plan(**changes: object) -> LoadPlan:
    if "arrivals" in changes:
        changes["arrivals"] = Arrivals(str(changes["arrivals"]))
    return LoadPlan(**{"models": MIX, "seed": 3, **changes}).checked()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "made"),
    [("256", Lengths(256, 256)), (" 64 - 512 ", Lengths(64, 512)), ("64–512", Lengths(64, 512)),
     ("256~0.6", Lengths(256, 256, 0.6))],
)  # fmt: skip
def test_lengths_are_read_as_people_write_them(text: str, made: Lengths) -> None:
    assert Lengths.parse(text, "prompt") == made


@pytest.mark.parametrize("text", ["", "many", "0", "512-64", "10-", "256~9", "99999", "-5", "1e9", "256~0.6~1"])
def test_what_is_no_length_is_refused_with_the_forms_that_there_are(text: str) -> None:
    with pytest.raises(BadRequest, match=r"length") as refused:
        Lengths.parse(text, "prompt")
    assert refused.value.field == "prompt"


def test_drawn_lengths_keep_to_their_distribution() -> None:
    dice = random.Random(1)
    even = [Lengths(64, 512).draw(dice) for _ in range(4000)]
    assert (min(even), max(even)) == (64, 512)
    assert statistics.median(even) == pytest.approx(288, rel=0.05)
    around = [Lengths(256, 256, 0.6).draw(dice) for _ in range(4000)]
    assert statistics.median(around) == pytest.approx(256, rel=0.05)
    inside = sum(256 / 1.822 <= length <= 256 * 1.822 for length in around) / 4000
    assert inside == pytest.approx(0.683, abs=0.03)


def test_constant_arrivals_are_evenly_apart_and_end_with_the_time_or_the_count() -> None:
    moments = plan(arrivals="constant", rate=4.0, seconds=5.0).moments(random.Random(1))
    assert moments == tuple(number / 4 for number in range(20))
    assert len(plan(arrivals="constant", rate=4.0, seconds=5.0, count=7).moments(random.Random(1))) == 7


def test_poisson_arrivals_have_the_rate_and_gaps_that_vary_as_they_should() -> None:
    moments = plan(rate=20.0, seconds=500.0).moments(random.Random(1))
    gaps = [second - first for first, second in zip(moments, moments[1:], strict=False)]
    assert len(moments) == pytest.approx(10_000, rel=0.04)
    assert statistics.stdev(gaps) / statistics.mean(gaps) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize(("first", "last"), [(2.0, 18.0), (18.0, 2.0), (10.0, 10.0)])
def test_a_ramp_goes_evenly_from_one_rate_to_the_other(first: float, last: float) -> None:
    moments = plan(arrivals="ramp", rate=first, to_rate=last, seconds=600.0).moments(random.Random(1))
    quarters = [sum(150 * at <= moment < 150 * (at + 1) for moment in moments) for at in range(4)]
    meant = [150 * (first + (last - first) * (at + 0.5) / 4) for at in range(4)]
    assert quarters == pytest.approx(meant, rel=0.12)


def test_a_recorded_day_comes_again_as_it_was_and_faster() -> None:
    recorded = (Recorded(1000.0, 30, 8), Recorded(940.0, 20, 4), Recorded(970.0))
    asked = plan(arrivals="recorded", recording=recorded, speed=10.0, seconds=60.0, prompt="99", output="33")
    made = shots(asked)
    assert [shot.due for shot in made] == [0.0, 3.0, 6.0]
    assert [(shot.prompt, shot.output) for shot in made] == [(20, 4), (99, 33), (30, 8)]


def test_a_mix_has_its_shares_and_the_same_plan_gives_the_same_questions() -> None:
    asked = plan(rate=100.0, seconds=20.0, users=5)
    made = shots(asked)
    assert sum(shot.model == "a" for shot in made) / len(made) == pytest.approx(0.75, abs=0.04)
    assert {shot.user for shot in made} == set(range(5))
    assert made == shots(asked)
    prompts = [shot.request.body["prompt"] for shot in made]
    assert len(set(prompts)) == len(prompts)
    assert all(shot.request.body["raw"] for shot in made)
    assert made[0].request.options == {"num_predict": 64}


def test_questions_of_ones_own_are_asked_in_turn_with_the_lengths_of_their_answers() -> None:
    made = shots(plan(arrivals="constant", rate=1.0, seconds=3.0), (Asking("Why?", 12), Asking("How?")))
    assert [shot.output for shot in made] == [12, 64, 12]
    messages = [shot.request.body["messages"] for shot in made]
    assert [str(told[0]["content"]).partition("] ")[2] for told in messages] == ["Why?", "How?", "Why?"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"models": {}}, "models"), ({"models": {"a": 0.0}}, "models"), ({"models": {" ": 1.0}}, "models"),
        ({"rate": 0.0}, "rate"), ({"rate": float("nan")}, "rate"), ({"rate": 5000.0}, "rate"),
        ({"seconds": 7200.0}, "seconds"), ({"count": -1}, "count"), ({"count": 30_000}, "count"),
        ({"users": 0}, "users"), ({"drain": 0.0}, "drain"), ({"arrivals": "ramp"}, "to_rate"),
        ({"arrivals": "ramp", "to_rate": -1.0}, "to_rate"), ({"prompt": "long"}, "prompt"),
        ({"output": "0"}, "output"), ({"questions": ("a",), "chats": True}, "chats"),
        ({"questions": (" ",)}, "questions"),
        ({"arrivals": "recorded", "recording": (Recorded(float("inf")),)}, "recording"), ({"context": 1}, "context"),
        ({"recording": (Recorded(1.0),)}, "recording"), ({"speed": 10.0}, "speed"), ({"to_rate": 2.0}, "to_rate"),
    ],
)  # fmt: skip
def test_what_has_no_bound_or_no_sense_is_refused_by_its_name(changes: dict[str, object], field: str) -> None:
    with pytest.raises(BadRequest) as refused:
        plan(**changes)
    assert refused.value.field == field


def test_a_plan_survives_its_file_and_has_a_seed_of_its_own() -> None:
    asked = LoadPlan(models=MIX).checked()
    assert asked.seed
    assert from_json(LoadPlan, to_json(asked)) == asked
    assert from_json(LoadPlan, {"models": {"a": 1}, "arrivals": "ramp"}).arrivals is Arrivals.RAMP


def test_percentiles_have_intervals_that_hold_and_none_where_there_are_too_few() -> None:
    dice, held = random.Random(4), 0
    for _ in range(300):
        told = spread([dice.expovariate(1.0) for _ in range(400)]).percentiles["p90"]
        assert told.low is not None and told.high is not None
        held += told.low <= 2.302585 <= told.high
    assert held / 300 >= 0.92
    few = spread([1.0, 2.0, 3.0]).percentiles["p99"]
    assert (few.value, few.high) == (3.0, None)


def test_gaps_are_kept_within_half_a_percent() -> None:
    dice, gaps = random.Random(2), Gaps()
    values = [dice.lognormvariate(-4, 1) for _ in range(5000)]
    for value in values:
        gaps.add(value)
    for share in (0.5, 0.95, 0.99):
        assert gaps.percentile(share) == pytest.approx(sorted(values)[round(share * 5000) - 1], rel=0.005)
    assert (gaps.n, gaps.worst) == (5000, max(values))
