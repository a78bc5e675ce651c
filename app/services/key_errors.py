"""What a key is refused."""

from __future__ import annotations

from app.core.errors import LoupeError, Unauthorized


class KeyGone(Unauthorized):
    """Revoked since it was let in."""

    def __init__(self) -> None:
        super().__init__("unauthorized: this key was revoked; ask whoever runs this Loupe for another")


class ModelNotForKey(LoupeError):
    """Said alike whether there is such a model or not. No `ModelNotFound`: nobody is to ask a host about it."""

    status = 404
    code = "model_not_found"

    def __init__(self, model: str) -> None:
        super().__init__(f"model '{model[:200]}' not found among those that this key may use; list them with /api/tags")
        self.model = model


class KeyLimitReached(LoupeError):
    """A bound of the client's own key; `retry_after` in seconds."""

    status = 429
    code = "key_limit"
    retryable = True

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class KeyNotFound(LoupeError):
    status = 404
    code = "key_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no key {name[:80]!r}, or it was revoked before; `keys list` shows them all")
        self.name = name
