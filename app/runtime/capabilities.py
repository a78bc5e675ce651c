"""What a model can do, in Ollama's words: from its Go template, or from its file's own chat template without
rendering that, from its config and its file. And which of the two templates is used.

Source: protocol 2.4 and the rules of Ollama 0.33 (server/images.go). What this runtime cannot do itself (vision,
audio) is never claimed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from app.core.errors import BadRequest
from app.core.generation import Json
from app.runtime.templates.go_hints import thinking_tags
from app.runtime.templates.go_template import GoTemplate
from app.wire.go_duration import quote_go

_POSSIBLE = ("completion", "tools", "insert", "thinking", "embedding")
_GPT_OSS = ("gptoss", "gpt-oss")
_TOOL_TURNS = (
    "tool_response", "tool_results", "ipython",
    "role'] == 'tool'", "role'] == \"tool\"", "role\"] == 'tool'", 'role"] == "tool"',
    "message.role == 'tool'", 'message.role == "tool"',
)  # fmt: skip
_GO_TOOL_TURNS = ('eq .Role "tool"', "tool_response", "TOOL_RESULTS")


def own_template_abilities(text: str) -> tuple[str, ...]:
    """What a model file's own chat template knows how to say: "tools", "thinking"."""
    found = ["tools"] if "tools" in text or "tool_call" in text else []
    return (*found, "thinking") if _shows_thinking(text) else tuple(found)


def _shows_thinking(text: str) -> bool:
    if "<think>" in text and "</think>" in text:
        return True
    cuts = "content.split('</think>')" in text or 'content.split("</think>")' in text
    return cuts and "reasoning_content" not in text and "<SPECIAL_12>" not in text


def go_template_abilities(template: GoTemplate | None) -> tuple[str, ...]:
    """What a Go template knows how to say: "tools", "insert", "thinking"."""
    if template is None:
        return ()
    named = [ability for name, ability in (("tools", "tools"), ("suffix", "insert")) if name in template.variables]
    return (*named, "thinking") if all(thinking_tags(template)) else tuple(named)


def prefers_own_template(own: str, template: GoTemplate) -> bool:
    """Whether the file's own chat template can do more than the Go template `template`."""
    ours, theirs = go_template_abilities(template), own_template_abilities(own)
    answers = "tools" in ours and "toolcalls" in template.variables and any(m in template.text for m in _GO_TOOL_TURNS)
    own_answers = (
        "tools" in theirs
        and ("tool_calls" in own or "assistant_tool_call" in own)
        and any(mark in own for mark in _TOOL_TURNS)
    )
    if len(theirs) > len(ours):
        return not answers or own_answers
    return set(theirs) == set(ours) and "tools" in ours and own_answers and not answers


def uses_built_in(config: Mapping[str, Json], template_text: str) -> bool:
    """Whether Ollama would render and parse with code of its own that is not in this runtime."""
    harmony = config.get("model_family") in _GPT_OSS and "<|start|>" in template_text and "<|end|>" in template_text
    return bool(config.get("renderer") or config.get("parser")) or harmony


def capabilities(
    config: Mapping[str, Json], template: GoTemplate | None, own: str, *, native: bool, pools: bool
) -> tuple[str, ...]:
    """All of it, in Ollama's order. `native`: the file's own template `own` ("" for none) is what is used."""
    told = config.get("capabilities")
    found: list[Json] = list(told) if isinstance(told, list) else []
    found += own_template_abilities(own) if native else ()
    found.append("embedding" if pools else "completion")
    found += () if native else go_template_abilities(template)
    if native and config.get("model_family") in _GPT_OSS:
        found.append("thinking")
    return tuple(_once(ability for ability in found if ability in _POSSIBLE))


def _once(names: Iterable[Json]) -> list[str]:
    return list(dict.fromkeys(str(name) for name in names))


def asked_thinking(can: tuple[str, ...], config: Mapping[str, Json], asked: Json) -> bool | str | None:
    """`think` as it holds for a model that can do `can`: a model that can think does so unless it is told not to."""
    if asked is None:
        return True if "thinking" in can else None
    if asked == "max" and config.get("model_family") in _GPT_OSS:
        return "high"  # its own scale ends there
    return asked if isinstance(asked, bool | str) else None


def check_abilities(can: tuple[str, ...], body: Mapping[str, Json], full_name: str, *, chat: bool) -> None:
    """What a model that can do `can` cannot do for a request, in Ollama's words and order. Raises `BadRequest`."""
    quoted = quote_go(str(body.get("model")))
    if not chat and body.get("raw") is True and (body.get("template") or body.get("system") or body.get("context")):
        raise BadRequest("raw mode does not support template, system, or context")
    if body.get("think") not in (None, False) and "thinking" not in can:
        raise BadRequest(f"{quoted} does not support thinking", "think")
    if "completion" not in can:
        raise BadRequest(f"{quoted} does not support {'chat' if chat else 'generate'}")
    if not chat and body.get("suffix") and "insert" not in can:
        raise BadRequest(f"{full_name} does not support insert", "suffix")
    if chat and body.get("tools") and "tools" not in can:
        raise BadRequest(f"{full_name} does not support tools", "tools")
