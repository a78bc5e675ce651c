"""HTML and words that components make, without a page."""

from __future__ import annotations

from app.core.conversations import Answer, StoredMessage
from app.core.generation import Span, Usage
from app.core.hosts import HostAddress, HostState, HostStatus
from app.models.catalog import CatalogFamily, CatalogVariant, CatalogView
from app.ui.chat_view import default_model
from app.ui.components import page_keys
from app.ui.components.answer_footer import footer
from app.ui.components.host_strip import host_words
from app.ui.components.variant_picker import state_words
from app.ui.view_models import plain

EMBEDDED = HostAddress("built-in", "http://127.0.0.1:4000", embedded=True)
OLLAMA = HostAddress("ollama", "http://127.0.0.1:11434")


def words(*hosts: HostStatus) -> str:
    return " ".join(host_words(hosts) or ())


def test_hosts_that_are_well_are_not_spoken_of() -> None:
    assert words(HostStatus(OLLAMA, HostState.HEALTHY), HostStatus(EMBEDDED, HostState.BUSY)) == ""


def test_each_kind_of_absence_has_its_own_words() -> None:
    assert "ollama serve" in words(HostStatus(OLLAMA, HostState.OFFLINE))
    assert "is not Ollama" in words(HostStatus(OLLAMA, HostState.MISCONFIGURED))
    assert "started again" in words(HostStatus(EMBEDDED, HostState.OFFLINE))
    assert "is starting" in words(HostStatus(EMBEDDED, HostState.WARMING))
    assert "other hosts go on" in words(HostStatus(OLLAMA, HostState.OFFLINE), HostStatus(EMBEDDED, HostState.HEALTHY))


def test_the_footer_escapes_what_a_model_wrote() -> None:
    answer = Answer(model='m"<x>', spans=(Span("decode", 0.0, 1.0),), usage=Usage(output_tokens=1, decode_ns=10**9))
    made = footer(StoredMessage("1", "assistant", 'a "b" <script>', 0.0, answer=answer), "Q4<")
    assert "<script>" not in made and "<x>" not in made and "Q4&lt;" in made
    assert 'data-lp-copy="a &quot;b&quot; &lt;script&gt;"' in made


def test_a_bar_never_leaves_its_track() -> None:
    spans = (Span("queue", 0.0, 10.0), Span("decode", 10.0, 10.0001))
    made = footer(StoredMessage("1", "assistant", "x", 0.0, answer=Answer(model="m", spans=spans)), "Q4")
    assert "margin-left:99.6%;width:0.40%" in made


def test_titles_are_not_read_as_markup() -> None:
    assert plain("**a** [b](c) :red[d] `e`") == r"\*\*a\*\* \[b\]\(c\) \:red\[d\] \`e\`"


def view(*variants: CatalogVariant) -> CatalogView:
    return CatalogView((CatalogFamily("f", "F", "", "", None, variants),))


def test_a_new_chat_takes_the_variant_near_five_bits_that_can_talk() -> None:
    some = [CatalogVariant(f"m:{bits}", "", size=int(8e9 * bits / 8), bpw=bits) for bits in (16.0, 8.5, 4.9, 2.6)]
    assert default_model(view(*some), ()) == "m:4.9"
    embedder = CatalogVariant("e:5", "", bpw=5.0, capabilities=("embedding",))
    unfinished = CatalogVariant("u:5", "", bpw=5.0, state="making")
    elsewhere = CatalogVariant("r:5", "", bpw=5.0, remote=True)
    assert default_model(view(embedder, unfinished, elsewhere, some[0]), ()) == "m:16.0"
    assert state_words(elsewhere) == ":orange[not local]"
    assert default_model(view(), ()) == ""


def test_a_small_model_is_taken_at_eight_bits() -> None:
    some = [CatalogVariant(f"m:{bits}", "", size=int(135e6 * bits / 8), bpw=bits) for bits in (16.0, 8.5, 4.9)]
    assert default_model(view(*some), ()) == "m:8.5"


def test_the_pages_script_is_one_module_with_one_default_export() -> None:
    assert page_keys._JS.count("export default") == 1
