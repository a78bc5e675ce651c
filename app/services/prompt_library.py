"""System prompts as files: one Markdown file each, TOML front matter and a body. `prompts/README.md` is the format.

Files are read anew whenever their folder changed, so that an edited prompt is there on the next look. A file that
cannot be used is left out and named in `problems`; it never takes the others down.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.core.errors import BadRequest, PromptVariablesMissing

LARGEST = 256 * 1024  # bytes; a system prompt beyond it would not fit any context that this product meets
_PLACE = re.compile(r"\{\{\s*([a-z][a-z0-9_]*)\s*\}\}")
_NAME = re.compile(r"^[a-z0-9][a-z0-9-]*$")


@dataclass(frozen=True, slots=True)
class Variable:
    """A blank in a prompt; without a default it has to be filled in."""

    name: str
    label: str
    default: str | None = None


@dataclass(frozen=True, slots=True)
class Prompt:
    """`name` is the file's name without `.md`; `text` still has its `{{blanks}}`."""

    name: str
    title: str
    description: str
    text: str
    variables: tuple[Variable, ...] = ()

    def render(self, values: Mapping[str, str] | None = None) -> str:
        """The text with its blanks filled in. Raises `PromptVariablesMissing` naming all that are not."""
        known = {v.name: v.default for v in self.variables if v.default is not None}
        known |= {name: value for name, value in (values or {}).items() if value.strip()}
        missing = tuple(v.name for v in self.variables if v.name not in known)
        if missing:
            raise PromptVariablesMissing(missing)
        return _PLACE.sub(lambda match: known[match[1]], self.text)


class _VariableForm(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    label: str = Field(min_length=1, max_length=80)
    default: str | None = None


class _Front(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    title: str = Field(min_length=1, max_length=60)
    description: str = Field(default="", max_length=200)
    order: int = 100
    variables: dict[str, _VariableForm] = {}


class PromptLibrary:
    """The prompts of one or more folders; a later folder's file replaces an earlier one's of the same name."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = tuple(folders)
        self._seen: tuple[tuple[str, int, int], ...] | None = None
        self._prompts: dict[str, Prompt] = {}
        self.problems: tuple[str, ...] = ()

    def list(self) -> tuple[Prompt, ...]:
        """By the files' `order`, then by title."""
        self._refresh()
        return tuple(self._prompts.values())

    def get(self, name: str) -> Prompt:
        self._refresh()
        if name not in self._prompts:
            raise BadRequest(f"there is no prompt named {name!r}", field="prompt")
        return self._prompts[name]

    def render(self, name: str, values: Mapping[str, str] | None = None) -> str:
        return self.get(name).render(values)

    def _refresh(self) -> None:
        files = [path for folder in self._folders if folder.is_dir() for path in sorted(folder.glob("*.md"))]
        files = [path for path in files if path.stem != "README"]
        stats = [(path, path.stat()) for path in files]
        seen = tuple((str(path), stat.st_mtime_ns, stat.st_size) for path, stat in stats)
        if seen == self._seen:
            return
        found: dict[str, tuple[int, Prompt]] = {}
        problems: list[str] = []
        for path in files:
            try:
                found[path.stem] = read_prompt(path)
            except BadRequest as problem:
                problems.append(problem.message)
        ordered = sorted(found.values(), key=lambda pair: (pair[0], pair[1].title))
        self._prompts = {prompt.name: prompt for _, prompt in ordered}
        self.problems = tuple(problems)
        self._seen = seen


def read_prompt(path: Path) -> tuple[int, Prompt]:
    """(order, prompt) of one file. Raises `BadRequest` with the file's name and what is wrong with it."""
    try:
        raw = path.read_bytes()
        if len(raw) > LARGEST:
            raise BadRequest(f"{path.name}: larger than {LARGEST // 1024} KiB")
        front, body = split_front_matter(raw.decode("utf-8").replace("\r\n", "\n"), path.name)
        form = _Front.model_validate(tomllib.loads(front))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as problem:
        raise BadRequest(f"{path.name}: {problem}") from problem
    except ValidationError as problem:
        told = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in problem.errors())
        raise BadRequest(f"{path.name}: {told}") from problem
    _check(path, body, set(form.variables))
    variables = tuple(Variable(name, v.label, v.default) for name, v in form.variables.items())
    return form.order, Prompt(path.stem, form.title, form.description, body, variables)


def split_front_matter(text: str, name: str) -> tuple[str, str]:
    """The block between two lines `+++` and the text after it. Raises `BadRequest` where there is none."""
    if not text.startswith("+++\n") or "\n+++\n" not in text[3:]:
        raise BadRequest(f"{name}: has no front matter; it begins and ends with a line +++")
    front, _, body = text[4:].partition("+++\n") if text[4:].startswith("+++\n") else text[4:].partition("\n+++\n")
    return front, body.strip()


def _check(path: Path, body: str, declared: set[str]) -> None:
    if not _NAME.match(path.stem):
        raise BadRequest(f"{path.name}: a prompt's file name has lower-case letters, digits and - only")
    if not body:
        raise BadRequest(f"{path.name}: has no text after its front matter")
    used = {match[1] for match in _PLACE.finditer(body)}
    if used - declared:
        raise BadRequest(f"{path.name}: declare under [variables]: {', '.join(sorted(used - declared))}")
    if declared - used:
        raise BadRequest(f"{path.name}: declared but not used: {', '.join(sorted(declared - used))}")
