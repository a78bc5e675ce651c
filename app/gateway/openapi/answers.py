"""What is answered, as schemas by name. Ollama's, OpenAI's and Anthropic's follow the recordings under tests/data."""

from __future__ import annotations

from app.core.alerts import Alert, Rule
from app.gateway.openapi.schemas import (
    ANY,
    FLAG,
    MOMENT,
    NUMBER,
    OBJECT,
    TEXT,
    WHOLE,
    Schema,
    maybe,
    members,
    of_class,
    one_of,
    ref,
    some,
)
from app.services.alerting.announcing import ReceiverState
from app.services.cache_views import CachePage, CacheStats
from app.services.costing.assumptions import Assumptions
from app.services.history_file import Backup
from app.services.make_offers import MakeOffer
from app.services.model_removal import Removal

_COUNTS = {
    "done_reason": TEXT, "total_duration": WHOLE, "load_duration": WHOLE, "prompt_eval_count": WHOLE,
    "prompt_eval_duration": WHOLE, "eval_count": WHOLE, "eval_duration": WHOLE, "logprobs": some(ref("Logprob")),
    "_debug_info": OBJECT,
}  # fmt: skip
_RECORD = {"model": TEXT, "created_at": MOMENT, "done": FLAG}
_DETAILS = members(
    {"parent_model": TEXT, "format": TEXT, "family": TEXT, "families": maybe(some(TEXT)), "parameter_size": TEXT,
     "quantization_level": TEXT},
    context_length=WHOLE, embedding_length=WHOLE,
)  # fmt: skip
_JOB = members({
    "id": TEXT, "kind": TEXT, "title": TEXT, "state": TEXT, "host": maybe(TEXT), "model": maybe(TEXT),
    "completed": maybe(NUMBER), "total": maybe(NUMBER), "detail": maybe(TEXT), "error": maybe(TEXT), "pausable": FLAG,
    "rate": maybe(NUMBER), "eta": maybe(NUMBER), "started_at": maybe(NUMBER), "ended_at": maybe(NUMBER),
})  # fmt: skip
_REQUEST: dict[str, Schema] = {
    "id": TEXT, "client_id": maybe(TEXT), "trace_id": maybe(TEXT), "principal": TEXT, "flow": TEXT, "model": TEXT,
    "digest": maybe(TEXT), "host": maybe(TEXT), "endpoint": TEXT, "status": TEXT, "error": maybe(TEXT),
    "finish_reason": maybe(TEXT), "cache": members({"outcome": TEXT, "reason": maybe(TEXT), "age": maybe(NUMBER)}),
    "started_at": NUMBER, "duration_ns": WHOLE, "ttft_ns": maybe(WHOLE), "prompt_tokens": maybe(WHOLE),
    "output_tokens": maybe(WHOLE), "tokens_per_second": maybe(NUMBER), "alias": maybe(TEXT), "question": maybe(TEXT),
}  # fmt: skip

ANSWERS: dict[str, Schema] = {
    # Errors
    "Error": members({"error": TEXT}),
    "OpenAIError": members({
        "error": members({"message": TEXT, "type": TEXT, "param": ANY, "code": maybe(TEXT)}),
    }),
    "AnthropicError": members({
        "type": one_of(["error"]), "error": members({"type": TEXT, "message": TEXT}),
    }, request_id=TEXT),
    # Ollama
    "Logprob": members(
        {"token": TEXT, "logprob": NUMBER}, bytes=maybe(some(WHOLE)),
        top_logprobs=some(members({"token": TEXT, "logprob": NUMBER}, bytes=maybe(some(WHOLE)))),
    ),
    "ChatAnswer": members(
        {**_RECORD, "message": members({"role": TEXT, "content": TEXT}, thinking=TEXT, tool_calls=some(OBJECT))},
        **_COUNTS,
    ),
    "GenerateAnswer": members({**_RECORD, "response": TEXT}, thinking=TEXT, context=some(WHOLE), **_COUNTS),
    "EmbedAnswer": members(
        {"model": TEXT, "embeddings": some(some(NUMBER))}, total_duration=WHOLE, load_duration=WHOLE,
        prompt_eval_count=WHOLE,
    ),
    "EmbeddingAnswer": members({"embedding": some(NUMBER)}),
    "Tags": members({"models": some(members(
        {"name": TEXT, "model": TEXT, "modified_at": MOMENT, "size": WHOLE, "digest": TEXT, "details": _DETAILS},
        capabilities=some(TEXT), loupe=OBJECT,
    ))}),
    "Loaded": members({"models": some(members(
        {"name": TEXT, "model": TEXT, "size": WHOLE, "digest": TEXT, "details": _DETAILS, "expires_at": MOMENT,
         "size_vram": WHOLE, "context_length": WHOLE},
        loupe=OBJECT,
    ))}),
    "Shown": members(
        {"details": _DETAILS, "model_info": OBJECT, "modified_at": MOMENT},
        modelfile=TEXT, parameters=TEXT, template=TEXT, system=TEXT, license=TEXT, tensors=maybe(some(OBJECT)),
        capabilities=some(TEXT), messages=some(OBJECT), projector_info=OBJECT, loupe=OBJECT, requires=TEXT,
    ),
    "Version": members({"version": TEXT}),
    "Status": members({"cloud": members({"disabled": FLAG, "source": TEXT})}),
    "Progress": members({}, status=TEXT, digest=TEXT, total=WHOLE, completed=WHOLE, error=TEXT),
    # OpenAI and Anthropic
    "Completion": members(
        {"id": TEXT, "object": TEXT, "created": WHOLE, "model": TEXT, "choices": some(members({"index": WHOLE}))},
        system_fingerprint=TEXT, usage=maybe(OBJECT),
    ),
    "Vectors": members({"object": TEXT, "data": some(OBJECT), "model": TEXT}, usage=OBJECT),
    "Model": members({"id": TEXT, "object": one_of(["model"]), "created": WHOLE, "owned_by": TEXT}, loupe=OBJECT),
    "Models": members({"object": one_of(["list"]), "data": maybe(some(ref("Model")))}),
    "ResponsesAnswer": members({"id": TEXT, "object": TEXT, "status": TEXT, "model": TEXT, "output": some(OBJECT)}),
    "MessagesAnswer": members({
        "id": TEXT, "type": one_of(["message"]), "role": TEXT, "model": TEXT, "content": some(OBJECT),
        "stop_reason": maybe(TEXT), "usage": OBJECT,
    }),
    "V1File": members({
        "id": TEXT, "object": one_of(["file"]), "bytes": WHOLE, "created_at": WHOLE, "filename": TEXT, "purpose": TEXT,
    }),
    "V1Batch": members({
        "id": TEXT, "object": one_of(["batch"]), "status": TEXT, "created_at": WHOLE, "request_counts": OBJECT,
    }),
    "V1List": members({"object": one_of(["list"]), "data": some(OBJECT)}),
    "Transcription": members({"text": TEXT}),
    # Ours
    "Alive": members({"status": TEXT}),
    "Ready": members({"ready": FLAG}, reason=TEXT),
    "Queue": members({
        "waiting": some(OBJECT), "running": some(OBJECT), "limits": OBJECT, "paused": FLAG, "draining": FLAG,
    }),
    "Job": _JOB,
    "Jobs": members({"jobs": some(ref("Job"))}),
    "Offers": members({"offers": some(of_class(MakeOffer))}),
    "Removal": of_class(Removal),
    "Host": members({
        "name": TEXT, "url": TEXT, "embedded": FLAG, "state": TEXT, "version": TEXT, "server": TEXT,
        "error": maybe(TEXT), "slots": WHOLE, "busy": WHOLE, "loaded": some(TEXT), "round_trip": maybe(NUMBER),
        "breaker": TEXT, "rests": maybe(NUMBER), "draining": FLAG, "added": FLAG,
        "warnings": some(members({"text": TEXT, "severe": FLAG})),
    }),
    "Hosts": members({"hosts": some(ref("Host")), "outage": maybe(OBJECT)}),
    "HostRemoved": members({"removed": FLAG}),
    "CacheStats": {"allOf": [of_class(CacheStats), members({"hit_rate": maybe(NUMBER)})]},
    "CacheEntries": of_class(CachePage),
    "CacheEntry": members({"key": TEXT, "answer": TEXT, "thinking": TEXT, "done_reason": TEXT}),
    "Deleted": members({"deleted": ANY}),
    "Backup": of_class(Backup),
    "Backups": members({"folder": TEXT, "backups": some(of_class(Backup)), "damage": maybe(OBJECT)}),
    "BroughtBack": members({"conversations": WHOLE}),
    "Comparison": members({"job": maybe(ref("Job"))}),
    "Comparisons": members({"comparisons": some(members({"id": TEXT, "family": TEXT, "state": TEXT}))}),
    "Rows": members({"texts": ANY, "rows": ANY}),
    "Pictures": members({"pictures": some(TEXT)}),
    "LoadRun": members({
        "id": TEXT, "state": TEXT, "plan": OBJECT, "environment": OBJECT, "requests": WHOLE, "figures": OBJECT,
        "why": TEXT, "job": maybe(ref("Job")),
    }),
    "LoadRuns": members({"runs": some(members({"id": TEXT, "state": TEXT, "models": OBJECT, "requests": WHOLE}))}),
    "LoadRows": members({"rows": some(OBJECT)}),
    "LoadsBeside": members({"pairs": some(OBJECT), "differences": some(TEXT)}),
    "TrainingSet": members({
        "id": TEXT, "state": TEXT, "total": WHOLE, "answered": WHOLE, "whole": WHOLE, "teacher": OBJECT,
        "job": maybe(ref("Job")),
    }),
    "Study": members({"id": TEXT, "state": TEXT, "job": maybe(ref("Job"))}),
    "Studies": members({"studies": some(members({"id": TEXT, "model": TEXT, "kind": TEXT, "state": TEXT}))}),
    "RuntimeInForce": members({"in_force": OBJECT, "changed": OBJECT, "refusal": TEXT}),
    "TrainingSets": members({"sets": some(ref("TrainingSet"))}),
    "Batch": members({
        "id": TEXT, "name": TEXT, "owner": TEXT, "form": TEXT, "state": TEXT, "total": WHOLE, "answered": WHOLE,
        "failed": WHOLE, "models": some(TEXT), "prompt_tokens": WHOLE, "output_tokens": WHOLE, "created_at": NUMBER,
        "ended_at": maybe(NUMBER), "error": TEXT, "job": maybe(ref("Job")),
    }),
    "Batches": members({"batches": some(ref("Batch"))}),
    "Alerts": members({
        "looked": NUMBER, "alerts": some(of_class(Alert)), "rules": some(of_class(Rule)), "series": some(TEXT),
        "webhook": maybe(of_class(ReceiverState)),
    }),
    "AlertRule": members({"rule": maybe(of_class(Rule))}),
    "AlertTried": members({"taken": FLAG, "why": TEXT}),
    "Alias": members({"name": TEXT, "targets": some(TEXT), "now": OBJECT, "steps": some(OBJECT)}),
    "Aliases": members({"aliases": some(ref("Alias")), "version": WHOLE}),
    "AliasTried": members({
        "alias": TEXT, "model": TEXT, "host": TEXT, "error": TEXT, "choice": WHOLE, "reason": TEXT, "seconds": NUMBER,
    }),
    "Removed": members({"removed": FLAG}),
    "Request": members({
        **_REQUEST, "answer": maybe(TEXT), "options": OBJECT, "pace": some(some(WHOLE)), "spans": ref("Span"),
    }),
    "Requests": members({
        "requests": some(members(_REQUEST)), "running": WHOLE,
        "kept": members({"requests": WHOLE, "bytes": WHOLE, "limit": WHOLE}),
    }),
    "HardwareHistory": members({
        "step": NUMBER, "at": some(NUMBER), "series": OBJECT,
        "happened": some(members({"at": NUMBER, "kind": TEXT, "text": TEXT})),
    }),
    "Cost": members({
        "by": TEXT, "days": NUMBER, "rows": some(OBJECT), "total": OBJECT, "standing": OBJECT, "cloud": some(OBJECT),
        "tokens_a_day": NUMBER, "most_tokens_a_day": maybe(NUMBER), "left_out": some(TEXT), "counters": some(TEXT),
        "why_no_counter": TEXT, "machines": some(TEXT), "assumptions": ref("CostAssumptions"),
    }),
    "CostAssumptions": of_class(Assumptions),
    "Key": OBJECT,
    "Keys": members({"keys": some(ref("Key")), "needed": FLAG, "token": FLAG}),
    "NewKey": members({"key": ref("Key"), "secret": TEXT}),
    "OneKey": members({"key": ref("Key")}),
    "Forgotten": members({"forgotten": WHOLE}),
    "Visitor": members({"name": TEXT, "scope": TEXT, "owner": FLAG, "key": maybe(ref("Key"))}),
    "Span": members({
        "name": TEXT, "start_ns": WHOLE, "duration_ns": WHOLE, "attributes": OBJECT, "children": some(ref("Span")),
    }),
}  # fmt: skip
