"""What a weight tensor weighs as it is stored: elements, scales, zero points.

A `Scheme` says how the linear layers of a model are packed and which tensors stay in
the model's own dtype. It comes from a `quantization_config` as published with a
checkpoint (`scheme_of`), or from a dtype that the user asked for (`plain_scheme`).

Sources: the formats as Hugging Face transformers and vLLM read them; Frantar et al.
2022, arXiv:2210.17323 (GPTQ); Lin et al. 2023, arXiv:2306.00978 (AWQ); Dettmers et
al. 2023, arXiv:2305.14314 (NF4, double quantisation); OCP Microscaling Formats 1.0.
"""

import enum
import math

import msgspec

from attnbench.calc.module_names import Patterns
from attnbench.spec.dtype import Dtype
from attnbench.spec.model import Role, Tensor

_LINEAR_ROLES = frozenset(
    {Role.ATTENTION, Role.MLP, Role.ROUTED_EXPERT, Role.SHARED_EXPERT, Role.RECURRENT}
)
_NOT_LINEAR = ("bias", "norm", "conv", "a_log", "embed", "sinks", "dt_bias")


class Scales(enum.StrEnum):
    """What one scale stands for: the tensor, an output row, a group of inputs, a block."""

    NONE = "none"
    TENSOR = "tensor"
    ROW = "row"
    GROUP = "group"
    BLOCK = "block"


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """How one linear weight [out, in] is packed.

    `bits` of an element. A scale of `scale_bytes` for each unit of `scales`: `group`
    inputs of one row, or a block of `block` = [out, in]. `zero_bits` an element of a
    group's zero point. `index_bytes` an input (GPTQ's g_idx). `extra_bytes` a tensor.
    """

    bits: float
    scales: Scales = Scales.NONE
    scale_bytes: float = 0
    group: int = 0
    block: tuple[int, int] = (0, 0)
    zero_bits: float = 0
    index_bytes: int = 0
    extra_bytes: int = 0

    def bytes_of(self, out: int, into: int) -> int:
        """Bytes of one matrix [out, into].

        >>> Layout(bits=8, scales=Scales.BLOCK, scale_bytes=4, block=(128, 128)).bytes_of(256, 129)
        33040
        """
        if self.scales is Scales.TENSOR:
            units = 1
        elif self.scales is Scales.ROW:
            units = out
        elif self.scales is Scales.GROUP:
            units = out * -(-into // self.group)
        elif self.scales is Scales.BLOCK:
            units = -(-out // self.block[0]) * -(-into // self.block[1])
        else:
            units = 0
        per_unit = self.scale_bytes + self.zero_bits / 8
        data = math.ceil(out * into * self.bits / 8)
        return data + math.ceil(units * per_unit) + self.index_bytes * into + self.extra_bytes


class Scheme(msgspec.Struct, frozen=True, kw_only=True):
    """How a model's weights are stored.

    Tensors that `layout` does not cover, or that `kept` names, stand in `dtype`.
    `name` and `note` are for people. `layout` None: every tensor stands in `dtype`.
    `mixers` is the layout of attention and recurrent layers where it is another one.
    `drafts`: experts of multi-token-prediction modules are packed as the model's are.
    """

    name: str
    dtype: Dtype
    layout: Layout | None = None
    kept: Patterns = Patterns()
    only: Patterns | None = None
    head: bool = False
    note: str = ""
    mixers: Layout | None = None
    drafts: bool = True

    def layout_of(self, tensor: Tensor) -> Layout | None:
        """How `tensor` is packed, where it is."""
        if self.mixers is not None and tensor.role in (Role.ATTENTION, Role.RECURRENT):
            return self.mixers
        return self.layout

    def covers(self, tensor: Tensor) -> bool:
        """Whether `tensor` is of the kind that the scheme packs, names apart."""
        if self.layout is None or len(tensor.shape) < 2:
            return False
        leaf = tensor.name.lower().removesuffix(".weight").rpartition(".")[2]
        if any(word in leaf for word in _NOT_LINEAR):
            return False
        if tensor.role is Role.OUTPUT:
            return self.head
        if tensor.role is Role.RECURRENT and min(tensor.shape[-2:]) < 64:
            return False  # decays and kernels of a state-space layer are no projections
        return tensor.role in _LINEAR_ROLES

    def packed_layers(self, tensor: Tensor, indices: tuple[int, ...]) -> int:
        """In how many of the layers `indices` is `tensor` packed."""
        if not self.covers(tensor):
            return 0
        module = tensor.name.removesuffix(".weight")
        if self.only is not None:
            inside = self.only.count(module, indices)
            return inside - min(inside, self.kept.count(module, indices))
        return len(indices) - self.kept.count(module, indices)

    def bytes_of(self, tensor: Tensor, indices: tuple[int, ...] = (0,)) -> int:
        """Bytes of the tensors of group `tensor` in all the layers `indices`."""
        packed = self.packed_layers(tensor, indices)
        plain = len(indices) - packed
        total = plain * tensor.count * self.dtype.bytes_of(math.prod(tensor.shape))
        layout = self.layout_of(tensor)
        if packed and layout is not None:
            *stack, out, into = tensor.shape
            copies = packed * tensor.count * math.prod(stack)
            total += copies * layout.bytes_of(out, into)
        return total


LAYOUTS = {
    Dtype.FP8_E4M3: Layout(bits=8, scales=Scales.TENSOR, scale_bytes=4),
    Dtype.FP8_E5M2: Layout(bits=8, scales=Scales.TENSOR, scale_bytes=4),
    Dtype.INT8: Layout(bits=8, scales=Scales.ROW, scale_bytes=2),
    Dtype.INT4: Layout(bits=4, scales=Scales.GROUP, scale_bytes=2, group=128),
    Dtype.MXFP4: Layout(bits=4, scales=Scales.GROUP, scale_bytes=1, group=32),
    Dtype.NVFP4: Layout(bits=4, scales=Scales.GROUP, scale_bytes=1, group=16, extra_bytes=4),
}


def nf4_layout(*, double: bool) -> Layout:
    """NF4: an fp32 a 64 elements, or with double quantisation a byte, and an fp32 a 256 of those.

    Source: Dettmers et al. 2023, arXiv:2305.14314, section 3: 0.5 and 0.127 bits a parameter.
    """
    scale = 1 + 4 / 256 if double else 4
    return Layout(bits=4, scales=Scales.GROUP, scale_bytes=scale, group=64)


def nf4_scheme(rest: Dtype) -> Scheme:
    """NF4 with double quantisation, as QLoRA freezes a model; what is no linear layer in `rest`."""
    note = f"linear layers in NF4 with doubly quantised scales, the rest in {rest}"
    return Scheme(name="nf4", dtype=rest, layout=nf4_layout(double=True), note=note)


def plain_scheme(dtype: Dtype, rest: Dtype) -> Scheme:
    """The scheme for a dtype that was asked for.

    16 bits and over hold every tensor; narrower formats hold the linear layers of the
    blocks, with their scales, and `rest` holds embeddings, output, norms and routers,
    as every published quantisation of a language model has it.
    """
    layout = LAYOUTS.get(dtype)
    if layout is None:
        return Scheme(name=str(dtype), dtype=dtype)
    note = f"linear layers in {dtype} with their scales; embeddings, output, norms, routers {rest}"
    return Scheme(name=str(dtype), dtype=rest, layout=layout, note=note)
