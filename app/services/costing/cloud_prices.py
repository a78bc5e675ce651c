"""What the same tokens cost elsewhere: a short table to begin with, of list prices on one day. Prices change, so the
table bears its date, and whoever runs Loupe edits it.

The figures are those of LiteLLM's collected price list (release 1.110.2, the newest on that day), without discounts for
batches, cached prompts or hours of the day.
"""

from __future__ import annotations

from dataclasses import dataclass

SHIPPED_ON = "2026-11-27"


@dataclass(frozen=True, slots=True)
class CloudPrice:
    """US dollars for a million tokens: of the prompt (`read`), of the answer (`written`)."""

    name: str
    read: float
    written: float


SHIPPED = (
    CloudPrice("Llama 3.2 3B, DeepInfra", 0.02, 0.02),
    CloudPrice("Gemma 4 E4B, DeepInfra", 0.02, 0.10),
    CloudPrice("gpt-oss 120B, Groq", 0.15, 0.60),
    CloudPrice("Qwen3.8 27B, Groq", 0.80, 4.00),
    CloudPrice("Mistral Small", 0.15, 0.60),
    CloudPrice("Gemini 2.5 Flash-Lite", 0.10, 0.40),
    CloudPrice("GPT-6 Luna", 0.10, 0.50),
    CloudPrice("Claude Haiku 5.5", 0.10, 0.50),
    CloudPrice("GPT-6.1 Sol", 2.00, 10.00),
    CloudPrice("Claude Sonnet 5.5", 2.00, 10.00),
)
