"""Gradients, optimizer states and adapters of training, and what ZeRO leaves of them.

Sources: Rajbhandari et al. 2020, arXiv:1910.02054 (mixed precision, ZeRO); Loshchilov
and Hutter 2019, arXiv:1711.05101 (AdamW); Dettmers et al. 2022, arXiv:2110.02861 (8-bit);
Shazeer and Stern 2018, arXiv:1804.04235 (Adafactor); Liu et al. 2025, arXiv:2502.16982
(Muon); Hu et al. 2021, arXiv:2106.09685 (LoRA); Dettmers et al. 2023, arXiv:2305.14314.
"""

import enum
import math

import msgspec

from attnbench.errors import UserError
from attnbench.spec.model import Layer, ModelSpec, Role, Shard, Tensor

_BLOCK_8BIT = 256  # elements that share one fp32 scale in bitsandbytes' 8-bit states
_LEAST_8BIT = 4096  # smaller tensors keep 32-bit states there
_LINEAR = frozenset(
    {Role.ATTENTION, Role.MLP, Role.SHARED_EXPERT, Role.ROUTED_EXPERT, Role.RECURRENT}
)


class Optimizer(enum.StrEnum):
    """What turns gradients into steps; its states are fp32 unless its name says 8 bits."""

    ADAMW = "adamw"
    ADAMW_8BIT = "adamw-8bit"
    ADAFACTOR = "adafactor"
    MUON = "muon"
    SGD = "sgd"
    SGD_MOMENTUM = "sgd-momentum"


def state_bytes(tensor: Tensor, optimizer: Optimizer) -> int:
    """Bytes of the optimizer's states for the tensors of group `tensor`, one layer's.

    With N elements a tensor:
        adamw         8 N   two fp32 moments
        adamw-8bit    2 N + 8 ceil(N / 256), and 8 N under 4,096 elements
        adafactor     4 (rows + columns) of a matrix, 4 N of a vector; no momentum
        muon          4 N of a hidden matrix, else as adamw
        sgd           0
        sgd-momentum  4 N

    >>> state_bytes(Tensor(name="w", shape=(1024, 1024), role=Role.MLP), Optimizer.ADAFACTOR)
    8192
    """
    elements = math.prod(tensor.shape)
    matrix = len(tensor.shape) >= 2
    if optimizer is Optimizer.ADAMW:
        each = 8 * elements
    elif optimizer is Optimizer.ADAMW_8BIT:
        scales = 2 * 4 * -(-elements // _BLOCK_8BIT)
        each = 2 * elements + scales if elements >= _LEAST_8BIT else 8 * elements
    elif optimizer is Optimizer.ADAFACTOR:
        rows_and_columns = sum(tensor.shape[-2:]) * math.prod(tensor.shape[:-2])
        each = 4 * (rows_and_columns if matrix else elements)
    elif optimizer is Optimizer.MUON:
        each = (4 if matrix and tensor.role in _LINEAR else 8) * elements
    elif optimizer is Optimizer.SGD_MOMENTUM:
        each = 4 * elements
    else:
        each = 0
    return each * tensor.count


class Lora(msgspec.Struct, frozen=True, kw_only=True):
    """Low-rank adapters of `rank` beside the linear layers that `targets` names.

    A target is `all-linear`, `attention`, or a module's last name (`q_proj`).
    """

    rank: int
    targets: tuple[str, ...] = ("all-linear",)


def adapters(model: ModelSpec, lora: Lora) -> ModelSpec:
    """`model` with the adapters' tensors in the place of its own.

    A weight [out, in] gets A [rank, in] and B [out, rank], so rank · (out + in)
    parameters; of a column-parallel weight B is split, of a row-parallel one A.

    Raises:
        UserError: no linear layer is among the targets.
    """

    def adapted(layer: Layer) -> Layer:
        tensors = tuple(a for t in layer.tensors if _is_target(t, lora) for a in _pair(t, lora))
        return msgspec.structs.replace(layer, tensors=tensors)

    layers = tuple(adapted(layer) for layer in model.layers)
    encoder = tuple(adapted(layer) for layer in model.encoder)
    if not any(layer.tensors for layer in (*layers, *encoder)):
        raise UserError(
            f"--lora-targets {','.join(lora.targets)}: {model.name} has no such linear layer",
            hint=f"It has {', '.join(linear_names(model)) or 'none'}; or all-linear, attention.",
        )
    return msgspec.structs.replace(
        model,
        layers=layers,
        encoder=encoder,
        outside=(),
        quantization=None,
        stored_bytes=None,
        stored_parts=None,
    )


def linear_names(model: ModelSpec) -> tuple[str, ...]:
    """Last names of the linear layers that adapters can stand beside."""
    names = {
        _leaf(tensor)
        for layer in (*model.encoder, *model.layers)
        for tensor in layer.tensors
        if _is_linear(tensor)
    }
    return tuple(sorted(names))


def _leaf(tensor: Tensor) -> str:
    return tensor.name.removesuffix(".weight").rpartition(".")[2]


def _is_linear(tensor: Tensor) -> bool:
    leaf = _leaf(tensor).lower()
    if len(tensor.shape) < 2 or tensor.role not in _LINEAR:
        return False
    return not any(word in leaf for word in ("bias", "conv", "a_log", "norm", "embed"))


def _is_target(tensor: Tensor, lora: Lora) -> bool:
    if not _is_linear(tensor):
        return False
    if "all-linear" in lora.targets:
        return True
    attention = "attention" in lora.targets and tensor.role is Role.ATTENTION
    return attention or _leaf(tensor) in lora.targets


def _pair(tensor: Tensor, lora: Lora) -> tuple[Tensor, Tensor]:
    *stack, out, into = tensor.shape
    row = tensor.shard is Shard.ROW
    expert = tensor.shard is Shard.EXPERT
    whole = Shard.REPLICATED
    first = Shard.EXPERT if expert else Shard.ROW if row else whole
    second = Shard.EXPERT if expert else whole if row else tensor.shard
    base = tensor.name.removesuffix(".weight")
    return (
        msgspec.structs.replace(
            tensor, name=f"{base}.lora_A.weight", shape=(*stack, lora.rank, into), shard=first
        ),
        msgspec.structs.replace(
            tensor, name=f"{base}.lora_B.weight", shape=(*stack, out, lora.rank), shard=second
        ),
    )


def left_by_zero(held_bytes: int, zero: int, from_stage: int, copies: int) -> int:
    """Bytes on one rank of a state that ZeRO divides from stage `from_stage` on.

    Stage 1 divides optimizer states by the data-parallel ranks, stage 2 gradients
    too, stage 3 weights too.

    >>> left_by_zero(90_000_000_000, 1, 1, 64)
    1406250000
    """
    return -(-held_bytes // copies) if zero >= from_stage else held_bytes
