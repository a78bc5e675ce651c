"""Recognising a model file's own chat template, so that an imported model gets a Go template (create_from_gguf).

Ollama looks for the nearest of some forty published templates and takes it when fewer than a hundred edits lie
between. Here only ChatML is recognised, by the same measure: a model with another template keeps its own, which is
rendered inside the worker and is nearer to what it was trained with.
"""

from __future__ import annotations

from dataclasses import dataclass

from app.core.generation import Json

_NEAR = 100  # edits, as in Ollama's template.Named
_START, _END = "<|im_start|>", "<|im_end|>"

_TURN = f"{{{{'{_START}' + message['role'] + '\\n' + message['content'] + '{_END}' + '\\n'}}}}"
_FIRST = f"{{% if loop.first and messages[0]['role'] != 'system' %}}{{{{ '{_START}system\\n{_END}\\n' }}}}{{% endif %}}"
_LAST = f"{{% if add_generation_prompt %}}{{{{ '{_START}assistant\\n' }}}}{{% endif %}}"
# As Jinja: every message a turn; and the same with a system text of its own where the chat brings none. What that
# text says is left out: it counts as edits.
_FORMS = tuple(
    text.replace("\\n", newline)
    for text in (
        f"{{% for message in messages %}}{_TURN}{{% endfor %}}{_LAST}",
        f"{{% for message in messages %}}{_FIRST}{_TURN}{{% endfor %}}{_LAST}",
    )
    for newline in ("\n", "\\n")
)
_LONGEST = max(map(len, _FORMS)) + _NEAR


@dataclass(frozen=True, slots=True)
class KnownTemplate:
    """A Go template with the parameters that belong to it."""

    name: str
    text: str
    parameters: dict[str, Json]


_CHATML = KnownTemplate(
    "chatml",
    f"{{{{- range .Messages }}}}{_START}{{{{ .Role }}}}\n{{{{ .Content }}}}{_END}\n{{{{ end }}}}{_START}assistant\n",
    {"stop": [_START, _END]},
)


def recognised(template: str) -> KnownTemplate | None:
    """The Go template for a model file's chat template, or None. Takes some tens of milliseconds at most."""
    if len(template) >= _LONGEST or _START not in template or _END not in template:
        return None
    return _CHATML if any(_within(template, form, _NEAR) for form in _FORMS) else None


def _within(one: str, other: str, limit: int) -> bool:
    """Whether fewer than `limit` edits (Levenshtein) lead from one to the other: a band of the table is enough."""
    if abs(len(one) - len(other)) >= limit:
        return False
    far = limit + 1
    above = [column if column < limit else far for column in range(len(other) + 1)]
    for row, character in enumerate(one, 1):
        first, last = max(1, row - limit), min(len(other), row + limit)
        line = [far] * (len(other) + 1)
        line[0] = row if row < limit else far
        for column in range(first, last + 1):
            changed = above[column - 1] + (character != other[column - 1])
            line[column] = min(changed, above[column] + 1, line[column - 1] + 1, far)
        if min(line) >= limit:
            return False
        above = line
    return above[-1] < limit
