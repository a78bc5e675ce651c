"""How sure a figure is: every formula that comparisons use, and nothing else.

Texts are the independent pieces, tokens within one are not: means are ratio means over clusters with the CR1 variance
(cluster-robust, small-sample factor G/(G−1)), and intervals of positive figures are taken on the log. In simulations
with the structure of real divergences this covers 92 to 96 % where 95 % is promised, and a bootstrap of few texts does
not. scipy's special functions are imported where they are used: they cost 43 MB and a third of a second.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from app.comparison.results import Estimate

CONFIDENCE = 0.95
POWER = 0.80
MARGIN = 0.02  # of equivalence: two points of a pass rate
_Clusters = Sequence[Sequence[float]]


@dataclass(frozen=True, slots=True)
class ClusterMean:
    """`mean` over all tokens, its standard error over clusters; `clusters` texts with `n` tokens together.

    `se` is None where there is only one text: nothing is known then of how texts differ."""

    mean: float
    se: float | None
    clusters: int
    n: int


def t_quantile(share: float, df: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(df, share))


def t_two_sided(t: float, df: float) -> float:
    """P(|T| ≥ |t|) of Student's t."""
    from scipy.special import stdtr

    return min(1.0, 2 * float(stdtr(df, -abs(t))))


def normal_quantile(share: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(share))


def cluster_mean(sums: Sequence[float], counts: Sequence[int]) -> ClusterMean:
    """The ratio mean of clusters given as sums and token counts; clusters without tokens do not count.

    Raises `ValueError` where no token is left.
    """
    pairs = [(x, n) for x, n in zip(sums, counts, strict=True) if n]
    total, size = sum(n for _, n in pairs), len(pairs)
    if not total:
        raise ValueError("there is nothing to take a mean of")
    mean = math.fsum(x for x, _ in pairs) / total
    if size < 2:
        return ClusterMean(mean, None, size, total)
    scatter = math.fsum((x - mean * n) ** 2 for x, n in pairs)
    return ClusterMean(mean, math.sqrt(size / (size - 1) * scatter) / total, size, total)


def mean_of(clusters: _Clusters) -> ClusterMean:
    """`cluster_mean` of values by cluster."""
    return cluster_mean([math.fsum(values) for values in clusters], [len(values) for values in clusters])


def log_t(mean: ClusterMean, *, scale: float = 1.0) -> Estimate:
    """The interval of a mean that cannot be negative, times `scale`: M·exp(± t·se/M)."""
    value = mean.mean * scale
    if mean.se is None:
        return Estimate(value, n=mean.clusters)
    if not mean.se or mean.mean <= 0:
        return Estimate(value, value, value, mean.clusters)
    factor = math.exp(min(_t(mean) * mean.se / mean.mean, 700.0))
    return Estimate(value, value / factor, value * factor, mean.clusters)


def plain_t(mean: ClusterMean) -> Estimate:
    """M ± t·se, for figures of any sign."""
    if mean.se is None:
        return Estimate(mean.mean, n=mean.clusters)
    half = _t(mean) * mean.se
    return Estimate(mean.mean, mean.mean - half, mean.mean + half, mean.clusters)


def exponential(estimate: Estimate) -> Estimate:
    """exp of a figure and of its interval: a perplexity ratio from a difference of log likelihoods."""
    low, high = (None if end is None else _exp(end) for end in (estimate.low, estimate.high))
    return Estimate(_exp(estimate.value), low, high, estimate.n)


def _exp(value: float) -> float:
    return math.exp(min(value, 700.0))


def _t(mean: ClusterMean) -> float:
    return t_quantile((1 + CONFIDENCE) / 2, mean.clusters - 1)


def design_effect(clusters: _Clusters) -> float:
    """How many times the variance of the mean is what independent tokens would have; 1 where it cannot be told."""
    mean = mean_of(clusters)
    spread = math.fsum((value - mean.mean) ** 2 for values in clusters for value in values) / mean.n
    if mean.se is None or spread <= 0:
        return 1.0
    return mean.se**2 / (spread / mean.n)


def wilson(share: float, n: float) -> tuple[float, float]:
    """Wilson's interval of a share of `n` independent trials; n may be a fraction (an effective count)."""
    z = normal_quantile((1 + CONFIDENCE) / 2)
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def share_of(clusters: Sequence[Sequence[bool]]) -> Estimate:
    """A share of tokens, with Wilson's interval on the effective count. Raises `ValueError` where there are none."""
    values = [[float(hit) for hit in cluster] for cluster in clusters]
    mean = mean_of(values)
    low, high = wilson(mean.mean, mean.n / max(1.0, design_effect(values)))
    return Estimate(mean.mean, low, high, mean.clusters)


def hazard(events: float, exposure: float) -> Estimate:
    """Events for each unit of exposure, with the exact (chi-square) interval of a Poisson count."""
    from scipy.special import gammaincinv

    tail = (1 - CONFIDENCE) / 2
    low = float(gammaincinv(events, tail)) / exposure if events else 0.0
    return Estimate(events / exposure, low, float(gammaincinv(events + 1, 1 - tail)) / exposure, round(exposure))


def first_difference(clusters: Sequence[Sequence[bool]]) -> Estimate | None:
    """The median count of tokens until the likeliest token is another one, from `True` for each same one.

    None without tokens. Without any difference only the lower end is known: it is the value, and `high` is None.
    """
    exposure = sum(len(cluster) for cluster in clusters)
    if not exposure:
        return None
    shrink = max(1.0, design_effect([[float(same) for same in cluster] for cluster in clusters]))
    events = sum(not same for cluster in clusters for same in cluster)
    rate = hazard(events / shrink, exposure / shrink)
    value, low, high = (math.log(2) / end if end else None for end in (rate.value, rate.high, rate.low))
    texts = sum(1 for cluster in clusters if cluster)
    return Estimate(value if value is not None else low or 0.0, low, high, texts)


@dataclass(frozen=True, slots=True)
class LogRatio:
    """ln(M_b / M_a) of paired clusters, its standard error and two-sided p-value."""

    value: float
    se: float
    p_value: float
    clusters: int

    def estimate(self) -> Estimate:
        half = t_quantile((1 + CONFIDENCE) / 2, self.clusters - 1) * self.se
        return Estimate(self.value, self.value - half, self.value + half, self.clusters)


def log_ratio(a: Sequence[float], b: Sequence[float], counts: Sequence[int]) -> LogRatio | None:
    """Two variants on the same tokens, as sums of divergence by text; None where it cannot be formed (fewer than two
    texts, or one of them nowhere different from the reference)."""
    rows = [(x, y) for x, y, n in zip(a, b, counts, strict=True) if n]
    total_a, total_b, size = math.fsum(x for x, _ in rows), math.fsum(y for _, y in rows), len(rows)
    if size < 2 or total_a <= 0 or total_b <= 0:
        return None
    value = math.log(total_b / total_a)
    se = math.sqrt(size / (size - 1) * math.fsum((y / total_b - x / total_a) ** 2 for x, y in rows))
    if not se:
        return LogRatio(value, 0.0, 1.0 if not value else 0.0, size)
    return LogRatio(value, se, t_two_sided(value / se, size - 1), size)


def log_difference(base: Sequence[float], other: Sequence[float]) -> LogRatio | None:
    """ln(other / base) of positive figures paired by round, with the p-value of a paired t-test; None where fewer than
    two pairs were measured."""
    logs = [math.log(y / x) for x, y in zip(base, other, strict=False)]
    size = len(logs)
    if size < 2:
        return None
    value = math.fsum(logs) / size
    se = math.sqrt(math.fsum((one - value) ** 2 for one in logs) / (size - 1) / size)
    if not se:
        return LogRatio(value, 0.0, 1.0 if not value else 0.0, size)
    return LogRatio(value, se, t_two_sided(value / se, size - 1), size)


def paired_ratio(base: Sequence[float], other: Sequence[float]) -> Estimate | None:
    """other / base with its interval; None where fewer than two pairs were measured."""
    found = log_difference(base, other)
    return exponential(found.estimate()) if found is not None else None


def mcnemar(lost: int, gained: int) -> float:
    """Exact two-sided p-value of `lost` against `gained` among pairs that differ."""
    n = lost + gained
    tail: int = sum(math.comb(n, k) for k in range(min(lost, gained) + 1))
    return min(1.0, 2 * tail / 2**n) if n else 1.0


def detectable(discordance: float, n: int) -> float:
    """The least difference of two paired pass rates that `n` items would show (95 %, power 80 %).

    At least one pair is taken to differ: none seen in n does not mean that none can.
    """
    factor = normal_quantile((1 + CONFIDENCE) / 2) + normal_quantile(POWER)
    return factor * math.sqrt(max(discordance, 1 / n) / n)


def paired_difference(lost: int, gained: int, n: int, confidence: float = CONFIDENCE) -> Estimate:
    """(gained − lost)/n with a t-interval of paired items, after adding half a pair to either side (so that nothing
    seen to differ does not look like certainty)."""
    value = (gained - lost) / n
    b, c, size = lost + 0.5, gained + 0.5, n + 1
    middle = (c - b) / size
    se = math.sqrt(max((b + c) / size - middle**2, 0.0) / size)
    half = t_quantile((1 + confidence) / 2, max(n - 1, 1)) * se
    return Estimate(value, max(-1.0, middle - half), min(1.0, middle + half), n)


def equivalent(lost: int, gained: int, n: int, margin: float = MARGIN) -> bool:
    """Two one-sided tests at 5 %: whether the 90 % interval of the paired difference lies inside ± `margin`."""
    found = paired_difference(lost, gained, n, confidence=0.90)
    return found.low is not None and found.high is not None and -margin < found.low and found.high < margin


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values adjusted for being this many, in their order (Holm's step-down)."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, worst = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        worst = max(worst, min(1.0, p_values[index] * (len(order) - rank)))
        adjusted[index] = worst
    return adjusted
