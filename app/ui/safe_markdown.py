"""Makes Markdown that a model wrote safe to hand to the page. Pure.

Model output must cause no network request. The page renders Markdown without HTML, so what is left to defuse are
images (fetched at once), Mermaid diagrams (their nodes can name image addresses), and the page's own directives
(`:red[…]`, `:material/…:`), with which an answer could dress up as part of the page. Links stay: the page opens
them in a new tab with `noopener noreferrer`, and only when they are clicked.

Text in a code block never passes here: `markdown_blocks` splits it out, and it is shown without being parsed.
"""

from __future__ import annotations

import html
import re

# WORD JOINER: invisible, no width, and enough to keep the two characters around it from forming a token.
JOINER = "\u2060"

_IMAGE = re.compile(r"!(?=\\*\[)")
# An image needs an address: inline `](`, full or collapsed reference `][`, or a definition `]:` for a shortcut one.
# Without any of the three, `![` is only text (`vec![0; 4]`), and stays exact for those who copy it.
_PLAIN_IMAGE = re.compile(r"!\[(?P<alt>[^\[\]\n]*)\](?=\([^()\s]+\))")
_ADDRESSED = re.compile(r"\]\s*[(\[:]")
_FENCE_LINE = re.compile(r"^(?P<lead>[^\n]*?(?:`{3,}|~{3,}))(?P<info>[^\n]*)$", re.MULTILINE)
_DIRECTIVE = re.compile(r":(?=[A-Za-z][\w-]*\[|material/|streamlit:)")
_CODE_SPAN = re.compile(r"(?P<ticks>`+)(?!`).*?(?<!`)(?P=ticks)(?!`)", re.DOTALL)


def neutralise(text: str) -> str:
    """The same Markdown, unable to load anything or to pose as part of the page."""
    text = _FENCE_LINE.sub(_without_mermaid, text)
    text = _outside_code_spans(text)
    if _ADDRESSED.search(text):
        text = _IMAGE.sub("!" + JOINER, text)
    return text


def _without_mermaid(match: re.Match[str]) -> str:
    # The parser decodes character references in the info string, so `mer&#109;aid` counts too.
    info = match["info"]
    return match["lead"] + ("text" if "mermaid" in html.unescape(info).lower() else info)


def _outside_code_spans(text: str) -> str:
    """Tame images and directives, but leave what is quoted as code as it is (no harm there: it is not parsed)."""
    parts: list[str] = []
    at = 0
    for span in _CODE_SPAN.finditer(text):
        parts += [_tamed(text[at : span.start()]), span.group()]
        at = span.end()
    return "".join([*parts, _tamed(text[at:])])


def _tamed(prose: str) -> str:
    """An image becomes a link that says what it is. What this misses, `neutralise` still breaks."""
    linked = _PLAIN_IMAGE.sub(lambda match: f"[image: {match['alt'] or 'without a name'}]", prose)
    return _DIRECTIVE.sub(":" + JOINER, linked)
