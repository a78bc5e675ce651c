"""What can go wrong with a Go template, and the bounds that end a hostile one quickly."""

from __future__ import annotations

from app.core.errors import BadRequest

MAX_TEMPLATE = 64 * 1024  # bytes of template text; the longest published one has 10 KiB
MAX_TEXT = 1 << 20  # bytes of one rendering, and of every string made on the way
MAX_STEPS = 500_000  # nodes and arguments evaluated; a chat of 2,000 messages needs about 150,000
MAX_NESTING = 100  # blocks and parentheses inside each other, templates calling templates, levels of JSON


class GoTemplateError(BadRequest):
    """A template that cannot be read or executed. The message is Go's own sentence where Go has one."""

    code = "template"

    def __init__(self, message: str) -> None:
        super().__init__(message, field="template")


class GoTemplateUnsupported(GoTemplateError):
    """The template uses something outside the subset; `construct` names it, e.g. `the function "foo"`."""

    def __init__(self, construct: str, message: str | None = None) -> None:
        super().__init__(message or f"this template uses {construct}, which is not supported here")
        self.construct = construct


class GoTemplateLimit(GoTemplateError):
    """A bound of this module was reached: the template is too long, too deep, too slow, or says too much."""


class GoFunctionError(Exception):
    """Carries the sentence of a failed function to the place that knows where in the template it was called."""
