"""Which variant to run on this machine: memory, then speed, then quality, then the smallest of what is as good. Pure.

What fits (with its error to spare) and answers fast enough (at the lower end of its interval) is put in the order of
its tier, taken at the worse end of its interval. Of variants that cannot be told apart, also not from a near-lossless
one because their intervals reach into that tier, the smallest is taken, or a faster one. Where nothing fits as asked, a
smaller cache type and shorter contexts are tried. A degraded variant is never recommended: a smaller model at four bits
or more is the better use of the same memory.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from app.core.measures import Recommendation, Tier
from app.models import advice_words as words
from app.models.candidates import Candidate, Weighed, need, weigh
from app.models.licenses import restriction
from app.models.tiers import may_be_near_lossless, rank
from app.models.wishes import FLOORS, UNLIMITED, Case, Held, Use, Wish, memory_budget

__all__ = ["FLOORS", "UNLIMITED", "Candidate", "Pick", "Use", "Wish", "advise", "choose", "memory_budget"]

_LEAST_CONTEXT = 2048
_SMALL_CACHE = "q8_0"
_UNKNOWN_RANK = rank(Tier.NOTICEABLE) + 0.5


@dataclass(frozen=True, slots=True)
class Pick:
    """What `choose` found: the best first in `order`; `tied` cannot be told from the first of them."""

    best: Weighed
    tied: tuple[Weighed, ...]
    order: tuple[Weighed, ...]


def advise(
    candidates: Sequence[Candidate], wish: Wish, *, apart: Collection[frozenset[str]] | None = None
) -> Recommendation:
    """The recommendation in one sentence, with what would change it."""
    case = Case(weigh(candidates), wish, apart)
    for kv_type, context in _settings(wish):
        tried = replace(case, wish=replace(wish, kv_type=kv_type, context=context))
        pick = choose(tried)
        if pick is not None:
            return _recommended(tried, wish, pick)
        if _fitting(tried, degraded=False):
            break  # what fits is too slow, and stays so with another cache
    return _nothing(case)


def choose(case: Case) -> Pick | None:
    """The best of what fits, is fast enough and not degraded."""
    wish = case.wish
    usable = [one for one in _fitting(case, degraded=False) if one.slowest is None or one.slowest >= wish.floor]
    if not usable:
        return None
    order = sorted(usable, key=_key)
    first = order[0]
    tied = [one for one in order if one is first or _tied(first, one, case.apart)]
    best = _thriftiest(tied)
    rest = [one for one in order if one is not best]
    return Pick(best, tuple(one for one in tied if one is not best), (best, *rest))


def _settings(wish: Wish) -> list[tuple[str, int]]:
    """As asked; with a smaller cache type; then with half the context, again and again."""
    kinds = [wish.kv_type] + [_SMALL_CACHE] * (wish.kv_type in ("f16", "f32", "bf16"))
    contexts = [wish.context]
    while contexts[-1] // 2 >= _LEAST_CONTEXT:
        contexts.append(contexts[-1] // 2)
    return [(kind, context) for context in contexts for kind in kinds]


def _fitting(case: Case, *, degraded: bool) -> list[Weighed]:
    """The variants within the budget: the degraded ones, or all others."""
    found = []
    for one in case.weighed:
        taken = need(one.candidate, case.wish.context, case.wish.kv_type)
        if (one.tier is Tier.DEGRADED) == degraded and taken is not None and taken <= case.wish.budget:
            found.append(one)
    return found


def _key(one: Weighed) -> tuple[float, float, int, str]:
    """Never by divergence among the near-lossless: there it is silent about which is better."""
    place = _UNKNOWN_RANK if one.tier is None else rank(one.tier)
    told = one.kld is not None and one.tier is not Tier.NEAR_LOSSLESS
    return (place, one.kld.value if told and one.kld is not None else 0.0, one.candidate.size, one.name)


def _tied(first: Weighed, other: Weighed, apart: Collection[frozenset[str]] | None) -> bool:
    """Whether nothing measured says that `first`, of a better place or the same, is the closer one."""
    if first.tier is Tier.NEAR_LOSSLESS and other.tier is Tier.VERY_CLOSE:
        return not other.typical and other.kld is not None and may_be_near_lossless(other.kld, other.same_top)
    if first.tier is not other.tier:
        return False
    if first.tier is Tier.NEAR_LOSSLESS:
        return True
    if first.typical or other.typical or first.kld is None or other.kld is None:
        return False
    if apart is not None:
        return frozenset((first.name, other.name)) not in apart
    return (other.kld.low or 0.0) <= (first.kld.high or first.kld.value)


def _thriftiest(tied: Sequence[Weighed]) -> Weighed:
    """The smallest, unless another one is faster beyond doubt."""
    by_size = sorted(tied, key=lambda one: (one.candidate.size, one.name))
    best = by_size[0]
    for one in by_size[1:]:
        fastest_of_best = None if best.decode is None else (best.decode.high or best.decode.value)
        if fastest_of_best is not None and one.slowest is not None and one.slowest > fastest_of_best:
            best = one
    return best


def _better(one: Pick | None, than: Pick) -> bool:
    """Whether another choice is of a better tier, or of the same with less divergence and told apart."""
    if one is None or one.best is than.best or one.best in than.tied:
        return False
    return _key(one.best)[:2] < _key(than.best)[:2]


def _held_back(case: Case, pick: Pick) -> Held:
    """What would be better with more memory, at a lower speed, or with both."""

    roomy = replace(case.wish, budget=UNLIMITED)

    def better(wish: Wish) -> Weighed | None:
        other = choose(replace(case, wish=wish))
        return other.best if other is not None and _better(other, pick) else None

    return Held(better(roomy), better(replace(case.wish, least_tps=0.0)), better(replace(roomy, least_tps=0.0)))


def _recommended(case: Case, asked: Wish, pick: Pick) -> Recommendation:
    best = pick.best
    held = _held_back(case, pick)
    change = [
        *words.more_memory(held.freed, case.wish),
        *_other_settings(case, pick),
        *words.less_speed(held.hurried),
        *_longer(case, pick),
        *words.measuring(best, pick.order),
        *words.untied(best, pick.tied),
    ]
    runner_up = next((one for one in pick.order if one is not best), None)
    return Recommendation(
        variant=best.name,
        sentence=words.recommended(best, case, asked, held, pick.tied),
        binding="memory" if held.binding == "nothing" and case.wish != asked else held.binding,
        tier=best.tier,
        runner_up="" if runner_up is None else runner_up.name,
        change=tuple(change),
        tied=tuple(one.name for one in pick.tied),
        typical=best.typical,
        context=case.wish.context,
        kv_type=case.wish.kv_type,
        license=restriction(best.candidate.license),
    )


def _other_settings(case: Case, pick: Pick) -> list[str]:
    """What a smaller cache type or a shorter context would allow: the least step that allows something better."""
    for kv_type, context in _settings(case.wish)[1:]:
        other = choose(replace(case, wish=replace(case.wish, kv_type=kv_type, context=context)))
        if other is not None and _better(other, pick):
            return [words.with_settings(other.best, case.wish, kv_type, context)]
    return []


def _longer(case: Case, pick: Pick) -> list[str]:
    """What the double context would do."""
    wish = replace(case.wish, context=case.wish.context * 2)
    other = choose(replace(case, wish=wish))
    if other is None:
        return [words.nothing_longer(wish.context)]
    return [] if other.best is pick.best else [words.longer(other.best, wish.context)]


def _nothing(case: Case) -> Recommendation:
    """Nothing is good: say why, what would be, and which smaller model fits instead."""
    sound, spoilt = _fitting(case, degraded=False), sorted(_fitting(case, degraded=True), key=_key)
    instead = _instead(case)
    if sound:
        fastest = max(sound, key=lambda one: one.slowest or 0.0)
        sentence, binding, runner_up = words.too_slow(fastest, case.wish), "speed", fastest.name
        change = words.less_speed(choose_best(replace(case, wish=replace(case.wish, least_tps=0.0))))
    elif spoilt:
        sentence, binding, runner_up = words.only_degraded(spoilt[0], case.wish), "quality", spoilt[0].name
        change = words.more_memory(_least(case), case.wish)
    else:
        sentence, binding, runner_up = words.too_large(_least(case), case), "memory", ""
        change = words.more_memory(_least(case), case.wish)
    advice = words.run_instead(instead) if instead is not None else words.smaller_model(_least(case), case, binding)
    return Recommendation(
        variant="",
        sentence=f"{sentence} {advice}".strip(),
        binding=binding,
        runner_up=runner_up,
        change=tuple(change),
        instead="" if instead is None else instead.name,
        license="" if instead is None else restriction(instead.license),
    )


def choose_best(case: Case) -> Weighed | None:
    found = choose(case)
    return None if found is None else found.best


def _least(case: Case) -> Weighed | None:
    """The variant that is not degraded and takes the least memory."""

    def taken(one: Weighed) -> int:
        found = need(one.candidate, case.wish.context, case.wish.kv_type)
        return UNLIMITED if found is None else found

    return min((one for one in case.weighed if one.tier is not Tier.DEGRADED), key=taken, default=None)


def _instead(case: Case) -> Candidate | None:
    """The best variant of the families with fewer parameters that fits and is close or better (four bits or more)."""
    pick = choose(replace(case, weighed=weigh(case.wish.smaller)))
    if pick is None or pick.best.tier is None or rank(pick.best.tier) > rank(Tier.CLOSE):
        return None
    return pick.best.candidate
