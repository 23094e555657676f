"""What the eager and sdpa backends can run, and the pieces that variants' rows share."""

from typing import TYPE_CHECKING

from attnbench.calc.patterns import Full
from attnbench.spec.attention import AttentionShape, Mode
from attnbench.spec.dtype import Dtype
from attnbench.variants._protocol import Params

if TYPE_CHECKING:
    import torch

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


def torch_dtype(dtype: Dtype) -> "torch.dtype":
    """Torch's name for one of `DTYPES`."""
    import torch

    names = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
    return dict(zip(DTYPES, names, strict=True))[dtype]
