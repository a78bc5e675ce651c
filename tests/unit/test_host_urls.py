"""OLLAMA_HOST and LOUPE_HOSTS. The expectations of the first table are Ollama's own tests of envconfig.Host."""

import pytest

from app.host_urls import parse_hosts, parse_ollama_host


@pytest.mark.parametrize(
    ("value", "url"),
    [
        ("", "http://127.0.0.1:11434"),
        ("1.2.3.4", "http://1.2.3.4:11434"),
        (":1234", "http://127.0.0.1:1234"),
        ("1.2.3.4:1234", "http://1.2.3.4:1234"),
        ("example.com", "http://example.com:11434"),
        ("example.com:1234", "http://example.com:1234"),
        (":66000", "http://127.0.0.1:11434"),
        (":-1", "http://127.0.0.1:11434"),
        ("example.com:http", "http://example.com:11434"),
        ("[::1]", "http://[::1]:11434"),
        ("::1", "http://[::1]:11434"),
        ("[::1]:1337", "http://[::1]:1337"),
        ("[0001:002:003:0004::1]", "http://[1:2:3:4::1]:11434"),
        ("[::]", "http://[::1]:11434"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:1234", "http://127.0.0.1:1234"),
        (" 1.2.3.4 ", "http://1.2.3.4:11434"),
        ('"1.2.3.4"', "http://1.2.3.4:11434"),
        (' " 1.2.3.4 " ', "http://1.2.3.4:11434"),
        ("'1.2.3.4'", "http://1.2.3.4:11434"),
        ("http://1.2.3.4", "http://1.2.3.4:80"),
        ("http://1.2.3.4:4321", "http://1.2.3.4:4321"),
        ("https://1.2.3.4", "https://1.2.3.4:443"),
        ("https://[::1]", "https://[::1]:443"),
        ("HTTPS://Example.com:4321", "https://example.com:4321"),
        ("https://example.com/ollama", "https://example.com:443/ollama"),
        ("example.com:1234/", "http://example.com:1234"),
        ("example.com/path/", "http://example.com:11434/path"),
        ("ollama.com", "https://ollama.com:443"),
    ],
)
def test_every_spelling_ollama_accepts_gives_the_address_ollama_would_use(value: str, url: str) -> None:
    assert parse_ollama_host(value) == url


@pytest.mark.parametrize(
    "value",
    [
        "ftp://1.2.3.4",
        "http://user:secret@example.com",
        "example.com?x=1",
        "exa mple.com",
        "[::1",
        "[::1]x",
        "a:b:c",
        "169.254.169.254",
        "http://[fe80::1]:80",
        "http://exam\nple.com",
        "-x",
    ],
)
def test_an_address_that_cannot_or_must_not_be_connected_to_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_ollama_host(value)


def test_several_hosts_carry_their_names_slots_and_keys() -> None:
    big, small = parse_hosts("big = https://gpu.example ; slots=4 ; key=s3cret , small=:1234,", default_slots=2)

    assert (big.name, big.url, big.slots, big.key) == ("big", "https://gpu.example:443", 4, "s3cret")
    assert (small.name, small.url, small.slots, small.key) == ("small", "http://127.0.0.1:1234", 2, None)
    assert "s3cret" not in repr(big)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("gpu.example", "name=url"),
        ("a=", "no address"),
        ("a=:1,A=:2", "twice"),
        ("a=:1,b=127.0.0.1:1", "same address"),
        ("a=:1;slots=0", "slots=0"),
        ("a=:1;slots=many", "slots=many"),
        ("a=:1;colour=red", "colour"),
        ("a=ftp://x", "scheme"),
    ],
)
def test_a_bad_host_list_says_which_entry_is_wrong(value: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        parse_hosts(value)


def test_a_key_in_the_wrong_place_is_not_printed_whole() -> None:
    with pytest.raises(ValueError, match="name=url") as failure:
        parse_hosts("this-is-a-long-secret-value-0123456789")

    assert "0123456789" not in str(failure.value)
