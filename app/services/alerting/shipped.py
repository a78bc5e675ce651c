"""The rules that come with Loupe. Each limit is one at which a person would want to do something, on any machine.

`docs/alerts.md` and `deploy/` are held against this table by tests.
"""

from __future__ import annotations

from app.core.alerts import Rule, Severity
from app.services.alerting.words import YES

GIB = float(1 << 30)
MINUTE = 60.0
_WARNING, _CRITICAL = Severity.WARNING, Severity.CRITICAL

SHIPPED: tuple[Rule, ...] = (
    Rule(
        "host_down", "A model host does not answer", "host_down", 0.5, 0.5, 20.0, 30.0, _CRITICAL, YES,
        "The model host {subject} does not answer.",
        "See Service for the reason it gives. Start it again, or take it out of the hosts; until then the others do "
        "its work, if they have the model.",
    ),
    Rule(
        "errors", "Requests fail", "failure_rate_5min", 0.10, 0.02, MINUTE, 5 * MINUTE, _CRITICAL, "share",
        "{value} of the requests of the last five minutes failed on our side (limit {limit}).",
        "Look at the failed ones under Requests: each says which host and why. Queue full: more is asked than the "
        "hosts answer, so give them slots, add a host, or have clients heed Retry-After. What clients did wrong, and "
        "what they stopped, is not counted.",
    ),
    Rule(
        "first_token", "Answers begin late", "ttft_p95_5min", 10.0, 6.0, MINUTE, 5 * MINUTE, _WARNING, "s",
        "One answer in twenty took {value} or longer to its first word in the last five minutes (limit {limit}).",
        "Latency says whether that is queue, load or prefill. Queue: more slots or another host. Load: keep the model "
        "loaded (keep_alive), ask for fewer models. Prefill: shorter prompts, or a smaller variant.",
    ),
    Rule(
        "queue_wait", "People wait in the queue", "queue_wait", 20.0, 5.0, 15.0, 2 * MINUTE, _WARNING, "s",
        "The longest interactive wait is {value} (limit {limit}).",
        "See who is ahead under Service. Move long work into the batch class, raise the slots of a host that has "
        "memory for it, or add a host.",
    ),
    Rule(
        "slow", "A variant is slower than it was", "speed_share", 0.6, 0.8, MINUTE, 10 * MINUTE, _WARNING, "share",
        "{subject} writes at {value} of its own usual speed (limit {limit}).",
        "Something else uses the machine, the model went partly to the processor, the clocks are throttled, or the "
        "host was updated. Compare loaded size and GPU share under Service, and what else runs.", above=False,
    ),
    Rule(
        "memory", "Memory runs out", "memory_share", 0.93, 0.88, MINUTE, 5 * MINUTE, _WARNING, "share",
        "{value} of the memory is taken (limit {limit}).",
        "Unload a model, choose a smaller variant or a shorter context, or end what else runs. Beyond this the system "
        "swaps, and answers become many times slower.",
    ),
    Rule(
        "disk", "The disk is nearly full", "disk_free", 5 * GIB, 8 * GIB, MINUTE, MINUTE, _WARNING, "bytes",
        "{value} is left on the disk of the data folder (limit {limit}).",
        "Delete variants that nobody uses (Models says what each frees), old backups, or empty the answer cache. A "
        "full disk stops pulls and the history of chats.", above=False,
    ),
    Rule(
        "temperature", "A GPU is hot", "gpu.temperature", 87.0, 80.0, MINUTE, 5 * MINUTE, _WARNING, "°C",
        "{subject} is at {value} (limit {limit}).",
        "Check fans, dust and the air around it; a lower power limit costs little speed when a model decodes.",
    ),
    Rule(
        "throttled", "A GPU is slowed down", "gpu.throttled", 0.5, 0.5, MINUTE, 5 * MINUTE, _WARNING, YES,
        "{subject} lowers its clocks because of heat or its power supply.",
        "Better cooling, or a lower power limit, gives steadier answers; until then measurements on it mislead.",
    ),
    Rule(
        "gpu_lost", "A GPU is lost", "gpu.lost", 0.5, 0.5, 0.0, MINUTE, _CRITICAL, YES,
        "{subject} does not answer its driver any more.",
        "The machine, or at least the driver, has to be restarted; the system's log says why (Xid). Models on it "
        "fail or move to the processor.",
    ),
)  # fmt: skip
