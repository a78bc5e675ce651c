"""Licences that restrict use are told, free ones are not, and none is guessed from a word somewhere in the text."""

from __future__ import annotations

import pytest

from app.models.licenses import is_free, license_name, restriction

LLAMA = "LLAMA 3.2 COMMUNITY LICENSE AGREEMENT\nLlama 3.2 Version Release Date: September 25, 2024\n\n“Agreement” means"
GEMMA = "Gemma Terms of Use \n\nLast modified: February 21, 2024\n\nBy using, reproducing, modifying"
APACHE = "                                 Apache License\n                           Version 2.0, January 2004"
QWEN = "Tongyi Qianwen LICENSE AGREEMENT\n\nTongyi Qianwen Release Date: August 3, 2023"
RESEARCH = "Qwen RESEARCH LICENSE AGREEMENT\n\nQwen RESEARCH LICENSE AGREEMENT Release Date: September 19, 2024"
MISTRAL = "# Mistral AI Research License\n\nIf You want to use a Mistral Model"
DEEPSEEK = "DEEPSEEK LICENSE AGREEMENT\n\nVersion 1.0, 23 October 2023"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (LLAMA, "700 million"), (GEMMA, "prohibited uses"), (QWEN, "100 million"), (RESEARCH, "no commercial use"),
        (MISTRAL, "no commercial use"), (DEEPSEEK, "forbids some uses"), ("cc-by-nc-4.0", "no commercial use"),
        ("bigscience-openrail-m", "forbids some uses"), ("Falcon 180B TII License Version 1.0", "conditions of use"),
    ],
)  # fmt: skip
def test_what_restricts_use_is_told_with_its_name(text, told):
    found = restriction(text)
    assert told in found and license_name(text) in found and found.endswith(".")
    assert not is_free(text)


@pytest.mark.parametrize(
    "text", [APACHE, "apache-2.0", "MIT License\n\nCopyright", "mit", "CC0", "BSD-3-Clause", "Unlicense"]
)
def test_free_licences_are_free(text):
    assert restriction(text) == "" and is_free(text)


@pytest.mark.parametrize("text", ["", "A licence of our own", "All rights reserved"])
def test_what_is_not_known_is_neither(text):
    assert restriction(text) == "" and not is_free(text)


def test_only_the_top_is_read_for_a_long_text_may_quote_others():
    assert restriction("MIT License\n" + "x " * 4000 + "non-commercial") == ""


def test_a_licence_is_called_by_its_first_words():
    assert license_name("\n\n   Apache License  \nVersion 2.0") == "Apache License"
    assert license_name("x" * 500) == "x" * 120
    assert license_name("") == ""
