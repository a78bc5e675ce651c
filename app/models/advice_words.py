"""The advisor's sentences. Every figure comes with its interval, or with the word that says where it is from. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import floor

from app.core.measures import Estimate, Tier
from app.models.candidates import Candidate, Weighed, need
from app.models.wishes import UNLIMITED, Case, Held, Wish

_GIB, _MIB = 1 << 30, 1 << 20
_FOUR_BITS = 4.9  # bits per weight of Q4_K_M
_USEFUL = 10**8  # parameters


def recommended(best: Weighed, case: Case, asked: Wish, held: Held, tied: Sequence[Weighed]) -> str:
    """Variant, how close, how much memory, how fast, and what keeps from better."""
    parts = [quality(best), _memory(best, case), speed(best)]
    sentence = f"Run {best.title}{_settings(case.wish, asked)}: it {_listed([part for part in parts if part])}"
    if tied:
        sentence += f"; {_listed([one.title for one in tied])} {_told_apart(tied)}"
    return f"{sentence}; {_held_back(held, case.wish, changed=case.wish != asked)}."


def _told_apart(tied: Sequence[Weighed]) -> str:
    """Near-lossless variants may well differ; what says nothing is by how much."""
    if any(one.tier is Tier.NEAR_LOSSLESS for one in tied):
        return "would be better by less than these figures can show"
    return "cannot be told from it by these figures"


def _held_back(held: Held, wish: Wish, *, changed: bool) -> str:
    if held.freed is not None:
        return f"memory is what keeps you from {held.freed.title}"
    if held.hurried is not None:
        return f"{held.hurried.title} would be closer but answers slower than {wish.floor:g} tokens/s"
    if held.both is not None:
        return f"{held.both.title} would be closer, but neither fits nor reaches {wish.floor:g} tokens/s"
    return "nothing good fits as asked" if changed else "nothing better is held back by memory or speed"


def quality(one: Weighed) -> str:
    if one.candidate.reference:
        return "is the reference itself"
    if one.tier is None or one.kld is None:
        return "has a format that no published table has and was not measured: its quality is not known"
    tier = one.tier.value
    if one.typical:
        return f"is typically {tier} (KLD about {nats(one.kld.value)} by published tables, not measured here)"
    shares = "" if one.same_top is None else f", same top token {_interval(one.same_top, percent, ' %')}"
    return f"is {tier} to the reference (KLD {_interval(one.kld, nats)}{shares})"


def speed(one: Weighed) -> str:
    if one.decode is None:
        return "has a speed that was not measured"
    how = "is predicted to answer at" if one.predicted else "answers at"
    where = " with a part of it outside the GPU" if one.candidate.partial else ""
    return f"{how} {_interval(one.decode, rate)} tokens/s{where}"


def more_memory(one: Weighed | None, wish: Wish) -> list[str]:
    taken = None if one is None else need(one.candidate, wish.context, wish.kv_type)
    if one is None or taken is None or taken <= wish.budget:
        return []
    return [
        f"With {size(taken - wish.budget)} more memory ({size(taken)} in all), {one.title} fits: it {quality(one)}."
    ]


def less_speed(one: Weighed | None) -> list[str]:
    if one is None or one.slowest is None:
        return []
    return [f"If {floor(10 * one.slowest) / 10:g} tokens/s are enough, run {one.title}: it {quality(one)}."]


def with_settings(one: Weighed, wish: Wish, kv_type: str, context: int) -> str:
    return f"{_capital(_changed(wish, kv_type, context))}, {one.title} fits: it {quality(one)}."


def longer(one: Weighed, context: int) -> str:
    return f"For {context:,} tokens of context it would be {one.title}."


def nothing_longer(context: int) -> str:
    return f"For {context:,} tokens of context nothing good fits."


def measuring(best: Weighed, order: Sequence[Weighed]) -> list[str]:
    """What was not measured and could matter: the choice itself, and what stands beside it."""
    guessed = [one for one in order if one.typical and (one is best or one.tier in (best.tier, None))]
    if not guessed:
        return []
    names = _listed([one.title for one in guessed])
    return [f"{names} {'is' if len(guessed) == 1 else 'are'} judged by published tables: measure to be sure."]


def untied(best: Weighed, tied: Sequence[Weighed]) -> list[str]:
    """More texts can tell variants apart only where divergence says which is better."""
    if not tied or best.tier is Tier.NEAR_LOSSLESS:
        return []
    if any(one.tier is Tier.NEAR_LOSSLESS for one in tied):
        return [f"A deep run says more surely whether {best.title} is near-lossless."]
    return [f"A deep run may tell {_listed([one.title for one in (best, *tied)])} apart."]


def too_slow(fastest: Weighed, wish: Wish) -> str:
    return (
        f"Nothing that fits answers at {wish.floor:g} tokens/s or more: the fastest that is not degraded is "
        f"{fastest.title}, which {speed(fastest)}."
    )


def only_degraded(one: Weighed, wish: Wish) -> str:
    return (
        f"Nothing good of this model fits into {size(wish.budget)} with {wish.context:,} tokens of context: "
        f"{one.title} would, but it {quality(one)}."
    )


def too_large(least: Weighed | None, case: Case) -> str:
    wish = case.wish
    taken = None if least is None else need(least.candidate, wish.context, wish.kv_type)
    if least is None or taken is None:
        return f"No variant of this model is known to fit into {size(wish.budget)}."
    return (
        f"No variant of this model fits into {size(wish.budget)}: {least.title} needs {size(taken)} "
        f"with {wish.context:,} tokens of context."
    )


def run_instead(one: Candidate) -> str:
    return f"A smaller model is the better way: run {one.name}, which fits (not measured here)."


def smaller_model(least: Weighed | None, case: Case, binding: str) -> str:
    """How large a model may be that fits, where none is at hand: cache and buffers shrink as the weights do."""
    if binding == "speed":
        return "A model with fewer parameters is the way to more speed."
    wish, bits = case.wish, None if least is None else least.candidate.bits_per_weight
    taken = None if least is None else need(least.candidate, wish.context, wish.kv_type)
    if least is None or not bits or taken is None:
        return "Take a model with fewer parameters."
    weights = least.candidate.size * 8 / bits
    beside = max(0, taken - least.candidate.size)
    count = int(wish.budget / (_FOUR_BITS / 8 + beside / weights))
    if count < _USEFUL:
        return "No language model of use is that small: give it more memory."
    return f"Take a smaller model: about {_parameters(count)} parameters at Q4_K_M fit."


def size(count: int) -> str:
    """Bytes for people."""
    return f"{count / _GIB:.1f} GiB" if count >= 0.95 * _GIB else f"{max(1, round(count / _MIB))} MiB"


def nats(value: float) -> str:
    return f"{value:.4f}" if value < 0.01 else f"{value:.3f}"


def percent(share: float) -> str:
    return f"{100 * share:.1f}"


def rate(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _interval(estimate: Estimate, text: Callable[[float], str], unit: str = "") -> str:
    value = text(estimate.value)
    if estimate.low is None or estimate.high is None:
        return f"{value}{unit}"
    return f"{value}{unit} [{text(estimate.low)}, {text(estimate.high)}]"


def _memory(one: Weighed, case: Case) -> str:
    wish = case.wish
    taken = need(one.candidate, wish.context, wish.kv_type)
    if taken is None:
        return ""
    if not one.candidate.memory:
        return f"has a file of {size(one.candidate.size)} (what it takes in memory is not known)"
    limit = "" if wish.budget >= UNLIMITED else f" of {size(wish.budget)}"
    return f"takes up to {size(taken)}{limit} with {wish.context:,} tokens of context"


def _settings(wish: Wish, asked: Wish) -> str:
    return "" if wish == asked else f" {_changed(asked, wish.kv_type, wish.context)}"


def _changed(asked: Wish, kv_type: str, context: int) -> str:
    parts = []
    if context != asked.context:
        parts.append(f"with {context:,} instead of {asked.context:,} tokens of context")
    if kv_type != asked.kv_type:
        parts.append(f"with the cache kept as {kv_type} (OLLAMA_KV_CACHE_TYPE={kv_type} on the host)")
    return " and ".join(parts)


def _parameters(count: int) -> str:
    """Rounded down: what is said to fit must."""
    return f"{count // 10**8 / 10:g} billion" if count >= 10**9 else f"{count // 10**7 * 10} million"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
