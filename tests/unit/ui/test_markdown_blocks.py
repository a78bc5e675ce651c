"""The block splitter: any chunking gives the same blocks, and what is finished never changes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.ui.markdown_blocks import BlockReader, finished, merged, split

SAMPLE = """# Loading

First paragraph,
two lines.

1. one

2. two
   more of two

   ```py
   x = 1

   y = 2
   ```
3. three

| a | b |
|---|---|
| 1 | 2 |

```rust
let v = vec![1, 2];

// blank line above
```
> quoted

- a

- b

Last words."""

PIECES = st.lists(
    st.sampled_from(
        ["\n", "\n\n", "a", "b ", " ", "   ", "- ", "* ", "1", "1.", "1. ", "2) ", "```", "``", "`", "~~~", "py\n",
         "# ",          "| a |", "> ", "text", "\t", "---", "\r\n", "![x](y)", "\u2028"]
    ),
    max_size=40,
).map("".join)  # fmt: skip


@given(PIECES)
def test_blocks_of_a_prefix_are_the_first_blocks_of_the_whole(text: str) -> None:
    whole = [block.source for block in split(text)]
    for end in range(len(text)):
        final = [block.source for block in split(text[:end])][:-1]
        assert whole[: len(final)] == final


@given(PIECES, st.lists(st.integers(0, 60), max_size=12))
def test_any_chunking_gives_the_same_blocks(text: str, cuts: list[int]) -> None:
    reader, at = BlockReader(), 0
    for cut in sorted(cuts):
        reader.feed(text[at : max(at, cut)])
        at = max(at, min(cut, len(text)))
    reader.feed(text[at:])
    assert reader.blocks == split(text)


@given(PIECES)
def test_no_character_is_lost(text: str) -> None:
    joined = "".join(block.source for block in split(text))
    assert joined == (text if text.strip() else "")


@given(st.integers(1, 7))
def test_a_real_answer_streams_to_the_blocks_of_the_whole(size: int) -> None:
    reader = BlockReader()
    for at in range(0, len(SAMPLE), size):
        reader.feed(SAMPLE[at : at + size])
    assert reader.blocks == split(SAMPLE)


def test_code_fences_become_code_with_their_exact_text() -> None:
    code = [block for block in finished(SAMPLE) if block.is_code]
    assert [(block.language, block.text) for block in code] == [
        ("py", "x = 1\n\ny = 2"),
        ("rust", "let v = vec![1, 2];\n\n// blank line above"),
    ]


def test_a_loose_list_stays_one_block() -> None:
    assert [b.text for b in finished("- a\n\n- b\n\nend")] == ["- a\n\n- b\n\n", "end\n"]


def test_a_table_stays_one_block() -> None:
    table = "| a | b |\n|---|---|\n| 1 | 2 |\n"
    assert [b.text for b in finished(f"before\n\n{table}\nafter")][1].strip() == table.strip()


def test_an_open_fence_is_code_at_once_and_its_marks_do_not_flash() -> None:
    assert split("look:\n```py")[-1].text == "look:"
    assert [b.is_code for b in split("look:\n```py\nx = 1\n``")] == [False, True]
    assert split("look:\n```py\nx = 1\n``")[-1].text == "x = 1"


def test_a_longer_fence_holds_a_shorter_one() -> None:
    (block,) = finished("````md\n```py\nx\n```\n````")
    assert block.text == "```py\nx\n```"


def test_inline_backticks_at_the_end_of_a_finished_text_are_kept() -> None:
    assert finished("see ```x```")[-1].text == "see ```x```\n"
    assert finished("```x```")[-1].text == "```x```\n"


def test_merging_joins_prose_and_keeps_code_apart() -> None:
    kinds = [block.is_code for block in merged(finished("a\n\nb\n\n```\nx\n```\n\nc\n\nd"))]
    assert kinds == [False, True, False]


def test_blank_text_has_no_blocks() -> None:
    assert split("") == split("\n  \n") == ()
