"""The field's terms, each in one sentence, the same everywhere: shown on hover."""

from __future__ import annotations

from html import escape

TERMS = {
    "TTFT": "Time to first token: from sending the question to the first word of the answer, waiting included.",
    "TPOT": "Time per output token: the time from the first token to the last record, for each token after the first.",
    "ITL": "Inter-token latency: each gap between two pieces of an answer; it shows stutter that averages hide.",
    "E2E": "End to end: from the moment a question was meant to be sent to the last record of its answer.",
    "tok/s": "Decode speed: tokens written per second, without queue, load and prefill.",
    "KLD": "Kullback–Leibler divergence: how far the variant's probabilities for the next token are from the "
    "reference's, on average. 0 is the same model; about 0.01 goes unnoticed, 0.1 shows.",
    "KLD bound": "The divergence is at least this: computed from the 20 likeliest tokens; the rest can only add.",
    "same-top": "How often the variant's likeliest next token is the reference's too.",
    "PPL ratio": "Perplexity against the reference's on the same text. Near 1 says little: gains and losses cancel.",
    "first difference": "After how many tokens, in the median, a greedy answer differs from the reference's.",
    "warm load": "Reading the weights into memory when the file was read before; the first time it is slower.",
    "prefill speed": "Tokens of a prompt read per second: the slope between two lengths, so that fixed costs cancel.",
    "decode speed": "Tokens written per second, in requests made for measuring it.",
    "energy": "Joules drawn for each token written, above what the machine draws at rest.",
    "memory": "Weights, context and work space: as the host reports it, and as predicted from the file.",
    "bpw": "Bits per weight: the size of the weights in bits, divided by their number. The label only suggests it.",
    "Cache": "Looking for the same request in the response cache.",
    "Queue": "Waiting for a free slot on a model host.",
    "Connect": "Reaching the model host.",
    "Load": "Reading the model's weights into memory.",
    "Prefill": "Reading the prompt: every token of it passes through the model once.",
    "First token": "From the sent request to the first token that came back.",
    "Host": "One attempt at one model host, from sending the request to the end of its answer.",
    "Write": "From the first piece handed to the reader to the last; a slow reader shows here.",
    "pieces over time": "How many pieces of the answer had come by when. A host sends a piece for each token.",
    "Decode": "Writing the answer, token by token.",
    "cached": "The same request was answered before; this is that answer, and no model ran.",
    "cache": "Whether an answer may come out of the cache, and is kept there, instead of being made by the model. An "
    "answer is certain at temperature 0 or with a seed: it would come out the same again.",
    "Rest": "The way to the host and back, and what the host itself waits for.",
    "temperature": "How freely the next token is drawn; 0 always takes the likeliest.",
    "top_p": "Draw only from the likeliest tokens that together have this probability.",
    "top_k": "Draw only from this many likeliest tokens.",
    "min_p": "Leave out tokens less likely than this share of the likeliest one.",
    "seed": "The same seed with the same request gives the same answer, and lets it be cached.",
    "num_ctx": "How many tokens of conversation the model holds; more needs more memory, and reloads the model.",
    "num_predict": "The longest answer in tokens; -1 is until the model ends.",
    "repeat_penalty": "How strongly tokens that were just used are avoided; 1 is not at all.",
    "keep_alive": "How long the model stays loaded after an answer, such as 5m or 1h; 0 unloads it, -1 keeps it.",
}


def explained(text: str, term: str) -> str:
    """The text as HTML, with the term's sentence on hover."""
    told = TERMS.get(term)
    return f'<span title="{escape(told, quote=True)}">{escape(text)}</span>' if told else f"<span>{escape(text)}</span>"
