import pytest

from attnbench.errors import UserError
from attnbench.spec.dtype import Dtype, parse_dtype


def test_torch_and_transformers_names_are_aliases() -> None:
    assert parse_dtype("torch.bfloat16") is Dtype.BF16
    assert parse_dtype("float8_e4m3fn") is parse_dtype("fp8") is Dtype.FP8_E4M3


def test_block_formats_count_their_scales() -> None:
    # OCP MX v1.0: 32 elements of 4 bits and one shared 8-bit scale: 17 bytes.
    assert Dtype.MXFP4.bytes_of(32) == 17
    # NVFP4: 16 elements and one 8-bit scale, and one fp32 a tensor.
    assert Dtype.NVFP4.bytes_of(16) == 8 + 1 + 4
    assert Dtype.INT4.bytes_of(128) == 64 + 2


def test_an_unknown_dtype_offers_the_nearest() -> None:
    with pytest.raises(UserError, match="'bf61'") as caught:
        parse_dtype("bf61", what="--kv-dtype")
    assert caught.value.hint is not None
    assert "bf16" in caught.value.hint
