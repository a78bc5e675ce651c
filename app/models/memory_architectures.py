"""Which architecture remembers how: plain tables.

Source: llama.cpp's loaders (src/models) and create_memory (llama-model), at the release our runtime is built from.
"""

from __future__ import annotations


def _names(words: str) -> frozenset[str]:
    return frozenset(words.split())


# Their compute buffers were measured (benchmarks/memory_fit.py).
MEASURED = _names("deepseek2 gemma2 gemma3 gpt-oss granitehybrid lfm2 llama mamba mamba2 phi3 qwen2 qwen3 qwen3moe")
# Their layers are known to be as `memory_layers` reads them.
MODELLED = MEASURED | _names(
    """
    afmoe arcee baichuan cohere2 cohere2moe command-r deepseek dots1 exaone exaone4 falcon-h1 gemma gemma3n gemma4 glm4
    glm4moe granite granitemoe hunyuan-dense hunyuan-moe internlm2 jamba lfm2moe llama4 mimo2 minicpm minicpm3 mistral3
    nemotron_h olmo olmo2 olmoe orion phi2 plamo2 plamo3 qwen2moe qwen2vl qwen35 qwen35moe qwen3next qwen3vl qwen3vlmoe
    seed_oss smallthinker smollm3 stablelm starcoder2 step35 xverse
    """
)

# Sliding windows: one layer of so many has full attention, the last of them, or (True) the first.
WINDOW_PATTERNS = {
    **dict.fromkeys(("gemma2", "gpt-oss"), (2, False)),
    **dict.fromkeys(("afmoe", "cohere2", "exaone-moe", "exaone4", "llama4", "mellum", "olmo2"), (4, False)),
    **dict.fromkeys(("cohere2moe", "laguna", "smallthinker"), (4, True)),
    **{"gemma3n": (5, False), "gemma3": (6, False), "plamo3": (8, False)},
}
LISTED_WINDOWS = _names("gemma4 granite-swa mimo2 step35")  # the pattern is a flag for each layer, in the file
DEFAULT_WINDOWS = {"gemma2": 4096, "llama4": 8192}

# A state instead of a cache: in every layer, in those without KV heads, or in three of four.
RECURRENT = _names("mamba mamba2")
RECURRENT_WITHOUT_HEADS = _names("granitehybrid jamba lfm2 lfm2moe nemotron_h nemotron_h_moe plamo2")
RECURRENT_BY_INTERVAL = _names("qwen35 qwen35moe qwen3next")
STATE_BESIDE_CACHE = _names("falcon-h1")

# Memory of a kind that is not modelled: index caches, compressed caches, other linear attention.
SPECIAL = _names(
    """
    arwkv7 bailingmoe3 deepseek32 deepseek4 dots3note glm-dsa glm5-next hy-v4 kimi-k3 kimi-linear minimax-01 minimax-m3
    qwen4exp rwkv6 rwkv6qwen2 rwkv7
    """
)
# Encoders and diffusion models keep nothing from step to step.
WITHOUT_CACHE = _names(
    """
    bert dream eurobert gemma-embedding jina-bert-v2 jina-bert-v3 llada llada-moe modern-bert neo-bert nomic-bert
    nomic-bert-moe rnd1 wavtokenizer-dec
    """
)
