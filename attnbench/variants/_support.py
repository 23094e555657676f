"""What the eager and sdpa backends can run, and the pieces that variants' rows share."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from attnbench.calc.attention_cost import Cost
from attnbench.calc.featured_cost import featured_cost
from attnbench.calc.patterns import Full, Pattern
from attnbench.calc.score_features import kv_lens, score_features
from attnbench.spec.attention import AttentionShape, Mode
from attnbench.spec.dtype import Dtype
from attnbench.variants._protocol import Learned, Params

if TYPE_CHECKING:
    import torch
    from torch import Tensor

SINKS = "sink_logit"  # the name of the sinks' logits among what is learned
DTYPES = (Dtype.FP64, Dtype.FP32, Dtype.FP16, Dtype.BF16)


def supports_dtype(
    shape: AttentionShape, mode: Mode, params: Params, device_type: str
) -> str | None:
    """The reason that torch's own operators cannot run `shape`, or None."""
    if shape.dtype not in DTYPES:
        return f"torch multiplies no {shape.dtype} matrices here; try fp32, bf16 or fp16"
    return None


def unchanged(shape: AttentionShape, params: Params) -> Params:
    """Settings that depend on no shape, as they are."""
    return params


def full(shape: AttentionShape, params: Params) -> Full:
    """All pairs, or the causal ones."""
    return Full(causal=shape.causal)


def pattern_cost_of(
    pattern: Callable[[AttentionShape, Params], Pattern],
) -> Callable[[AttentionShape, Mode, Params], Cost]:
    """The cost of a variant over `pattern`, of the pairs that its features leave."""

    def cost(shape: AttentionShape, mode: Mode, params: Params) -> Cost:
        return featured_cost(shape, mode, lambda at: pattern(at, params), score_features(params))

    return cost


def learned_sinks(shape: AttentionShape, params: Params) -> Learned:
    """What attention over pairs learns beside its inputs: the sinks, where they are on."""
    from attnbench.variants._score import initial_sinks

    return initial_sinks(shape, params)


def sinks_among(learned: Learned, sinks: "Tensor | None") -> "Tensor | None":
    """The sinks' logits of `learned` in place of `sinks`; None where there are no sinks."""
    return None if sinks is None else learned.get(SINKS, sinks)


def lens_of(shape: AttentionShape, params: Params) -> tuple[int, ...] | None:
    """Keys that each sequence has; None where all have all."""
    padding = score_features(params).padding
    return kv_lens(shape.batch, shape.seq_kv, padding) if padding else None


def shape_of(query: "Tensor", key: "Tensor", *, causal: bool = False) -> AttentionShape:
    """The shape of tensors [batch, heads, seq, head_dim]."""
    dtype = {str(torch_dtype(d)): d for d in DTYPES}[str(query.dtype)]
    return AttentionShape(
        batch=query.shape[0], heads=query.shape[1], kv_heads=key.shape[1],
        seq_q=query.shape[2], seq_kv=key.shape[2], head_dim=query.shape[3],
        causal=causal, dtype=dtype,
    )  # fmt: skip


def torch_dtype(dtype: Dtype) -> "torch.dtype":
    """Torch's name for one of `DTYPES`."""
    import torch

    names = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
    return dict(zip(DTYPES, names, strict=True))[dtype]
