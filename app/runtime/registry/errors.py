"""What a model registry can do wrong, as the clients of the runtime are told it."""

from __future__ import annotations

from app.core.errors import LoupeError


class RegistryError(LoupeError):
    """A model registry refused a pull or answered what cannot be used. The status is the one Ollama answers with."""

    code = "registry"


class RegistryUnavailable(RegistryError):
    """The registry cannot be reached, broke off, or is busy: trying again can help."""

    code = "registry_unavailable"
    retryable = True
