"""The container image, built with whichever of docker, podman and buildah works here.

What this machine's network needs (pip's settings, a certificate bundle, proxies) reaches the build as secrets and
build arguments that leave no trace in the image.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tooling.console import TaskFailed, say

BUILDERS = {  # how to ask whether it works, and how it builds
    "docker": (["docker", "info"], ["docker", "build"]),
    # HEALTHCHECK is not part of the OCI format, which is these two's own.
    "podman": (["podman", "info"], ["podman", "build", "--format", "docker"]),
    "buildah": (["buildah", "--version"], ["buildah", "build", "--format", "docker"]),
}
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
PIP_OPTIONS = {
    "PIP_INDEX_URL": "index-url",
    "PIP_EXTRA_INDEX_URL": "extra-index-url",
    "PIP_TRUSTED_HOST": "trusted-host",
}


def build(root: Path, arguments: list[str]) -> int:
    """Build and tag the image as `loupe`; further `arguments` go to the builder. The exit status is the builder's.

    Raises:
        TaskFailed: none of the three works here.
    """
    words = builder()
    with tempfile.TemporaryDirectory(prefix="loupe-image-") as folder:
        words = [*words, *network(Path(folder)), "--tag", "loupe", *arguments, "."]
        say(" ".join(words))
        environment = os.environ | {"DOCKER_BUILDKIT": "1"}
        return subprocess.run(words, cwd=root, check=False, env=environment).returncode


def builder() -> list[str]:
    """The words that start a build."""
    for name, (works, words) in BUILDERS.items():
        if shutil.which(name) and subprocess.run(works, capture_output=True, check=False).returncode == 0:
            return words
    raise TaskFailed("no docker, podman or buildah works here: install one (Debian: apt-get install buildah)")


def network(folder: Path) -> list[str]:
    """Secrets and build arguments for the network of this machine; empty where nothing special is set."""
    words = []
    options = [f"{option} = {os.environ[name]}" for name, option in PIP_OPTIONS.items() if os.environ.get(name)]
    if options:
        settings = folder / "pip.conf"
        settings.write_text("[global]\n" + "\n".join(options) + "\n")
        words += ["--secret", f"id=pip.conf,src={settings}"]
    certificates = os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE")
    if certificates:
        words += ["--secret", f"id=certificates,src={certificates}"]
    for name in PROXIES:
        if os.environ.get(name):
            words += ["--build-arg", name]
    return words
