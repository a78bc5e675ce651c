"""The Modelfile in what a host shows: recorded ones, and the quoting that nothing escapes."""

from __future__ import annotations

from app.wire.modelfile import read_modelfile
from tests.recordings import recording


def test_the_recorded_ones_give_file_template_and_licences() -> None:
    plain = recording("show").body
    told = read_modelfile(plain["modelfile"])
    assert len(told.files) == 1 and told.files[0].endswith("/blobs/" + told.files[0].rpartition("/")[2])
    assert told.template == plain["template"] and told.licenses == ()
    derived = recording("show_derived").body
    told = read_modelfile(derived["modelfile"])
    assert told.template == derived["template"]
    assert "\n".join(told.licenses) == derived.get("license", "")


def test_several_files_adapters_drafts_renderers_and_licences() -> None:
    told = read_modelfile(
        "# Modelfile\n# FROM x:latest\n\nFROM C:\\models\\blobs\\sha256-a\nADAPTER /l\nDRAFT /d\n"
        "FROM /models/blobs/sha256-b\n"
        'TEMPLATE {{ .Prompt }}\nSYSTEM """\nSay "no".\nFROM here on.\n"""\nRENDERER gemma4\nPARSER gemma4\n'
        'PARAMETER stop x\nLICENSE "\nMIT\n"\nLICENSE Apache\nMESSAGE user hi\n'
    )
    assert told.files == ("C:\\models\\blobs\\sha256-a", "/models/blobs/sha256-b")
    assert (told.adapters, told.drafts) == (("/l",), ("/d",))
    assert (told.template, told.renderer, told.parser) == ("{{ .Prompt }}", "gemma4", "gemma4")
    assert told.licenses == ("\nMIT\n", "Apache")


def test_text_inside_a_quoted_value_is_no_command() -> None:
    told = read_modelfile(
        'FROM /m\nTEMPLATE """{{ if eq .Role "user" }}\nFROM /etc/passwd\n{{ end }}"""\nLICENSE MIT\n'
    )
    assert told.files == ("/m",) and told.licenses == ("MIT",)
    assert told.template == '{{ if eq .Role "user" }}\nFROM /etc/passwd\n{{ end }}'


def test_a_quote_that_is_never_closed_ends_with_its_line() -> None:
    told = read_modelfile('FROM /m\nTEMPLATE "half\nLICENSE MIT\n')
    assert told.template == '"half' and told.licenses == ("MIT",)
    assert read_modelfile("") == read_modelfile("no command at all")
