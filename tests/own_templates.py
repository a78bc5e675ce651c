"""Copies of the starter whose files bring another chat template, and requests that make so small a model call tools.

The header is changed byte by byte, not by the code that is tested.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from app.models.gguf_file import read_gguf
from tests.starter_cache import variant_gguf

KEY = "tokenizer.chat_template"

# ChatML with tools as JSON, calls between tags, and thinking that the prompt begins.
JINJA = """{%- if tools %}<|im_start|>system
You may call functions: {{ tools | tojson }}<|im_end|>
{% endif %}{%- for m in messages %}<|im_start|>{{ m.role }}
{% if m.reasoning_content %}<think>
{{ m.reasoning_content }}
</think>
{% endif %}{{ m.content if m.content is string else '' }}{% if m.tool_calls %}{% for c in m.tool_calls %}
<tool_call>
{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}
</tool_call>{% endfor %}{% endif %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% if enable_thinking is defined and enable_thinking %}<think>
{% endif %}{% endif %}"""

# The same as a Go template; an answer that is gone on with stays open.
GO = """{{- if .Tools }}<|im_start|>system
You may call functions: {{ .Tools }}<|im_end|>
{{ end }}
{{- range $i, $_ := .Messages }}
{{- $last := eq (len (slice $.Messages $i)) 1 }}<|im_start|>{{ .Role }}
{{ if .Thinking }}<think>
{{ .Thinking }}
</think>
{{ end }}{{ .Content }}
{{- if .ToolCalls }}{{ range .ToolCalls }}
<tool_call>
{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}
</tool_call>
{{- end }}{{ end }}
{{- if not (and $last (eq .Role "assistant")) }}<|im_end|>
{{ end }}
{{- if and $last (ne .Role "assistant") }}<|im_start|>assistant
{{ if $.Think }}<think>
{{ end }}{{ end }}
{{- end }}"""

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def asked_before(*cities: str) -> list[dict[str, Any]]:
    """A talk in which the weather of `cities` was asked for, found with a tool, and told."""
    messages: list[dict[str, Any]] = []
    for number, city in enumerate(cities):
        call = {"id": f"call_{number}", "function": {"name": "get_weather", "arguments": {"city": city}}}
        messages += [
            {"role": "user", "content": f"Weather in {city}?"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": str(11 + number), "tool_name": "get_weather", "tool_call_id": f"call_{number}"},
            {"role": "assistant", "content": f"It is {11 + number} degrees in {city}."},
        ]
    return messages


def summed_before(*sums: tuple[int, int]) -> list[dict[str, Any]]:
    """A talk in which `sums` were asked for, thought about, and told."""
    messages: list[dict[str, Any]] = []
    for one, other in sums:
        told = {"thinking": f"{one} and {other} make {one + other}.", "content": f"The sum is {one + other}."}
        messages += [{"role": "user", "content": f"What is {one}+{other}?"}, {"role": "assistant", **told}]
    return messages


def with_own_template(text: str, target: Path, tag: str = "q8_0") -> Path:
    """A copy of the starter's variant `tag` in `target` whose file brings the chat template `text`."""
    source = variant_gguf(tag)
    entry = read_gguf(source).metadata.entry(KEY)
    content = source.read_bytes()
    comment = b"{#" + bytes((entry.end - entry.value - 8 - len(text.encode()) - 4) % 32).replace(b"\0", b".") + b"#}"
    told = text.encode() + comment  # as long as leaves everything behind it aligned
    target.write_bytes(content[: entry.value] + struct.pack("<Q", len(told)) + told + content[entry.end :])
    assert (read_gguf(target).text(KEY) or "").startswith(text)
    return target
