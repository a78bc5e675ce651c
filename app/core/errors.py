"""The one error hierarchy. Each class knows its HTTP status, its stable code and whether trying again can help.

    LoupeError
    ├── BadRequest                 400  the request itself is wrong
    │   └── PromptVariablesMissing
    ├── Unauthorized               401  no key, or a wrong one
    ├── NotAllowed                 403  known, but not permitted here
    │   └── ModelNotLocal               it runs on somebody else's machine
    ├── ModelNotFound              404
    ├── ConversationNotFound       404
    ├── HostNotFound               404
    ├── CacheEntryNotFound, RequestNotFound  404
    ├── CacheOff                   503  what is in the response cache cannot be told or changed now
    ├── PayloadTooLarge            413
    ├── Cancelled                  499  the client left, or Stop was pressed (never sent)
    ├── ReaderTooSlow              503  fell behind an answer that others read too
    ├── QueueFull, QueueTimeout    503  with Retry-After
    ├── NoHealthyHost              503
    │   └── HostsRateLimited       429  every host that could answer said when to come back
    ├── Draining                   503  the process is going down
    ├── HostError                       something about one host
    │   ├── HostUnreachable        502
    │   │   └── HostWarming        503  our own runtime is still starting
    │   ├── HostTimeout            504
    │   ├── HostProtocolError      502
    │   ├── HostRefused            as the host said
    │   └── GenerationFailed       500  an error record inside a stream
    ├── ModelLoadFailed            500
    │   └── ModelTooLarge          500  more memory than there is, told before the machine swaps
    ├── ModelKeepsCrashing         503  its worker died too often; not started again for a while
    ├── ModelFileDamaged           500  a GGUF that cannot be read
    ├── StoreError                 500  the model store or the data folder cannot be used
    │   └── DiskFull               507
    ├── IntegrityError             500  bytes whose digest is not the promised one
    ├── RegistryError              500  a model registry refused, or broke its own protocol
    │   └── RegistryUnavailable    500  … cannot be reached, broke off, or says "later"
    └── SettingsError              500  a setting has a value that is not allowed

Classes carry fields; `message` is the sentence for people and for the wire. Source of the texts that clients
know: the recordings under tests/data/ollama.
"""

from __future__ import annotations

from typing import ClassVar


class LoupeError(Exception):
    """Base of everything Loupe raises on purpose. `message` says what happened and what to do."""

    status: int = 500
    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False
    retry_after: float | None = None  # seconds; sent as Retry-After where it is set

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class BadRequest(LoupeError):
    """The request is wrong; `field` names the part of it, if one part is to blame."""

    status = 400
    code = "bad_request"

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class PromptVariablesMissing(BadRequest):
    """A prompt template was rendered without all of its variables."""

    code = "prompt_variables_missing"

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__(f"fill in: {', '.join(names)}")
        self.names = names


class Unauthorized(LoupeError):
    status = 401
    code = "unauthorized"


class NotAllowed(LoupeError):
    status = 403
    code = "not_allowed"


class ModelNotLocal(NotAllowed):
    """`where` is the host that would compute, as the model's own host tells it; "" where only the name tells."""

    code = "model_not_local"

    def __init__(self, model: str, where: str = "") -> None:
        place = f"at {where}" if where else "in the cloud"
        why = f"{model} does not run on your machines but {place}, and would send your words there"
        super().__init__(f"{why}; take a model that is installed, or allow it with LOUPE_REMOTE_MODELS=on")
        self.model, self.where = model, where


class ModelNotFound(LoupeError):
    """No host has the model. The default text is the one Ollama's generate and chat use."""

    status = 404
    code = "model_not_found"

    def __init__(self, model: str, message: str | None = None) -> None:
        super().__init__(message or f"model '{model}' not found")
        self.model = model


class ConversationNotFound(LoupeError):
    status = 404
    code = "conversation_not_found"

    def __init__(self, conversation_id: str) -> None:
        super().__init__("this conversation does not exist, or was deleted")
        self.conversation_id = conversation_id


class CacheEntryNotFound(LoupeError):
    status = 404
    code = "cache_entry_not_found"

    def __init__(self, key: str) -> None:
        super().__init__("this answer is not in the cache, or not any more")
        self.key = key


class RequestNotFound(LoupeError):
    status = 404
    code = "request_not_found"

    def __init__(self, request_id: str) -> None:
        super().__init__("this request is not known here, or not any more")
        self.request_id = request_id


class CacheOff(LoupeError):
    """`why` is a sentence without paths; `retry_after` the seconds until the cache tries again."""

    status = 503
    code = "cache_off"
    retryable = True

    def __init__(self, why: str, retry_after: float | None = None) -> None:
        super().__init__(f"the cache is off: {why}")
        self.why, self.retry_after = why, retry_after


class HostNotFound(LoupeError):
    status = 404
    code = "host_not_found"

    def __init__(self, name: str, names: tuple[str, ...]) -> None:
        super().__init__(f"there is no host {name[:64]!r}; there is {', '.join(names) or 'none'}")
        self.name = name


class PayloadTooLarge(LoupeError):
    status = 413
    code = "payload_too_large"

    def __init__(self, limit: int) -> None:
        super().__init__(f"the request body is larger than {limit} bytes")
        self.limit = limit


class Cancelled(LoupeError):
    """The caller left or pressed Stop. `by` is one of: stop, client, page_closed, shutdown."""

    status = 499
    code = "cancelled"

    def __init__(self, by: str = "client") -> None:
        super().__init__("request canceled")
        self.by = by


class ReaderTooSlow(LoupeError):
    """In the middle of an answer: more bytes of it are waiting to be read than are kept."""

    status = 503
    code = "reader_too_slow"

    def __init__(self, limit: int) -> None:
        super().__init__(f"the answer was read too slowly: it is more than {limit >> 20} MiB ahead; ask again")
        self.limit = limit


class QueueFull(LoupeError):
    """Refused at once; the text is Ollama's own (two spaces). `reason` is the bound that was hit: wait (`wait` seconds
    are foretold), count, flow or prompt tokens ("": not known); `most` is its height, in seconds or a number."""

    status = 503
    code = "queue_full"
    retryable = True
    reason, wait, most = "", 0.0, 0.0

    def __init__(self, depth: int, limit: int, retry_after: float = 1.0) -> None:
        super().__init__("server busy, please try again.  maximum pending requests exceeded")
        self.depth, self.limit, self.retry_after = depth, limit, retry_after


class QueueTimeout(LoupeError):
    status = 503
    code = "queue_timeout"
    retryable = True

    def __init__(self, waited: float, retry_after: float = 1.0) -> None:
        super().__init__(f"server busy, please try again.  no slot became free within {waited:.0f} s")
        self.waited, self.retry_after = waited, retry_after


class NoHealthyHost(LoupeError):
    """No host can take the request now; `reasons` maps host name to its last error."""

    status = 503
    code = "no_healthy_host"
    retryable = True
    retry_after = 5.0  # a host that is back is used within that

    def __init__(self, reasons: dict[str, str]) -> None:
        told = "; ".join(f"{name}: {why}" for name, why in reasons.items()) or "none is configured"
        super().__init__(f"no model host answers ({told})")
        self.reasons = reasons


class HostsRateLimited(NoHealthyHost):
    status = 429
    code = "hosts_rate_limited"

    def __init__(self, reasons: dict[str, str], retry_after: float) -> None:
        super().__init__(reasons)
        self.retry_after = retry_after


class Draining(LoupeError):
    status = 503
    code = "draining"
    retryable = True

    def __init__(self, message: str = "the server is shutting down") -> None:
        super().__init__(message)


class HostError(LoupeError):
    """Something about one host went wrong; `host` is its name in the settings."""

    status = 502
    code = "host_error"

    def __init__(self, host: str, message: str) -> None:
        super().__init__(message)
        self.host = host


class HostUnreachable(HostError):
    code = "host_unreachable"
    retryable = True

    def __init__(self, host: str, why: str = "", *, sent: bool = False) -> None:
        super().__init__(host, f"the model host {host} does not answer" + (f": {why}" if why else ""))
        self.why, self.sent = why, sent  # sent: it may have got the request, and be at it


class HostWarming(HostUnreachable):
    """Our own runtime is still starting: waiting helps."""

    status = 503
    code = "host_warming"
    retry_after = 1.0


class HostTimeout(HostError):
    """`phase` is one of: connect, first token, stall."""

    status = 504
    code = "host_timeout"
    retryable = True

    def __init__(self, host: str, phase: str, seconds: float) -> None:
        super().__init__(host, f"the model host {host} took longer than {seconds:g} s ({phase})")
        self.phase, self.seconds = phase, seconds


class HostProtocolError(HostError):
    """The host answered something that is not its protocol, or a stream ended without `done`."""

    code = "host_protocol"
    retryable = True

    def __init__(self, host: str, why: str) -> None:
        super().__init__(host, f"the model host {host} broke off or answered nonsense: {why}")


class HostRefused(HostError):
    """The host answered with an error status; its text, and a body that is an error of its own, are passed on."""

    code = "host_refused"

    def __init__(
        self, host: str, status: int, text: str, body: bytes = b"", retry_after: float | None = None,
        content_type: str = "",
    ) -> None:  # fmt: skip
        super().__init__(host, text)
        self.status, self.body, self.retry_after, self.content_type = status, body, retry_after, content_type

    @property
    def busy(self) -> bool:
        """A full queue says nothing against the host's health ("busy" is not "broken")."""
        return self.status in (429, 503)


class GenerationFailed(HostError):
    """An `{"error": …}` record inside a stream."""

    status = 500
    code = "generation_failed"


class ModelLoadFailed(LoupeError):
    """`reason` is what the worker said last, `advice` what to do. With `ended` False it had not ended by itself;
    `crashed` is a worker that a signal ended, or that hung."""

    code = "model_load_failed"

    def __init__(self, model: str, reason: str, advice: str = "", *, ended: bool = True, crashed: bool = False) -> None:
        said = f"llama-server process has terminated: {reason}" if ended else reason
        super().__init__(f"{said}: {advice}" if advice else said)
        self.model, self.reason, self.crashed = model, reason, crashed


class ModelTooLarge(ModelLoadFailed):
    """`needed` and `available` in bytes. The first words are those by which clients of Ollama know it."""

    code = "model_too_large"

    def __init__(self, model: str, needed: int, available: int, advice: str) -> None:
        sizes = f"({needed / 2**30:.1f} GiB) than is available ({available / 2**30:.1f} GiB)"
        super().__init__(model, f"model requires more system memory {sizes}", advice, ended=False)
        self.needed, self.available = needed, available


class ModelKeepsCrashing(LoupeError):
    """`reason` is what its worker said last, `retry_after` the seconds until it is tried again."""

    status = 503
    code = "model_keeps_crashing"
    retryable = True

    def __init__(self, model: str, crashes: int, within: float, reason: str, retry_after: float) -> None:
        told = f"{model} crashed {crashes} times within {within / 60:g} minutes ({reason})"
        advice = (
            "another quantization or a shorter context may do, and unloading it or pulling it anew gives it another"
        )
        super().__init__(f"{told} and is not started again for {retry_after:.0f} s; {advice} chance at once")
        self.model, self.reason, self.retry_after = model, reason, retry_after


class ModelFileDamaged(LoupeError):
    """A GGUF file that cannot be read; `why` names what is wrong with it."""

    code = "model_file_damaged"

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"{path} is not a GGUF file that can be used: {why}")
        self.path, self.why = path, why


class StoreError(LoupeError):
    code = "store"


class DiskFull(StoreError):
    status = 507
    code = "disk_full"


class IntegrityError(LoupeError):
    """Bytes whose digest is not the promised one."""

    code = "integrity"

    def __init__(self, what: str, expected: str, got: str, message: str | None = None) -> None:
        super().__init__(message or f"digest mismatch for {what}: expected {expected}, got {got}")
        self.expected, self.got = expected, got


class SettingsError(LoupeError):
    """Every bad setting at once: `problems` are whole sentences with name, value and what is allowed."""

    code = "settings"

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
