"""The layers of a model as memory sees them: what each keeps for a token, and what one step works with. Pure.

Source: llama.cpp's hyperparameters and memory types for each architecture (llama-hparams, llama-model's
create_memory, the loaders under src/models; read at the release that our runtime is built from).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from app.core.generation import Json
from app.models import memory_architectures as known

MAX_LAYERS = 512  # llama.cpp's own bound


class Withheld(Exception):  # noqa: N818 - a reason, never seen outside the prediction
    """Something that the layers hang on is not told."""


@dataclass(frozen=True, slots=True)
class Layer:
    """Elements of K and V for each token in the cache, and of the state (32-bit) for each slot."""

    key: int = 0
    value: int = 0
    sliding: bool = False
    state: int = 0


@dataclass(frozen=True, slots=True)
class Scratch:
    """Widths (elements a token) of what one step works with: the residual stream and the widest of each kind."""

    embedding: int
    feed_forward: int = 0
    experts: int = 0
    expert_width: int = 0
    attention: int = 0
    recurrent: int = 0
    hybrid: bool = False


class Keys:
    """Metadata under the architecture's own prefix."""

    def __init__(self, info: Mapping[str, Json]) -> None:
        self._info = info
        name = info.get("general.architecture")
        self.architecture = name if isinstance(name, str) else ""

    def has(self, name: str) -> bool:
        return f"{self.architecture}.{name}" in self._info

    def value(self, name: str) -> Json:
        return self._info.get(f"{self.architecture}.{name}")

    def number(self, name: str) -> int | None:
        value = self.value(name)
        return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None

    def need(self, name: str) -> int:
        """Raises Withheld where there is no such number."""
        value = self.number(name)
        if value is None:
            raise Withheld(f"{self.architecture or 'the architecture'}.{name} is not told")
        return value

    def each(self, name: str, count: int, default: int | None = None) -> tuple[int, ...]:
        """A number for each of `count` layers, from one number or a list. Raises Withheld where it is not told."""
        value = self.value(name)
        if isinstance(value, list):
            numbers = tuple(int(one) for one in value[:count] if isinstance(one, int) and one >= 0)
            if len(numbers) < count:
                raise Withheld(f"{self.architecture}.{name} differs by layer and is not listed")
            return numbers
        if default is not None and not self.has(name):
            return (default,) * count
        return (self.need(name),) * count


def sliding_window(keys: Keys) -> int:
    """Tokens that sliding layers look back; 0 for models that have none, or whose window llama.cpp does not use."""
    name = keys.architecture
    if name not in known.WINDOW_PATTERNS and name not in known.LISTED_WINDOWS:
        return 0  # phi3 and others carry the key, and are run with full attention
    if name == "exaone4" and keys.number("block_count") != 64:
        return 0
    told = keys.number("attention.sliding_window")
    if name == "llama4" and told != 0:
        return known.DEFAULT_WINDOWS[name]
    return known.DEFAULT_WINDOWS.get(name, 0) if told is None else told


def layers_of(keys: Keys) -> tuple[Layer, ...]:
    """One `Layer` for each block that the main graph runs. Raises Withheld."""
    if keys.architecture in known.SPECIAL:
        raise Withheld(f"the memory of {keys.architecture} is not modelled")
    count = _blocks(keys) - (keys.number("nextn_predict_layers") or 0)
    if keys.architecture in known.WITHOUT_CACHE:
        return (Layer(),) * count
    recurrent = _recurrent(keys, count)
    state = _state_elements(keys) if any(recurrent) else 0
    cached = _cached(keys, count)
    if keys.architecture in known.STATE_BESIDE_CACHE:
        return tuple(Layer(one.key, one.value, one.sliding, state) for one in cached)
    return tuple(Layer(state=state) if own else one for own, one in zip(recurrent, cached, strict=True))


def _blocks(keys: Keys) -> int:
    count = keys.need("block_count")
    if not 0 < count <= MAX_LAYERS:
        raise Withheld(f"{count} layers are not plausible")
    return count


def _cached(keys: Keys, count: int) -> list[Layer]:
    """The layers as if each had attention."""
    if keys.architecture in known.RECURRENT:
        return [Layer()] * count
    heads = keys.each("attention.head_count", count)
    kv_heads = keys.each("attention.head_count_kv", count, heads[0])
    usual = keys.need("embedding_length") // max(heads) if max(heads) else 0
    key, value = _sized(keys, "key_length", usual), _sized(keys, "value_length", usual)
    near_key, near_value = _sized(keys, "key_length_swa", key), _sized(keys, "value_length_swa", value)
    compressed = keys.has("attention.key_length_mla") and keys.has("attention.value_length_mla")  # K alone is kept
    first_shared = _first_shared(keys, count)
    found = []
    for index, (few, near) in enumerate(zip(kv_heads, _sliding(keys, count), strict=True)):
        if index >= first_shared:
            found.append(Layer(sliding=near))
            continue
        width, depth = (near_key, near_value) if near else (key, value)
        found.append(Layer(few * width, 0 if compressed else few * depth, near))
    return found


def _sized(keys: Keys, name: str, default: int) -> int:
    return default if not keys.has(f"attention.{name}") else keys.need(f"attention.{name}")


def _first_shared(keys: Keys, count: int) -> int:
    """Layers from here on use the cache of an earlier one."""
    if keys.architecture == "gemma3n":
        return 20
    return count - (keys.number("attention.shared_kv_layers") or 0)


def _sliding(keys: Keys, count: int) -> list[bool]:
    """Which layers look back only a window. A list in the file wins over a period, a period over the usual one."""
    name = "attention.sliding_window_pattern"
    if not sliding_window(keys):
        return [False] * count
    told = keys.value(name)
    if isinstance(told, list) and len(told) >= count:
        return [bool(flag) for flag in told[:count]]
    if keys.architecture in known.LISTED_WINDOWS or (keys.has(name) and keys.number(name) is None):
        raise Withheld(f"{keys.architecture}.{name} differs by layer and is not listed")
    usual, full_first = known.WINDOW_PATTERNS[keys.architecture]
    period = keys.number(name) if keys.has(name) else usual
    if not period:
        return [True] * count
    full = 0 if full_first else period - 1
    return [index % period != full for index in range(count)]


def _recurrent(keys: Keys, count: int) -> list[bool]:
    name = keys.architecture
    if name in known.RECURRENT:
        return [True] * count
    if name in known.RECURRENT_BY_INTERVAL:
        every = keys.number("full_attention_interval") or 4
        return [(index + 1) % every != 0 for index in range(count)]
    if name not in known.RECURRENT_WITHOUT_HEADS:
        return [False] * count
    flags = [heads == 0 for heads in keys.each("attention.head_count_kv", count)]
    if name.startswith("nemotron_h"):  # layers that are only a feed-forward network keep nothing at all
        widths = keys.each("feed_forward_length", count)
        return [flag and not width for flag, width in zip(flags, widths, strict=True)]
    return flags


def _state_elements(keys: Keys) -> int:
    """Elements of the state of one recurrent layer and one slot."""
    if keys.architecture.startswith("lfm2"):
        return keys.need("embedding_length") * (keys.need("shortconv.l_cache") - 1)
    kernel = keys.need("ssm.conv_kernel")
    return max(kernel - 1, 0) * _convolved(keys) + keys.need("ssm.state_size") * keys.need("ssm.inner_size")


def _convolved(keys: Keys) -> int:
    groups = keys.number("ssm.group_count") or 0
    return keys.need("ssm.inner_size") + 2 * groups * keys.need("ssm.state_size")


def scratch_of(keys: Keys) -> Scratch:
    """The widths that the compute buffer hangs on. Raises Withheld."""
    count = _blocks(keys)
    used = keys.number("expert_used_count") or 0 if keys.number("expert_count") else 0
    wide = max(keys.each("feed_forward_length", count, 0))
    recurrent = 0
    if keys.has("ssm.inner_size"):
        ranks = keys.number("ssm.time_step_rank") or 0 if keys.number("ssm.group_count") else 0
        recurrent = 3 * _convolved(keys) + 2 * keys.need("ssm.inner_size") + ranks
    return Scratch(
        embedding=keys.need("embedding_length"),
        feed_forward=0 if used and not keys.number("leading_dense_block_count") else wide,
        experts=used,
        expert_width=(keys.number("expert_feed_forward_length") or wide) if used else 0,
        attention=_attention_width(keys, count),
        recurrent=recurrent,
        hybrid=bool(recurrent) and keys.architecture not in known.RECURRENT,
    )


def _attention_width(keys: Keys, count: int) -> int:
    """Queries, keys and values twice (before and after the rotation); compressed ones also in their short form."""
    if keys.architecture in known.RECURRENT:
        return 0
    heads = max(keys.each("attention.head_count", count))
    kv_heads = max(keys.each("attention.head_count_kv", count, heads))
    width = _sized(keys, "key_length", keys.need("embedding_length") // heads if heads else 0)
    if keys.has("attention.key_length_mla"):
        return heads * (2 * width + keys.need("attention.key_length_mla"))
    return 2 * (heads + kv_heads) * width
