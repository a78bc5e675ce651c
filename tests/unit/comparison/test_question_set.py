"""The questions that are shipped, a user's own files, and what is said of bad ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.comparison.long_contexts import DOMAIN, with_long_contexts
from app.comparison.question_set import LONGEST, own_set, read_questions, read_set, shipped_sets
from app.core.errors import BadRequest
from app.services.prompt_library import PromptLibrary

PROMPTS = Path(__file__).parents[3] / "prompts"
FRONT = '+++\ntitle = "Mine"\nversion = 2\n+++\n'


def test_the_shipped_questions_are_eight_kinds_of_eighteen():
    sets, problems = shipped_sets(PROMPTS / "compare")
    assert problems == () and [one.name for one in sets] == ["standard"]
    (standard,) = sets
    assert len(standard.questions) == 144 and len(standard.domains) == 8
    assert len({question.text for question in standard.questions}) == 144
    assert all(question.text.isascii() for question in standard.questions)


def test_every_beginning_and_every_third_has_all_kinds_alike():
    standard = read_set(PROMPTS / "compare" / "standard.md")
    assert len({question.domain for question in standard.questions[:8]}) == 8
    thirds = [standard.third(number) for number in range(3)]
    ids = [{question.id for question in third.questions} for third in thirds]
    assert [len(part) for part in ids] == [48, 48, 48] and len(set.union(*ids)) == 144
    assert all(len(third.domains) == 8 for third in thirds)
    assert len({third.identity for third in thirds}) == 3


def test_they_are_no_system_prompts():
    library = PromptLibrary([PROMPTS])
    assert "standard" not in [prompt.name for prompt in library.list()] and library.problems == ()


def test_a_set_is_known_by_its_questions_and_not_by_their_file(tmp_path):
    (tmp_path / "mine.md").write_text(f"{FRONT}## code\n\n- One?\n- Two?\n\n## prose\n- Three?\n")
    (tmp_path / "same.md").write_text(f"{FRONT}## code\n- One?\n- Two?\n## prose\n- Three?\n")
    (tmp_path / "other.md").write_text(f"{FRONT}## code\n- One?\n- Two!\n## prose\n- Three?\n")
    mine, same, other = (read_set(tmp_path / f"{name}.md") for name in ("mine", "same", "other"))
    assert [question.id for question in mine.questions] == ["code-01", "prose-01", "code-02"]
    assert mine.sha256 == same.sha256 != other.sha256
    assert mine.identity.startswith("mine@2:")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("## a\n- b", "front matter"),
        ("+++\nversion = 1\n+++\n## a\n- b", "title"),
        ('+++\ntitle = "x"\n+++\n## a\n- b', "version"),
        ('+++\ntitle = "x"\nversion = 1\nfoo = 2\n+++\n## a\n- b', "foo"),
        ("+++\ntitle = \n+++\n## a\n- b", "bad.md"),
        (FRONT + "- b", "before any domain"),
        (FRONT + "## a\nb", "line 2"),
        (FRONT + "## a\n## b\n- c", "under a"),
        (FRONT, "no questions"),
        (FRONT + "## a\n- b\n- b", "twice"),
        (FRONT + "## a\n- b\n## a\n- c", "twice"),
        (FRONT + "## a\n- " + "b" * (LONGEST + 1), "longer"),
    ],
)
def test_a_bad_set_is_named_with_what_is_wrong_and_leaves_the_others(tmp_path, text, told):
    (tmp_path / "bad.md").write_text(text)
    (tmp_path / "good.md").write_text(f"{FRONT}## a\n- b?\n")
    sets, problems = shipped_sets(tmp_path)
    assert [one.name for one in sets] == ["good"]
    assert len(problems) == 1 and problems[0].startswith("bad.md") and told in problems[0]


def test_a_plain_text_file_has_a_question_on_every_line(tmp_path):
    path = tmp_path / "My Questions.txt"
    path.write_text("\ufeffWhy?\r\n\r\n  What for?  \nWhy?\n")
    found = read_questions(path)
    assert [(q.id, q.domain, q.text) for q in found.questions] == [
        ("own-001", "own", "Why?"),
        ("own-002", "own", "What for?"),
    ]
    assert found.name == "my-questions"


def test_json_lines_are_read_in_every_usual_shape(tmp_path):
    path = tmp_path / "log.jsonl"
    chat = {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "e"}]}
    lines = ["a", {"prompt": "b"}, {"question": "c"}, {"text": "d"}, chat]
    path.write_text("\n".join(json.dumps(line) for line in lines))
    assert [question.text for question in read_questions(path).questions] == ["a", "b", "c", "d", "e"]


def test_a_set_of_ones_own_is_read_with_its_domains(tmp_path):
    (tmp_path / "mine.md").write_text(f"{FRONT}## law\n- One?\n")
    assert read_questions(tmp_path / "mine.md").domains == ("law",)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.txt", b"", "no question"),
        ("a.txt", b"\xff\xfe\x00", "a.txt"),
        ("a.jsonl", b'{"a": 1}', "a.jsonl, line 1"),
        ("a.jsonl", b'"x"\n{', "a.jsonl, line 2"),
    ],
)
def test_a_bad_file_says_which_line(tmp_path, name, content, told):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadRequest, match=told):
        read_questions(tmp_path / name)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BadRequest, match="none.txt"):
        read_questions(tmp_path / "none.txt")


def test_the_questions_of_a_conversation_are_a_set():
    found = own_set("chat-7", "About bees", ["How do bees sleep?", " ", "And wasps?", "How do bees sleep?"])
    assert [question.text for question in found.questions] == ["How do bees sleep?", "And wasps?"]


def test_deep_runs_ask_about_long_texts_too_early_enough_to_be_reached():
    standard = read_set(PROMPTS / "compare" / "standard.md")
    deep, again = with_long_contexts(standard), with_long_contexts(standard)
    long = [question for question in deep.questions if question.domain == DOMAIN]
    assert len(long) == 6 and set(long) <= set(deep.questions[:96]) and len({q.text for q in long}) == 6
    assert all(8000 < len(question.text) < 9000 and question.text.isascii() for question in long)
    assert deep.identity == again.identity != standard.identity
    assert [q for q in deep.questions if q.domain != DOMAIN] == list(standard.questions)
