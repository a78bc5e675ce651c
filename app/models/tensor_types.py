"""Which tensor of a model gets which storage format under a file type such as Q4_K_M. Pure.

The decision is llama-quantize's (llama.cpp b10499 to b11549, no importance matrix): the mixtures, the order in which
tensors are counted, and the stand-ins for rows that a format cannot hold. What is recorded of it is
tests/data/quantize.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Protocol

from app.core.errors import BadRequest
from app.models.ggml_types import TYPE_BY_NAME
from app.models.gguf_file import GgufTensor

# file type → the format that most of its tensors get
DEFAULT_TYPES = {
    **{name: name for name in ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q6_K", "Q1_0", "Q2_0")},
    **{name: name for name in ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ3_S", "IQ4_NL", "IQ4_XS")},
    **{name: name for name in ("TQ1_0", "TQ2_0", "NVFP4", "Q2_K")},
    **{"Q2_K_S": "Q2_K", "Q3_K_S": "Q3_K", "Q3_K_M": "Q3_K", "Q3_K_L": "Q3_K", "Q4_K_S": "Q4_K", "Q4_K_M": "Q4_K"},
    **{"Q5_K_S": "Q5_K", "Q5_K_M": "Q5_K", "IQ2_S": "IQ2_XS", "IQ2_M": "IQ2_S", "IQ3_XS": "IQ3_S", "IQ3_M": "IQ3_S"},
    "MXFP4_MOE": "MXFP4",
}
UNQUANTIZED = frozenset({"F32", "F16", "BF16"})

_SUPER_IQ = frozenset({"IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M"})
_ROOMY_IQ2 = frozenset({"IQ2_S", "IQ2_M"})
_WITH_Q5_ATTENTION_OUTPUT = frozenset(  # of models with eight experts
    {"Q2_K", "Q3_K_S", "Q3_K_M", "Q4_K_S", "Q4_K_M", "IQ3_XXS", "IQ3_XS", "IQ3_S", "IQ3_M", "IQ4_NL", "IQ4_XS"}
)
_NEED_IMPORTANCE = frozenset({"IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS"})
# what a row that is no multiple of the block gets instead
_STAND_INS = {
    **{name: "IQ4_NL" for name in ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_XS")},
    **{name: "Q4_0" for name in ("Q2_0", "Q2_K", "Q3_K", "TQ1_0", "TQ2_0")},
    **{"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"},
}
_KEPT_NAMES = frozenset({"position_embd.weight", "token_types.weight"})
_TIME_MIX = (
    "a0",
    "a1",
    "a2",
    "decay_w1",
    "decay_w2",
    "first",
    "g1",
    "g2",
    "lerp_fused",
    "v0",
    "v1",
    "v2",
    "w0",
    "w1",
    "w2",
)
_KEPT_PARTS = (  # small or fragile: never quantized
    *(f"time_mix_{part}.weight" for part in _TIME_MIX),
    "_norm.weight",
    "ffn_gate_inp.weight",
    "ffn_gate_tid2eid.weight",
    "altup",
    "laurel",
    "per_layer_model_proj",
    "ssm_conv1d",
    "shortconv.conv.weight",
    "indexer.k_proj.weight",
    "indexer.q_proj.weight",
    "attn_rel_b.weight",
    ".position_embd",
    "sam.pos_embd",
    "sam.neck.",
    "sam.net_",
    ".rel_pos",
    ".patch_embd",
    ".patch_merger",
    "a.rvq.codebook",
    "mm.a.code_embd",
)
_SEVENTY_B = frozenset({"qwen2", "olmo", "deci"})  # with 80 layers, whatever their heads
_LAYER = re.compile(r"blk\.(\d+)\.")


class Role(Enum):
    """What a tensor is for, as far as the choice of its format goes."""

    TOKEN_EMBEDDING = auto()
    OUTPUT = auto()
    ATTENTION_QKV = auto()
    ATTENTION_KV_B = auto()
    ATTENTION_V = auto()
    ATTENTION_K = auto()
    ATTENTION_Q = auto()
    ATTENTION_OUTPUT = auto()
    FFN_UP = auto()
    FFN_GATE = auto()
    FFN_DOWN = auto()
    OTHER = auto()


_ROLE_PARTS = (
    ("attn_qkv.weight", Role.ATTENTION_QKV),
    ("attn_kv_b.weight", Role.ATTENTION_KV_B),
    ("attn_v.weight", Role.ATTENTION_V),
    ("attn_k.weight", Role.ATTENTION_K),
    ("attn_q.weight", Role.ATTENTION_Q),
    ("attn_output.weight", Role.ATTENTION_OUTPUT),
    ("ffn_up", Role.FFN_UP),
    ("ffn_gate", Role.FFN_GATE),
    ("ffn_down", Role.FFN_DOWN),
)
_VALUE_ROLES = frozenset({Role.ATTENTION_V, Role.ATTENTION_QKV, Role.ATTENTION_KV_B})


@dataclass(frozen=True, slots=True)
class Shape:
    """The facts about a model that the mixtures depend on."""

    architecture: str
    layers: int
    experts: int
    queries_per_value: int  # attention heads that share one key and value head
    seventy_b: bool
    tied: bool  # the embedding serves as the output layer
    value_tensors: int


class Described(Protocol):
    """A model whose facts are known: a GGUF file, or what a host shows of one."""

    @property
    def architecture(self) -> str: ...
    @property
    def tensors(self) -> tuple[GgufTensor, ...]: ...
    def own_number(self, name: str) -> int | None: ...


def shape_of(model: Described) -> Shape:
    heads, kv_heads = model.own_number("attention.head_count") or 0, model.own_number("attention.head_count_kv")
    kv_heads = heads if kv_heads is None else kv_heads
    architecture, layers = model.architecture, model.own_number("block_count") or 0
    names = [tensor.name for tensor in model.tensors]
    return Shape(
        architecture=architecture,
        layers=layers,
        experts=model.own_number("expert_count") or 0,
        queries_per_value=heads // kv_heads if kv_heads else 0,
        seventy_b=layers == 80 and (architecture in _SEVENTY_B or (architecture == "llama" and heads != kv_heads)),
        tied="output.weight" not in names,
        value_tensors=sum(_role(name) in _VALUE_ROLES for name in names),
    )


def in_writing_order(tensors: Sequence[GgufTensor]) -> list[GgufTensor]:
    """Tensors without a layer first, then layer by layer, by name: the order in which they are counted and written."""

    def place(tensor: GgufTensor) -> tuple[int, bytes]:
        layer = _LAYER.match(tensor.name)
        return (int(layer[1]) if layer else -1, tensor.name.encode())

    return sorted(tensors, key=place)


def choose_types(tensors: Sequence[GgufTensor], shape: Shape, file_type: str) -> list[str]:
    """The format of each of `tensors` (given in writing order) under `file_type`.

    Raises BadRequest for an unknown file type and for one that would need an importance matrix.
    """
    if file_type not in DEFAULT_TYPES:
        raise BadRequest(f"{file_type} is not a file type that can be made", field="quantize")
    chooser = _Chooser(shape, file_type)
    return [chooser.choose(tensor) for tensor in tensors]


def may_quantize(tensor: GgufTensor) -> bool:
    """Whether the tensor is a weight matrix that takes part; norms, biases and small tables keep their format."""
    if not any(size > 1 for size in tensor.shape[1:]) or not tensor.name.endswith("weight"):
        return False
    return tensor.name not in _KEPT_NAMES and not any(part in tensor.name for part in _KEPT_PARTS)


def _role(name: str) -> Role:
    if name == "output.weight":
        return Role.OUTPUT
    if name in ("token_embd.weight", "per_layer_token_embd.weight"):
        return Role.TOKEN_EMBEDDING
    return next((role for part, role in _ROLE_PARTS if part in name), Role.OTHER)


def _more_bits(index: int, count: int) -> bool:
    """The first and last eighth of the layers and every third one between them."""
    return index < count // 8 or index >= 7 * count // 8 or (index - count // 8) % 3 == 2


@dataclass(slots=True)
class _Chooser:
    """Walks over the tensors once; how many of a role came before decides some mixtures."""

    shape: Shape
    file_type: str
    seen: dict[Role, int] = field(default_factory=dict)

    def choose(self, tensor: GgufTensor) -> str:
        if not may_quantize(tensor):
            return tensor.type
        default = DEFAULT_TYPES[self.file_type]
        if default in UNQUANTIZED:
            return default
        role = _role(tensor.name)
        chosen = _fitting(tensor, self._mixture(tensor, role) or default)
        self._refuse_without_importance(tensor, role, chosen)
        return chosen

    def _refuse_without_importance(self, tensor: GgufTensor, role: Role, chosen: str) -> None:
        needed = chosen in _NEED_IMPORTANCE or (chosen == "Q2_K" and self.file_type == "Q2_K_S")
        if needed and role not in (Role.TOKEN_EMBEDDING, Role.OUTPUT):
            raise BadRequest(
                f"{self.file_type} needs an importance matrix ({tensor.name} would be {chosen}); "
                "choose Q2_K or larger, IQ3_S, IQ3_M, IQ4_XS or IQ4_NL",
                field="quantize",
            )

    def _count(self, role: Role) -> int:
        """How many tensors of this role came before."""
        index = self.seen.get(role, 0)
        self.seen[role] = index + 1
        return index

    def _layer(self, tensor: GgufTensor, role: Role) -> int:
        """The layer by counting; in a mixture of experts, where a layer has several such tensors, by name."""
        index = self._count(role)
        if self.shape.experts <= 1:
            return index
        match = _LAYER.match(tensor.name)
        if match is None or int(match[1]) >= self.shape.layers:
            raise BadRequest(f"the layer of {tensor.name} cannot be told (the model has {self.shape.layers})")
        return int(match[1])

    def _mixture(self, tensor: GgufTensor, role: Role) -> str | None:
        """The format for this tensor where it differs from the file type's default; None where it does not."""
        if role is Role.OUTPUT or (role is Role.TOKEN_EMBEDDING and self.shape.tied):
            return self._output(tensor)
        if self.file_type == "MXFP4_MOE":
            return self._mxfp4(tensor, role)
        if role is Role.TOKEN_EMBEDDING:
            return self._embedding()
        if self.file_type in _SUPER_IQ:
            return self._super_iq(role)
        if role in _VALUE_ROLES:
            return self._value(self._count(Role.ATTENTION_V))
        if role is Role.ATTENTION_K or role is Role.ATTENTION_Q:
            return self._key_or_query(role)
        if role is Role.FFN_DOWN:
            return self._ffn_down(self._layer(tensor, role))
        if role is Role.ATTENTION_OUTPUT:
            return self._attention_output()
        if role is Role.FFN_GATE or role is Role.FFN_UP:
            layer, layers = self._layer(tensor, role), self.shape.layers
            return "IQ3_XXS" if self.file_type == "IQ3_XS" and layers // 8 <= layer < 7 * layers // 8 else None
        return None

    def _output(self, tensor: GgufTensor) -> str | None:
        default = DEFAULT_TYPES[self.file_type]
        if self.file_type == "MXFP4_MOE" or self.shape.architecture == "falcon":
            return "Q8_0"
        if tensor.shape[0] % TYPE_BY_NAME[default].block:
            return "Q8_0"
        if self.file_type in _SUPER_IQ or self.file_type == "IQ3_XXS":
            return "Q5_K"
        return "Q6_K" if default != "Q8_0" else None

    def _mxfp4(self, tensor: GgufTensor, role: Role) -> str:
        several = len(tensor.shape) > 2 and tensor.shape[2] > 1
        if self.shape.architecture == "bailingmoe3":  # its attention has projections of three dimensions too
            several = several and role in (Role.FFN_UP, Role.FFN_GATE, Role.FFN_DOWN)
        return "MXFP4" if several else "Q8_0"

    def _embedding(self) -> str | None:
        if self.file_type in ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS"):
            return "Q2_K"
        if self.file_type in ("IQ2_S", "IQ2_M", "IQ3_XXS"):
            return "IQ3_S"
        return "Q4_K" if self.file_type in ("TQ1_0", "TQ2_0", "Q2_0") else None

    def _super_iq(self, role: Role) -> str | None:
        richer = "IQ3_S" if self.file_type in _ROOMY_IQ2 else "Q2_K"
        if role in _VALUE_ROLES:
            return "Q4_K" if self.shape.queries_per_value >= 4 or self.shape.experts >= 4 else richer
        if role is Role.ATTENTION_K and self.shape.experts == 8:
            return "Q4_K"
        if role is Role.FFN_DOWN:
            return richer if self._count(role) < self.shape.layers // 8 else None
        if role is Role.ATTENTION_OUTPUT:
            if self.shape.experts == 8:
                return "Q5_K"
            if self.file_type in ("IQ1_S", "IQ1_M"):
                return "IQ2_XXS"
            return "IQ3_S" if self.file_type in _ROOMY_IQ2 else None
        return None

    def _value(self, index: int) -> str | None:
        if self.shape.experts == 8:
            return "Q8_0"
        chosen = self._value_mixture(index) or DEFAULT_TYPES[self.file_type]
        return "Q5_K" if self.shape.seventy_b and chosen in ("Q3_K", "Q4_K") else chosen

    def _value_mixture(self, index: int) -> str | None:
        kind, shared = self.file_type, self.shape.queries_per_value >= 4
        if kind == "Q2_K":
            return "Q4_K" if shared else "Q3_K"
        if kind == "IQ3_XXS":
            return "Q4_K" if shared else "IQ3_S"
        if kind in ("Q2_K_S", "IQ3_XS", "IQ3_S"):
            return "Q4_K" if shared else None
        if kind in ("IQ4_NL", "IQ4_XS"):
            return "Q5_K" if shared else None
        if kind in ("Q4_K_M", "Q5_K_M"):
            return "Q6_K" if _more_bits(index, self.shape.value_tensors) else None
        if kind == "Q3_K_M":
            return "Q5_K" if index < 2 else "Q4_K"
        if kind == "Q4_K_S":
            return "Q5_K" if index < 4 else None
        return {"IQ3_M": "Q4_K", "Q3_K_L": "Q5_K"}.get(kind)

    def _key_or_query(self, role: Role) -> str | None:
        if role is Role.ATTENTION_K and self.shape.experts == 8:
            return "Q8_0"
        return {"IQ3_XS": "IQ3_XXS", "IQ3_XXS": "IQ2_S"}.get(self.file_type)

    def _ffn_down(self, layer: int) -> str | None:
        kind, layers, falcon = self.file_type, self.shape.layers, self.shape.architecture == "falcon"
        early, more = layer < layers // 8, _more_bits(layer, layers)
        if kind == "Q3_K_M":
            if layer < layers // 16:
                return "Q5_K"
            return "Q4_K" if not falcon or more else "Q3_K"
        if kind == "Q4_K_M":
            if falcon:
                return "Q6_K" if layer < layers // 16 else "Q5_K" if more else None
            return "Q6_K" if more else None
        if kind == "IQ3_M":
            return "Q4_K" if early or (self.shape.experts == 8 and more) else None
        if kind == "IQ3_XXS":
            return "Q4_K" if early else "Q3_K"
        if kind == "Q5_K_M":
            return "Q6_K" if more else None
        if early and (kind in ("IQ4_NL", "IQ4_XS") or (kind == "Q4_K_S" and not falcon)):
            return "Q5_K"
        if kind == "Q2_K_S":
            return "Q4_K" if early else None
        return {"Q2_K": "Q3_K", "Q3_K_L": "Q4_K" if falcon else "Q5_K"}.get(kind)

    def _attention_output(self) -> str | None:
        kind = self.file_type
        if self.shape.architecture == "falcon":
            return "Q4_K" if kind == "Q3_K_L" else None
        if self.shape.experts == 8:
            return "Q5_K" if kind in _WITH_Q5_ATTENTION_OUTPUT else None
        return {"Q2_K": "Q3_K", "IQ3_XXS": "IQ3_S", "Q3_K_M": "Q4_K", "Q3_K_L": "Q5_K", "IQ3_M": "Q4_K"}.get(kind)


def _fitting(tensor: GgufTensor, chosen: str) -> str:
    """`chosen`, or what stands in for it where a row of the tensor is no multiple of its block."""
    row = tensor.shape[0]
    if row % TYPE_BY_NAME[chosen].block == 0:
        return chosen
    stand_in = _STAND_INS.get(chosen)
    if stand_in is None:
        raise BadRequest(f"{tensor.name} has rows of {row} elements, which {chosen} cannot store", field="quantize")
    return stand_in if row % TYPE_BY_NAME[stand_in].block == 0 else "F16"
