"""What the Settings screen says of keys, and the lines that put one into clients. Pure."""

from __future__ import annotations

from app.services.access_keys import AccessKey, KeyLimits, KeyScope
from app.services.key_usage import KeyView
from app.ui import view_models as vm

SCOPES = {
    KeyScope.READ: "Look: models, queue, figures",
    KeyScope.INFER: "Ask models, and chat here",
    KeyScope.ADMIN: "Everything",
}
FIRST = (
    "The first key has to be an administrator's, for yourself: from then on everybody needs a key, this browser too. "
    "Sign in with it when it asks."
)
ONCE = "Shown this once: Loupe keeps only a digest of it. Copy it before you go on."


def may(key: AccessKey) -> str:
    """What it is for: its scope, its models, its limits."""
    facts = [SCOPES[key.scope].lower(), ", ".join(key.models) if key.models else ""]
    return " · ".join(filter(None, [*facts, *limits(key.limits)]))


def limits(kept: KeyLimits) -> tuple[str, ...]:
    told = (
        f"{vm.grouped(kept.per_minute)} a minute" if kept.per_minute else "",
        f"{vm.grouped(kept.at_once)} at once" if kept.at_once else "",
        f"{vm.grouped(kept.tokens_a_day)} tokens a day" if kept.tokens_a_day else "",
    )
    return tuple(filter(None, told))


def used(view: KeyView, now: float) -> str:
    usage, day = view.usage, int(now // 86_400)
    if usage.last_used is None:
        return f"not used yet · made {vm.ago(max(0.0, now - view.key.created_at))}"
    today = (usage.requests_today, usage.tokens_today) if usage.day == day else (0, 0)
    facts = (
        f"today {vm.count(today[0], 'request')}, {vm.count(today[1], 'token')}",
        f"in all {vm.count(usage.requests, 'request')}, {vm.count(usage.tokens, 'token')}",
        f"{usage.running} running" if usage.running else "",
        f"last used {vm.ago(max(0.0, now - usage.last_used))}",
    )
    return " · ".join(filter(None, facts))


def state(key: AccessKey, now: float) -> tuple[str, str]:
    """In words, and its tone."""
    if key.revoked_at is not None:
        return f"revoked {vm.ago(max(0.0, now - key.revoked_at))}", "bad"
    return str(key.scope), "plain"


def lines(base: str, secret: str) -> tuple[tuple[str, str], ...]:
    """(what it is for, the line) for the clients that most have."""
    return (
        ("curl", f'curl -H "Authorization: Bearer {secret}" {base}/api/tags'),
        ("OpenAI's clients", f"export OPENAI_BASE_URL={base}/v1 OPENAI_API_KEY={secret}"),
        ("Ollama's Python client", f"export OLLAMA_HOST={base} OLLAMA_API_KEY={secret}"),
        ("Anthropic's clients", f"export ANTHROPIC_BASE_URL={base} ANTHROPIC_API_KEY={secret}"),
    )


def revoking(key: AccessKey, *, last: bool) -> tuple[str, ...]:
    """What revoking it does. `last`: no other administrator is left."""
    told = (
        "Whoever uses it is refused from now on, and browsers that signed in with it are signed out. What it has begun "
        "ends by itself. It cannot be brought back; make a new one instead.",
    )
    if not last:
        return told
    return (*told, "It is the last administrator's. After it, only the command line on this machine can make another.")
