"""Origin, Host and key of the supervisor (protocol 8.1 and 8.2)."""

from __future__ import annotations

import pytest

from app.runtime.guards import host_is_allowed, key_is_right, origin_is_allowed
from app.runtime.settings import DEFAULT_ORIGINS

HOST = "127.0.0.1:11434"


@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost",
        "http://localhost:3000",
        "https://127.0.0.1:8501",
        "app://obsidian",
        "file://",
        "http://127.0.0.1:11434",
    ],
)
def test_pages_of_this_machine_are_allowed(origin: str):
    assert origin_is_allowed(origin, HOST, DEFAULT_ORIGINS)


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://localhost.evil.com",
        "http://localhost.evil.com:80",
        "null",
        "http://localhos",
        "ftp://localhost",
    ],
)
def test_other_pages_are_not(origin: str):
    assert not origin_is_allowed(origin, HOST, DEFAULT_ORIGINS)


def test_a_page_of_the_very_same_origin_is_allowed_and_the_host_rule_is_left_to_refuse_it():
    assert origin_is_allowed("http://evil.example", "evil.example", DEFAULT_ORIGINS)
    assert not host_is_allowed("evil.example")


@pytest.mark.parametrize(
    "host",
    [
        "",
        "localhost",
        "LOCALHOST:11434",
        "127.0.0.1:1",
        "[::1]:80",
        "::1",
        "10.0.0.7",
        "0.0.0.0:1",
        "a.local",
        "b.internal:9",
        "x.localhost.",
    ],
)
def test_names_of_this_machine_and_private_networks_are_hosts(host: str):
    assert host_is_allowed(host)


@pytest.mark.parametrize(
    "host", ["evil.example", "8.8.8.8", "localhost.evil.com", "127.0.0.1.evil.com", "[2606:4700::1]:80", "local"]
)
def test_other_names_are_no_hosts(host: str):
    assert not host_is_allowed(host)


def test_a_key_is_wanted_whole_and_only_where_one_is_set():
    assert key_is_right("", {})
    assert key_is_right("k", {"authorization": "bearer k"})
    for given in ({}, {"authorization": "k"}, {"authorization": "Bearer kk"}, {"authorization": "Basic k"}):
        assert not key_is_right("k", given)
