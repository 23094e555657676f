"""Number formats, and what a tensor in one of them weighs."""

import enum

from attnbench.errors import unknown_name


class Dtype(enum.StrEnum):
    """A number format, by its contract name."""

    FP64 = "fp64"
    FP32 = "fp32"
    TF32 = "tf32"
    FP16 = "fp16"
    BF16 = "bf16"
    FP8_E4M3 = "fp8_e4m3"
    FP8_E5M2 = "fp8_e5m2"
    INT8 = "int8"
    INT4 = "int4"
    MXFP4 = "mxfp4"
    NVFP4 = "nvfp4"

    @property
    def bits(self) -> int:
        """Bits of one element, scales of block formats apart."""
        return _BITS[self]

    def bytes_of(self, elements: int) -> int:
        """Bytes of a tensor of `elements`, the scales of block formats included.

        mxfp4: one byte a 32 elements; nvfp4: one byte a 16, and an fp32 a
        tensor; int4: a 16-bit scale a 128 (GPTQ's and AWQ's usual group).

        Source: OCP Microscaling Formats 1.0; NVIDIA, "Introducing NVFP4" (2025).

        >>> Dtype.MXFP4.bytes_of(64)
        34
        """
        data = -(-elements * self.bits // 8)
        if self is Dtype.MXFP4:
            return data + -(-elements // 32)
        if self is Dtype.NVFP4:
            return data + -(-elements // 16) + 4
        if self is Dtype.INT4:
            return data + 2 * -(-elements // 128)
        return data


_BITS = {
    Dtype.FP64: 64, Dtype.FP32: 32, Dtype.TF32: 32, Dtype.FP16: 16, Dtype.BF16: 16,
    Dtype.FP8_E4M3: 8, Dtype.FP8_E5M2: 8, Dtype.INT8: 8,
    Dtype.INT4: 4, Dtype.MXFP4: 4, Dtype.NVFP4: 4,
}  # fmt: skip

_ALIASES = {
    "float64": Dtype.FP64, "double": Dtype.FP64,
    "float32": Dtype.FP32, "float": Dtype.FP32,
    "float16": Dtype.FP16, "half": Dtype.FP16,
    "bfloat16": Dtype.BF16,
    "fp8": Dtype.FP8_E4M3, "float8_e4m3fn": Dtype.FP8_E4M3, "float8_e4m3": Dtype.FP8_E4M3,
    "float8_e5m2": Dtype.FP8_E5M2,
}  # fmt: skip


def parse_dtype(text: str, *, what: str = "dtype") -> Dtype:
    """The format named by `text`: a contract name, or torch's or transformers' name.

    Raises:
        UserError: no such format; its hint names the nearest.

    >>> parse_dtype("torch.bfloat16")
    <Dtype.BF16: 'bf16'>
    """
    name = text.strip().lower().removeprefix("torch.")
    if name in _ALIASES:
        return _ALIASES[name]
    try:
        return Dtype(name)
    except ValueError:
        raise unknown_name(what, text, [*Dtype, *_ALIASES]) from None
