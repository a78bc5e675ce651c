"""Every formula against scipy or a twin by brute force, and the coverage of the intervals in a simulation."""

from __future__ import annotations

import itertools
import math
import os
import random

import pytest
from scipy import stats

from app.comparison import intervals
from app.comparison.intervals import ClusterMean

RUNS = int(os.environ.get("COVERAGE_RUNS", "300"))  # the long form: 20000
NOISE = 3 * math.sqrt(0.92 * 0.08 / RUNS)  # of the simulation itself, three standard errors


FOUND = ((1.2, 0.0), (1.6, 0.0), (1.9, 0.01), (1.3, 0.065), (1.75, 0.06))  # of seven variants of the starter family
WORSE = ((2.3, 0.03), (2.9, 0.03))  # spreads of published tables


def clusters_like_real_ones(generator: random.Random, groups: int, cv: float = 1.6, icc: float = 0.03):
    """Divergences by text with mean 1: tokens are gamma-distributed around a text's own level (log-normal), `cv` is
    the spread of tokens and `icc` the share of it that lies between texts."""
    between = icc * cv * cv
    shape, sigma = (1 + between) / (cv * cv - between), math.sqrt(math.log(1 + between))
    drawn = []
    for _ in range(groups):
        level = math.exp(generator.gauss(-sigma * sigma / 2, sigma))
        size = generator.randint(12, 24)
        drawn.append([level * generator.gammavariate(shape, 1 / shape) for _ in range(size)])
    return drawn


def test_a_ratio_mean_is_the_mean_of_all_tokens_and_its_error_the_one_over_texts():
    sums, counts = [3.0, 1.0, 8.0], [2, 1, 5]
    mean = intervals.cluster_mean(sums, counts)
    centred = [x - 1.5 * n for x, n in zip(sums, counts, strict=True)]
    assert mean == ClusterMean(1.5, math.sqrt(3 / 2 * sum(c * c for c in centred)) / 8, 3, 8)


def test_with_texts_of_one_token_it_is_the_usual_standard_error():
    values = [0.3, 1.2, 0.7, 2.2, 0.1]
    mean = intervals.mean_of([[value] for value in values])
    assert mean.se == pytest.approx(stats.sem(values))
    low, high = stats.t.interval(0.95, 4, loc=mean.mean, scale=stats.sem(values))
    told = intervals.plain_t(mean)
    assert (told.low, told.high) == pytest.approx((low, high))


def test_the_interval_of_a_divergence_is_symmetric_on_the_log():
    told = intervals.log_t(ClusterMean(0.05, 0.01, 24, 576), scale=2)
    half = stats.t.ppf(0.975, 23) * 0.2
    assert (told.value, told.low, told.high) == pytest.approx((0.1, 0.1 * math.exp(-half), 0.1 * math.exp(half)))


def test_what_is_nowhere_different_is_zero_without_width():
    told = intervals.log_t(intervals.mean_of([[0.0, 0.0], [0.0]]))
    assert (told.value, told.low, told.high, told.n) == (0.0, 0.0, 0.0, 2)


def test_one_text_has_no_interval():
    told = intervals.log_t(intervals.mean_of([[0.1, 0.2]]))
    assert (told.low, told.high) == (None, None)


def test_no_tokens_are_no_mean():
    with pytest.raises(ValueError, match="nothing"):
        intervals.mean_of([[], []])


def test_the_design_effect_is_one_for_independent_tokens_and_the_cluster_size_for_copies():
    generator = random.Random(1)
    free = [[generator.random() for _ in range(20)] for _ in range(400)]
    copies = [[value] * 20 for value in (generator.random() for _ in range(400))]
    assert intervals.design_effect(free) == pytest.approx(1, abs=0.2)
    assert intervals.design_effect(copies) == pytest.approx(20, rel=0.02)


@pytest.mark.parametrize(("hits", "n"), [(0, 12), (236, 256), (512, 512), (92, 100)])
def test_wilson_is_scipys(hits, n):
    other = stats.binomtest(hits, n).proportion_ci(method="wilson")
    assert intervals.wilson(hits / n, n) == pytest.approx((other.low, other.high))


@pytest.mark.parametrize(("n", "low", "high"), [(256, 0.880, 0.947), (512, 0.893, 0.940), (4096, 0.911, 0.928)])
def test_wilson_at_the_published_counts(n, low, high):
    assert intervals.wilson(0.92, n) == pytest.approx((low, high), abs=0.0015)


@pytest.mark.parametrize("events", [0, 1, 7, 60])
def test_a_hazard_has_the_chi_square_interval(events):
    told = intervals.hazard(events, 500)
    low = stats.chi2.ppf(0.025, 2 * events) / 1000 if events else 0
    assert (told.low, told.high) == pytest.approx((low, stats.chi2.ppf(0.975, 2 * events + 2) / 1000))


def test_the_first_difference_is_after_ln_2_over_the_hazard():
    told = intervals.first_difference([[True] * 9 + [False]] * 30)
    assert told is not None
    assert told.value == pytest.approx(10 * math.log(2))
    assert told.low is not None and told.high is not None and told.low < told.value < told.high


def test_without_a_difference_only_the_lower_end_is_known():
    told = intervals.first_difference([[True] * 10] * 30)
    assert told is not None and told.high is None
    assert told.value == told.low == pytest.approx(300 * math.log(2) / -math.log(0.025))


def test_the_log_ratio_of_a_variant_and_its_double_is_exact():
    a, counts = [0.2, 0.5, 0.1], [10, 12, 9]
    told = intervals.log_ratio(a, [2 * x for x in a], counts)
    assert told is not None
    assert (told.value, told.se, told.p_value) == pytest.approx((math.log(2), 0.0, 0.0), abs=1e-9)


def test_the_error_of_a_log_ratio_is_the_one_of_the_note():
    a, b, counts = [0.2, 0.5, 0.1, 0.4], [0.3, 0.4, 0.3, 0.5], [10, 12, 9, 11]
    told, n = intervals.log_ratio(a, b, counts), sum(counts)
    assert told is not None
    mean_a, mean_b = sum(a) / n, sum(b) / n
    se = math.sqrt(4 / 3 * sum(((y / mean_b - x / mean_a) / n) ** 2 for x, y in zip(a, b, strict=True)))
    assert told.se == pytest.approx(se)
    assert told.p_value == pytest.approx(2 * stats.t.sf(abs(told.value) / se, 3))


def test_a_ratio_to_nothing_cannot_be_formed():
    assert intervals.log_ratio([0.0, 0.0], [0.1, 0.2], [5, 5]) is None
    assert intervals.log_ratio([0.1], [0.2], [5]) is None


@pytest.mark.parametrize(("lost", "gained"), [(0, 0), (1, 0), (3, 9), (10, 10), (2, 30)])
def test_mcnemar_is_the_exact_binomial_test(lost, gained):
    expected = stats.binomtest(lost, lost + gained).pvalue if lost + gained else 1.0
    assert intervals.mcnemar(lost, gained) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("n", "d", "points"), [(100, 0.05, 6.3), (100, 0.10, 8.9), (485, 0.10, 4.0), (1000, 0.05, 2.0)]
)
def test_what_can_be_detected_is_as_published(n, d, points):
    assert 100 * intervals.detectable(d, n) == pytest.approx(points, abs=0.06)


def test_no_pair_that_differs_is_not_the_power_to_see_everything():
    assert intervals.detectable(0.0, 100) == pytest.approx(intervals.detectable(0.01, 100))


def test_few_items_are_never_equivalent_and_many_equal_ones_are():
    assert not intervals.equivalent(0, 0, 20)
    assert not intervals.equivalent(6, 6, 200)
    assert intervals.equivalent(3, 3, 1000)
    assert not intervals.equivalent(60, 3, 1000)


def test_holm_is_the_closed_testing_of_bonferroni():
    """By brute force: the largest Bonferroni p-value over all subsets that a hypothesis is in."""
    generator = random.Random(3)
    for _ in range(50):
        p = [generator.random() ** 3 for _ in range(5)]
        subsets = [s for size in range(1, 6) for s in itertools.combinations(range(5), size)]
        closed = [max(min(1, len(s) * min(p[j] for j in s)) for s in subsets if i in s) for i in range(5)]
        assert intervals.holm(p) == pytest.approx(closed)
    assert intervals.holm([]) == []


@pytest.mark.parametrize("groups", [24, 32])
@pytest.mark.parametrize(("cv", "icc"), [*FOUND, *WORSE])
def test_an_interval_covers_the_truth_as_often_as_it_promises(groups, cv, icc):
    generator, covered = random.Random(f"{groups} {cv} {icc}"), 0
    for _ in range(RUNS):
        told = intervals.log_t(intervals.mean_of(clusters_like_real_ones(generator, groups, cv, icc)))
        covered += told.low is not None and told.high is not None and told.low <= 1.0 <= told.high
    assert covered / RUNS >= 0.92 - NOISE


def test_a_share_covers_the_truth_although_texts_differ():
    generator, covered = random.Random(5), 0
    for _ in range(RUNS):
        shares = [min(1.0, max(0.0, generator.gauss(0.85, 0.06))) for _ in range(24)]
        told = intervals.share_of([[generator.random() < share for _ in range(24)] for share in shares])
        covered += told.low is not None and told.high is not None and told.low <= 0.8495 <= told.high
    assert covered / RUNS >= 0.92 - NOISE


def test_two_equal_variants_are_called_different_as_seldom_as_promised():
    """Paired: what makes a text hard is common to both; the false alarms of the test are about 5 %."""
    generator, alarms = random.Random(6), 0
    for _ in range(RUNS):
        base = clusters_like_real_ones(generator, 24)
        a, b = ([sum(x * math.exp(generator.gauss(0, 0.7)) for x in text) for text in base] for _ in "ab")
        told = intervals.log_ratio(a, b, [len(text) for text in base])
        alarms += told is not None and told.p_value < 0.05
    assert alarms / RUNS <= 0.08 + 3 * math.sqrt(0.05 * 0.95 / RUNS)
