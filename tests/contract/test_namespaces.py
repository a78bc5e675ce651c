"""A host in a network namespace: reached by its address, silent while the cable is pulled, there again afterwards."""

from __future__ import annotations

import subprocess
import sys

import pytest

from proving.host_process import HostProcess
from proving.namespaces import available, namespace

pytestmark = pytest.mark.skipif(not available(), reason="no network namespaces for this user")
ASK = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=float(sys.argv[2])).read())"


def ask(url: str, seconds: float) -> str:
    """From a process of its own: this one stays on loopback."""
    words = [sys.executable, "-c", ASK, f"{url}/api/version", str(seconds)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


def run(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


@pytest.mark.anyio
async def test_a_pulled_cable_is_silence_and_plugged_in_again_it_is_as_before():
    with namespace(1) as place:
        host = HostProcess(place.address, prefix=place.prefix)
        await host.start()
        assert "0.33.0" in ask(host.url, 10)
        place.pull()
        assert "timed out" in ask(host.url, 0.5)
        place.plug()
        assert "0.33.0" in ask(host.url, 10)
        await host.kill()


def test_nothing_is_left_of_a_namespace():
    with namespace(2) as place:
        assert place.name in run("ip", "netns", "list")
        assert place.name in run("ip", "-o", "link").replace("loupe", "loupe-")
    assert place.name not in run("ip", "netns", "list")
    assert place.name not in run("ip", "-o", "link").replace("loupe", "loupe-")
