"""One loaded model: llama.cpp's server in a process of its own. Standard library and xllamacpp only.

Started by the supervisor as a plain file in isolated mode. The first line on standard input is its configuration;
after that the pipe only says, by ending, that the supervisor is gone. It prints one JSON line when the model is
loaded, or cannot be; everything llama.cpp has to say goes to standard error. It ends with its parent: at once by the
kernel (a worker that loads holds the interpreter lock and could not watch the pipe), and through the pipe elsewhere.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
import threading
from typing import Any

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_FLASH = {None: -1, False: 0, True: 1}  # llama_flash_attn_type: automatic, disabled, enabled
_MOST_STREAMS = 256


def _die_with_parent(parent: int) -> None:
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    if os.getppid() != parent:  # it was gone before the kernel was told
        os._exit(1)


def _watch_input() -> None:
    while os.read(0, 4096):
        pass
    os._exit(0)


def _limit(config: dict[str, Any]) -> None:
    """No core dumps, no files written, few descriptors, and memory within what the machine has."""
    for limit, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 512),
        (resource.RLIMIT_AS, int(config["address_space"])),
    ):
        _, hard = resource.getrlimit(limit)
        wanted = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (wanted, wanted))


def _parameters(config: dict[str, Any]) -> Any:
    import xllamacpp

    p = xllamacpp.CommonParams()
    p.model.path = config["model"]
    p.hostnames = ["127.0.0.1"]
    p.port = 0
    p.api_keys = [config["key"]]
    p.n_parallel = config["parallel"]
    p.n_ctx = config["num_ctx"] * config["parallel"]
    p.n_batch = p.n_ubatch = config["batch"]
    p.cpuparams.n_threads = p.cpuparams_batch.n_threads = config["threads"]
    p.n_threads_http = min(config["parallel"], _MOST_STREAMS) + 6
    p.ctx_shift = config["shift"]
    p.embedding = config["embedding"]  # pooled as the model file says
    if not config["own_template"]:  # one that llama.cpp cannot read would stop the start, and nobody asks for it
        p.use_jinja = False
        p.chat_template = "chatml"
    p.load_mode = xllamacpp.llama_load_mode(config["load_mode"])
    p.cache_ram_mib = 0
    p.n_ctx_checkpoints = config["checkpoints"]
    p.cache_type_k = p.cache_type_v = getattr(xllamacpp.ggml_type, f"GGML_TYPE_{config['kv_type'].upper()}")
    p.flash_attn_type = xllamacpp.llama_flash_attn_type(_FLASH[config["flash"]])
    p.fit_params = False
    p.n_gpu_layers = 0
    p.warmup = False
    p.verbosity = 4
    p.endpoint_props = p.endpoint_metrics = p.ui = False
    return p


def main() -> None:
    _die_with_parent(int(sys.argv[1]))
    config = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_watch_input, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is the supervisor's to handle
    try:
        _limit(config)
        import xllamacpp

        server = xllamacpp.Server(_parameters(config))
        told = {"ready": True, "url": server.listening_address}
    except Exception as error:  # it stays until it is ended: llama.cpp's log, which says why, is written by a thread
        told = {"ready": False, "error": f"{type(error).__name__}: {error}"}
    print(json.dumps(told), flush=True)
    threading.Event().wait()  # the server has threads of its own; this one only keeps them company


if __name__ == "__main__":
    main()
