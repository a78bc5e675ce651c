"""Every route of the gateway, described: what it does, takes and answers. A test holds this table against the routes.

`{name:path}` in Starlette's words is `{name}` here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from app.comparison.load_lab.arrivals import Arrivals
from app.core.alerts import Severity
from app.core.generation import CacheMode, Priority
from app.gateway.openapi.schemas import (
    FLAG,
    NUMBER,
    OBJECT,
    TEXT,
    WHOLE,
    Schema,
    asked,
    members,
    of_struct,
    one_of,
    ref,
    some,
)
from app.services.access_keys import KeyScope
from app.services.batches.reading import OPENAI_URLS
from app.services.costing.ledger import KEPT_DAYS
from app.services.costing.report import PARTS
from app.wire import anthropic_request, openai_requests, openai_response_request
from app.wire.requests import STRUCTS

JSON, LINES, EVENTS, PLAIN, HTML, BYTES = (
    "application/json", "application/x-ndjson", "text/event-stream", "text/plain", "text/html",
    "application/octet-stream",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. `answers`: by type of content, what a success (`status`) has; None has no schema.
    `query` and `headers` are what it takes beside the path. `slow`: it goes on until one of the two ends it."""

    method: str
    path: str
    summary: str
    answers: Mapping[str, Schema | None] = field(default_factory=dict)
    body: Schema | None = None
    body_type: str = JSON
    status: tuple[int, ...] = (200,)
    query: Mapping[str, Schema] = field(default_factory=dict)
    headers: Mapping[str, Schema] = field(default_factory=dict)
    slow: bool = False

    @property
    def tag(self) -> str:
        return "Ollama" if self.path.startswith("/api/") or self.path == "/" else (
            "OpenAI and Anthropic" if self.path.startswith("/v1/") else
            "Loupe" if self.path.startswith("/loupe/") else "Operation"
        )  # fmt: skip


def _get(path: str, summary: str, answer: str, **more: object) -> Operation:
    return Operation("GET", path, summary, {JSON: ref(answer)}, **more)  # type: ignore[arg-type]


def _post(path: str, summary: str, answer: str, body: Schema | None = None, **more: object) -> Operation:
    return Operation("POST", path, summary, {JSON: ref(answer)}, body, **more)  # type: ignore[arg-type]


def _delete(path: str, summary: str, answer: str, **more: object) -> Operation:
    return Operation("DELETE", path, summary, {JSON: ref(answer)}, **more)  # type: ignore[arg-type]


_WISHES: dict[str, Schema] = {
    "X-Loupe-Cache": one_of(list(CacheMode)), "X-Loupe-Priority": one_of(list(Priority)),
    "X-Loupe-Patience": {"type": "number", "exclusiveMinimum": 0, "maximum": 86_400}, "X-Request-Id": TEXT,
    "traceparent": TEXT,
}  # fmt: skip
_ON_HOST: dict[str, Schema] = {"X-Loupe-Host": TEXT}
_EXTRAS = {
    "num_ctx": {"type": "integer", "minimum": 1},
    "keep_alive": {},
    "think": {},
    "cache": one_of(list(CacheMode)),
}


def _with_extras(schema: Schema) -> Schema:
    return {**schema, "properties": {**schema["properties"], **_EXTRAS}}


_CHAT_V1 = _with_extras(of_struct(openai_requests.STRUCTS.structs, "ChatCompletionRequest", ("model", "messages")))
_COMPLETION_V1 = _with_extras(of_struct(openai_requests.STRUCTS.structs, "CompletionRequest", ("model",)))
_RESPONSES_V1 = _with_extras(of_struct(openai_response_request.STRUCTS.structs, "ResponsesRequest", ("model",)))
_MESSAGES_V1 = _with_extras(of_struct(anthropic_request.STRUCTS.structs, "MessagesRequest", ("model", "messages")))
_TRANSCRIPTION = {
    "type": "object", "required": ["file", "model"],
    "properties": {"file": {"type": "string", "format": "binary"}, "model": TEXT, "language": TEXT, "prompt": TEXT,
                   "response_format": TEXT},
}  # fmt: skip

_OLLAMA = (
    Operation("GET", "/", "That there is an Ollama here; a browser gets the page", {PLAIN: None}),
    Operation("HEAD", "/", "That there is an Ollama here"),
    Operation("POST", "/api/chat", "The next turn of a conversation", {
        LINES: ref("ChatAnswer"), JSON: ref("ChatAnswer"),
    }, of_struct(STRUCTS, "ChatRequest", ("model",)), headers=_WISHES),
    Operation("POST", "/api/generate", "What follows a prompt", {
        LINES: ref("GenerateAnswer"), JSON: ref("GenerateAnswer"),
    }, of_struct(STRUCTS, "GenerateRequest", ("model",)), headers=_WISHES),
    _post("/api/embed", "Embeddings of texts", "EmbedAnswer", of_struct(STRUCTS, "EmbedRequest", ("model",)),
          headers=_WISHES),
    _post("/api/embeddings", "Embedding of one text", "EmbeddingAnswer",
          of_struct(STRUCTS, "EmbeddingRequest", ("model",)), headers=_WISHES),
    _post("/api/show", "What a model is", "Shown", of_struct(STRUCTS, "ShowRequest")),
    _get("/api/tags", "The models of all hosts", "Tags"),
    Operation("HEAD", "/api/tags", "Whether the models can be told"),
    _get("/api/ps", "The loaded models of all hosts", "Loaded"),
    _get("/api/version", "Which version of the protocol is spoken", "Version"),
    Operation("HEAD", "/api/version", "Whether the version can be told"),
    _get("/api/status", "Whether models of the cloud may be used", "Status"),
    Operation("POST", "/api/pull", "Get a model from a registry onto a host", {
        LINES: ref("Progress"), JSON: ref("Progress"),
    }, of_struct(STRUCTS, "PullRequest"), headers=_ON_HOST),
    Operation("POST", "/api/copy", "Give a model a second name", {},
              of_struct(STRUCTS, "CopyRequest"), headers=_ON_HOST),
    Operation("DELETE", "/api/delete", "Take a model off a host", {},
              of_struct(STRUCTS, "DeleteRequest"), headers=_ON_HOST),
    Operation("POST", "/api/create", "Make a model of another one, or of an upload", {
        LINES: ref("Progress"), JSON: ref("Progress"),
    }, of_struct(STRUCTS, "CreateRequest"), headers=_ON_HOST),
    Operation("POST", "/api/push", "Send a model to a registry", {
        LINES: ref("Progress"), JSON: ref("Progress"),
    }, of_struct(STRUCTS, "PushRequest"), headers=_ON_HOST),
    Operation("POST", "/api/blobs/{digest}", "Upload a file for create", {}, {"type": "string", "format": "binary"},
              BYTES, (200, 201), headers=_ON_HOST),
    Operation("HEAD", "/api/blobs/{digest}", "Whether the host has that file", headers=_ON_HOST),
)  # fmt: skip

_V1 = (
    Operation("POST", "/v1/chat/completions", "OpenAI's chat", {JSON: ref("Completion"), EVENTS: None}, _CHAT_V1,
              headers=_WISHES),
    Operation("POST", "/v1/completions", "OpenAI's completion", {JSON: ref("Completion"), EVENTS: None},
              _COMPLETION_V1, headers=_WISHES),
    _post("/v1/embeddings", "OpenAI's embeddings", "Vectors",
          of_struct(openai_requests.STRUCTS.structs, "EmbedRequest", ("model", "input")), headers=_WISHES),
    Operation("POST", "/v1/responses", "OpenAI's responses", {JSON: ref("ResponsesAnswer"), EVENTS: None},
              _RESPONSES_V1, headers=_WISHES),
    Operation("POST", "/v1/messages", "Anthropic's messages", {JSON: ref("MessagesAnswer"), EVENTS: None},
              _MESSAGES_V1, headers=_WISHES),
    Operation("POST", "/v1/audio/transcriptions", "OpenAI's transcription", {
        JSON: ref("Transcription"), PLAIN: None, EVENTS: None,
    }, _TRANSCRIPTION, "multipart/form-data", headers=_WISHES),
    Operation("POST", "/v1/files", "OpenAI's upload of a file of prompts", {JSON: ref("V1File")}, members({
        "file": {"type": "string", "format": "binary"}, "purpose": one_of(["batch"]),
    }), "multipart/form-data"),
    _get("/v1/files", "The files that were sent", "V1List"),
    _get("/v1/files/{id}", "One file", "V1File"),
    Operation("DELETE", "/v1/files/{id}", "Delete a file", {JSON: OBJECT}),
    Operation("GET", "/v1/files/{id}/content", "What is in a file", {LINES: None}),
    _post("/v1/batches", "OpenAI's batch of a file", "V1Batch", asked(
        {"input_file_id": TEXT, "endpoint": one_of(list(OPENAI_URLS))}, completion_window=TEXT, metadata=OBJECT,
    )),
    _get("/v1/batches", "The batches that came this way", "V1List"),
    _get("/v1/batches/{id}", "One batch", "V1Batch"),
    _post("/v1/batches/{id}/cancel", "Stop a batch", "V1Batch"),
    _get("/v1/models", "The models", "Models"),
    _get("/v1/models/{name}", "One model", "Model"),
)  # fmt: skip

_ASSUMPTIONS = asked(
    {}, currency=TEXT, kwh=NUMBER, machine=NUMBER, years=NUMBER, share=NUMBER, watts=OBJECT, rest=NUMBER,
    beside=NUMBER, dollar=NUMBER, prices_on=TEXT,
    prices=some(members({"name": TEXT, "read": NUMBER, "written": NUMBER})),
)  # fmt: skip

_OPERATION = (
    _get("/healthz", "That the process is alive", "Alive"),
    Operation("HEAD", "/healthz", "That the process is alive"),
    _get("/readyz", "Whether a model can answer", "Ready"),
    Operation("HEAD", "/readyz", "Whether a model can answer"),
    Operation("GET", "/metrics", "Figures in Prometheus's text format", {PLAIN: None}),
    Operation("GET", "/openapi.json", "This description", {JSON: OBJECT}),
    _get("/loupe/requests", "The last requests", "Requests", query={
        "model": TEXT, "principal": TEXT, "status": TEXT, "cache": TEXT, "host": TEXT, "q": TEXT, "since": NUMBER,
        "order": one_of(["new", "slow"]), "limit": {"type": "integer", "minimum": 1, "maximum": 1000},
    }),
    _get("/loupe/requests/{id}", "One request with its spans", "Request"),
    Operation("GET", "/loupe/sign-in", "The page that takes a token or a key", {HTML: None}, status=(200, 303)),
    Operation("POST", "/loupe/sign-in", "Open a session with a token or a key", {HTML: None}, members(
        {"token": TEXT}, next=TEXT,
    ), "application/x-www-form-urlencoded", (200, 303)),
    Operation("POST", "/loupe/sign-out", "End the session", {HTML: None}, status=(303,)),
    _get("/loupe/whoami", "Who one is, and what one may do", "Visitor"),
    _get("/loupe/keys", "The keys", "Keys"),
    _post("/loupe/keys", "Make a key; it is shown this once", "NewKey", asked(
        {"name": TEXT}, scope=one_of(list(KeyScope)), models=some(TEXT), per_minute=WHOLE, at_once=WHOLE,
        tokens_a_day=WHOLE,
    ), status=(201,)),
    _delete("/loupe/keys", "Forget all keys: the door is as it was before the first one", "Forgotten"),
    _delete("/loupe/keys/{which}", "Revoke a key, by its id or its name", "OneKey"),
    Operation("GET", "/loupe/check", "Whether this machine is right for models", {JSON: OBJECT}),
    Operation("GET", "/loupe/hardware", "What this machine does now", {JSON: OBJECT}),
    Operation("GET", "/loupe/hardware/events", "What this machine does, once a second", {EVENTS: None}, slow=True),
    _get("/loupe/hardware/history", "What this machine and the service did", "HardwareHistory", query={
        "seconds": {"type": "number", "exclusiveMinimum": 0, "maximum": 366 * 86_400},
        "points": {"type": "integer", "minimum": 0, "maximum": 99_999}, "series": TEXT,
    }),
    Operation("GET", "/loupe/series/events", "All series, once a second", {EVENTS: None}, slow=True),
    _get("/loupe/cost", "What answers cost, beside the cloud", "Cost", query={
        "by": one_of(list(PARTS)), "days": {"type": "integer", "minimum": 1, "maximum": KEPT_DAYS},
    }),
    _get("/loupe/cost/assumptions", "What the cost is worked out from", "CostAssumptions"),
    Operation("PUT", "/loupe/cost/assumptions", "State assumptions; null takes one back",
              {JSON: ref("CostAssumptions")}, _ASSUMPTIONS),
    _get("/loupe/alerts", "Open and ended alerts, and the rules", "Alerts"),
    Operation("GET", "/loupe/alerts/prometheus", "The rules in force, for Prometheus", {"application/yaml": None}),
    _post("/loupe/alerts/test", "Send the webhook a test message", "AlertTried"),
    Operation("PUT", "/loupe/alerts/rules/{name}", "Change an alert rule, or make one", {JSON: ref("AlertRule")}, asked(
        {}, limit=NUMBER, clear=NUMBER, hold=NUMBER, rest=NUMBER, on=FLAG, severity=one_of(list(Severity)),
        series=TEXT, above=FLAG, unit=TEXT, title=TEXT, what=TEXT, advice=TEXT,
    )),
    _delete("/loupe/alerts/rules/{name}", "Remove an own alert rule, or reset a shipped one", "AlertRule"),
    _get("/loupe/queue", "Who waits and who runs", "Queue", query={"request": TEXT}),
    Operation("GET", "/loupe/queue/events", "The queue whenever it changes", {EVENTS: None}, query={"request": TEXT},
              slow=True),
    _post("/loupe/queue/pause", "Begin nothing new", "Queue"),
    _post("/loupe/queue/drain", "Take nothing new, let what waits begin", "Queue"),
    _post("/loupe/queue/resume", "Go on after a pause or a drain", "Queue"),
    _delete("/loupe/queue/{id}", "End a request", "Queue"),
    _post("/loupe/queue/{id}", "Put a waiting request into the other class", "Queue",
          asked({"priority": one_of(list(Priority))})),
    Operation("GET", "/loupe/service/events", "Cache, queue, hosts and requests whenever something happens",
              {EVENTS: None}, slow=True),
    _get("/loupe/hosts", "The model hosts", "Hosts"),
    _post("/loupe/hosts", "Add a host", "Host", asked({"name": TEXT, "url": TEXT}, slots=WHOLE, key=TEXT),
          status=(201,)),
    _delete("/loupe/hosts/{name}", "Remove a host; 202 while work still runs there", "HostRemoved", status=(200, 202)),
    _post("/loupe/hosts/{name}/drain", "Send a host nothing new", "Host"),
    _post("/loupe/hosts/{name}/resume", "Use a host again", "Host"),
)  # fmt: skip

_ALIAS_BODY = asked(
    {"targets": some(TEXT, minItems=1)}, options=OBJECT, system=TEXT, think={}, keep_alive={},
    guard=one_of(["off", "warn", "refuse"]), note=TEXT, anyway=FLAG,
)  # fmt: skip
_COMPARISON = asked(
    {"models": some(TEXT)}, reference=TEXT, depth=TEXT, context=WHOLE, question_set=TEXT, questions=some(TEXT),
    host=TEXT, budget=WHOLE, floor=NUMBER, use=TEXT, seed=WHOLE,
)  # fmt: skip
_LOAD = asked(
    {"models": OBJECT}, arrivals=one_of(list(Arrivals)), rate=NUMBER, to_rate=NUMBER, seconds=NUMBER, count=WHOLE,
    prompt=TEXT, output=TEXT, questions=some(TEXT), chats=FLAG, recording=some(OBJECT), speed=NUMBER, limits=OBJECT,
    users=WHOLE, context=WHOLE, drain=NUMBER, host=TEXT, anyway=FLAG, seed=WHOLE,
)  # fmt: skip
_TRAINING = asked(
    {"model": TEXT}, questions=some(TEXT), question_set=TEXT, system=TEXT, tokens=WHOLE, host=TEXT
)  # fmt: skip
_BATCH = asked(
    {"content": TEXT}, name=TEXT, model=TEXT, system=TEXT, options=OBJECT,
    form=one_of(["jsonl", "csv", "text", "openai"]),
)  # fmt: skip
_SETUP: dict[str, Schema] = {"slots": WHOLE, "threads": WHOLE, "batch": WHOLE, "flash": FLAG, "kv_type": TEXT}
_STUDY = asked(
    {"model": TEXT}, kind=one_of(["slots", "options"]), host=TEXT, most=WHOLE, rounds=WHOLE, batches=some(WHOLE),
    shapes=some(members({"prompt": WHOLE, "output": WHOLE})), arms=some(asked({}, **_SETUP)), at_once=WHOLE,
)  # fmt: skip
_REPORT = {JSON: None, "text/html": None, "text/csv": None, "text/markdown": None}
_FORMAT = {"format": one_of(["json", "html", "csv", "md"])}
_PICTURE = {"image/svg+xml": None, "image/png": None, JSON: None}
_FORM = {"form": one_of(["messages", "sharegpt"])}

_LOUPE = (
    _get("/loupe/jobs", "Work that outlives its page", "Jobs"),
    _post("/loupe/jobs", "Begin a pull or the making of a quantization", "Job", asked(
        {"kind": one_of(["pull", "make"])}, model=TEXT, source=TEXT, level=TEXT, host=TEXT, insecure=FLAG,
    ), status=(202,)),
    Operation("GET", "/loupe/jobs/events", "Every job, then each that changed", {EVENTS: None}, slow=True),
    _get("/loupe/jobs/{id}", "One job", "Job"),
    _delete("/loupe/jobs/{id}", "End a job", "Job"),
    _post("/loupe/jobs/{id}/retry", "Try a job again", "Job", status=(202,)),
    _get("/loupe/models/offers", "Which quantizations can be made of a model", "Offers",
         query={"source": TEXT, "host": TEXT}),
    _get("/loupe/models/removal", "What the removal of a model would free", "Removal",
         query={"model": TEXT, "host": TEXT}),
    _delete("/loupe/models", "Remove a model", "Removal", query={"model": TEXT, "host": TEXT}),
    _get("/loupe/comparisons", "The scorecards", "Comparisons"),
    _post("/loupe/comparisons", "Begin a scorecard", "Comparison", _COMPARISON, status=(202,)),
    _get("/loupe/comparisons/{id}", "One scorecard", "Comparison"),
    _delete("/loupe/comparisons/{id}", "Delete a scorecard", "Deleted"),
    _post("/loupe/comparisons/{id}/pause", "Pause a scorecard", "Job"),
    _post("/loupe/comparisons/{id}/resume", "Go on with a scorecard", "Job"),
    _post("/loupe/comparisons/{id}/cancel", "End a scorecard", "Comparison"),
    _get("/loupe/comparisons/{id}/rows", "Every compared position of a variant", "Rows", query={"variant": TEXT}),
    Operation("GET", "/loupe/comparisons/{id}/report", "A scorecard as a file", _REPORT, query=_FORMAT),
    Operation("POST", "/loupe/comparisons/{id}/report", "A scorecard beside an earlier one, as a file", _REPORT,
              asked({"first": TEXT}), query=_FORMAT),
    _get("/loupe/comparisons/{id}/pictures", "Which pictures a scorecard has", "Pictures"),
    Operation("GET", "/loupe/comparisons/{id}/pictures/{name}", "One picture", _PICTURE, query={
        "format": one_of(["svg", "png", "json"]), "dark": TEXT,
        "width": {"type": "integer", "minimum": 280, "maximum": 2000},
    }),
    _get("/loupe/load", "The load runs", "LoadRuns"),
    _post("/loupe/load", "Begin a load run", "LoadRun", _LOAD, status=(202,)),
    _get("/loupe/load/{id}", "One load run, with its figures so far", "LoadRun"),
    _delete("/loupe/load/{id}", "Delete a load run", "Deleted"),
    _get("/loupe/load/{id}/rows", "Every request of a load run", "LoadRows"),
    _get("/loupe/load/{id}/beside/{other}", "Two load runs beside each other", "LoadsBeside"),
    _post("/loupe/load/{id}/cancel", "End a load run", "LoadRun"),
    _get("/loupe/batching", "The studies of slots and of runtime options", "Studies"),
    _post("/loupe/batching", "Begin a study", "Study", _STUDY, status=(202,)),
    _get("/loupe/batching/{id}", "One study", "Study"),
    _delete("/loupe/batching/{id}", "Delete a study", "Deleted"),
    _post("/loupe/batching/{id}/pause", "Pause a study", "Job"),
    _post("/loupe/batching/{id}/resume", "Go on with a study", "Job"),
    _post("/loupe/batching/{id}/cancel", "End a study", "Study"),
    _post("/loupe/batching/{id}/apply", "Set the embedded runtime up as a study recommends", "Job", status=(202,)),
    _get("/loupe/runtime", "How the embedded runtime is set up", "RuntimeInForce"),
    _post("/loupe/runtime", "Set the embedded runtime up", "Job", asked({}, **_SETUP), status=(202,)),
    _delete("/loupe/runtime", "Take back what was changed of its setup", "Job", status=(202,)),
    _get("/loupe/aliases", "The aliases", "Aliases"),
    _get("/loupe/aliases/{name}", "One alias", "Alias"),
    Operation("PUT", "/loupe/aliases/{name}", "Make or change an alias", {JSON: ref("Alias")}, _ALIAS_BODY,
              status=(200, 201)),
    _delete("/loupe/aliases/{name}", "Remove an alias", "Removed"),
    _post("/loupe/aliases/{name}/test", "Load what an alias leads to", "AliasTried"),
    _get("/loupe/cache", "What the answer cache holds and saved", "CacheStats"),
    _delete("/loupe/cache", "Empty the answer cache", "Deleted"),
    _get("/loupe/cache/entries", "The kept answers", "CacheEntries", query={
        "model": TEXT, "q": TEXT, "before": TEXT, "limit": {"type": "integer", "minimum": 1, "maximum": 500},
    }),
    _delete("/loupe/cache/entries", "Delete the kept answers of a model", "Deleted", query={"model": TEXT}),
    _get("/loupe/cache/entries/{key}", "One kept answer", "CacheEntry"),
    _delete("/loupe/cache/entries/{key}", "Delete a kept answer", "Deleted"),
    Operation("GET", "/loupe/cache/export", "All kept answers, one a line", {LINES: ref("CacheEntry")},
              query={"model": TEXT}),
    _get("/loupe/history/backups", "The backups of the conversations", "Backups"),
    _post("/loupe/history/backups", "Make a backup", "Backup", status=(201,)),
    Operation("GET", "/loupe/history/backups/{name}", "A backup as a file", {
        BYTES: None, "application/vnd.sqlite3": None,
    }),
    _post("/loupe/history/restore", "Bring back what a backup has", "BroughtBack", asked({"name": TEXT})),
    _get("/loupe/training", "The sets of training data", "TrainingSets"),
    _post("/loupe/training", "Begin a set of training data", "TrainingSet", _TRAINING, status=(202,)),
    _get("/loupe/training/{id}", "One set", "TrainingSet"),
    _delete("/loupe/training/{id}", "Delete a set", "Deleted"),
    _post("/loupe/training/{id}/cancel", "End a set", "TrainingSet"),
    Operation("GET", "/loupe/training/{id}/data", "A set as a file for a trainer", {
        "application/jsonl": None, JSON: None,
    }, query=_FORM),
    Operation("GET", "/loupe/training/{id}/manifest", "Where a set comes from", {JSON: OBJECT}, query=_FORM),
    _get("/loupe/batches", "The batch jobs", "Batches"),
    _post("/loupe/batches", "Answer a file of prompts", "Batch", _BATCH, status=(202,)),
    _get("/loupe/batches/{id}", "One batch", "Batch"),
    _delete("/loupe/batches/{id}", "Delete a batch with its answers", "Deleted"),
    Operation("GET", "/loupe/batches/{id}/results", "What a batch has answered so far", {
        LINES: None, "text/csv": None,
    }, query={"format": one_of(["jsonl", "csv", "openai"]), "after": WHOLE}),
    _post("/loupe/batches/{id}/pause", "Begin no further prompt", "Batch"),
    _post("/loupe/batches/{id}/resume", "Go on with a batch", "Batch"),
    _post("/loupe/batches/{id}/cancel", "Stop a batch", "Batch"),
    _post("/loupe/batches/{id}/retry", "Ask once more what failed", "Batch"),
)  # fmt: skip

OPERATIONS: tuple[Operation, ...] = (*_OLLAMA, *_V1, *_OPERATION, *_LOUPE)
