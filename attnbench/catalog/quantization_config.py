"""A checkpoint's `quantization_config` as a `Scheme`: one reader a method.

Methods as Hugging Face transformers, vLLM and llm-compressor write them. A method that
is not known here is an error, never a guess.
"""

from collections.abc import Callable, Mapping
from typing import Any

from attnbench.calc.module_names import Patterns, read_patterns
from attnbench.calc.quantization import (
    LAYOUTS,
    Layout,
    Scales,
    Scheme,
    nf4_layout,
    plain_scheme,
)
from attnbench.errors import UserError
from attnbench.spec.dtype import Dtype
from attnbench.spec.model import ModelSpec

Config = Mapping[str, Any]
_HIGH = frozenset({Dtype.FP64, Dtype.FP32, Dtype.FP16, Dtype.BF16})
# Checkpoints of these packed the prediction modules too; tools that load a model through
# transformers never see them, and copy them over in 16 bits.
_PACKS_DRAFTS = frozenset({"fp8", "modelopt", "nvfp4", "mxfp4", "quark"})
_KEPT_KEYS = (
    "modules_to_not_convert",
    "ignore",
    "exclude_modules",
    "exclude",
    "llm_int8_skip_modules",
)


def own_dtype(model: ModelSpec) -> Dtype:
    """The dtype of a model's unpacked tensors: the configuration's, else bf16."""
    return model.weight_dtype if model.weight_dtype in _HIGH else Dtype.BF16


def scheme_of(model: ModelSpec, dtype: Dtype | None = None) -> Scheme:
    """How the weights of `model` are stored; `dtype` None: as its configuration says.

    A `dtype` of the same width as the configuration's method is stored as that says.

    Raises:
        UserError: the configuration's method is unknown, or a value in it is wrong.
    """
    rest = own_dtype(model)
    config = model.quantization or {}
    method = _method(config)
    if dtype is None:
        return _published(model, config, method) if config else plain_scheme(rest, rest)
    if dtype not in _HIGH and method in _READERS:
        published = _published(model, config, method)
        if published.name.endswith(f"({dtype})"):
            return published
    return plain_scheme(dtype, rest)


def _method(config: Config) -> str:
    method = config.get("quant_method") or config.get("quant_algo")
    if method is None and (config.get("load_in_4bit") or config.get("load_in_8bit")):
        return "bitsandbytes"
    return str(method).lower()


def _published(model: ModelSpec, config: Config, method: str) -> Scheme:
    reader = _READERS.get(method)
    if reader is None:
        raise UserError(
            f"{model.name}: quantization_config.quant_method: {method[:40]!r} is not known",
            hint=f"Known: {', '.join(sorted(_READERS))}. Or say --weight-dtype.",
        )
    layout, dtype = reader(config)
    kept = Patterns()
    for key in _KEPT_KEYS:
        if config.get(key) is not None:
            kept = read_patterns(config[key], where=f"quantization_config.{key}")
    only = config.get("modules_in_block_to_quantize")
    if isinstance(only, list) and all(isinstance(group, list) for group in only):  # GPTQ's form
        only = [name for group in only for name in group]
    label = dtype or f"{layout.bits:g} bits"
    where = "quantization_config.modules_in_block_to_quantize"
    return Scheme(
        name=f"{method} ({label})",
        dtype=own_dtype(model),
        layout=layout,
        kept=kept,
        only=read_patterns(only, where=where) if only else None,
        drafts=method in _PACKS_DRAFTS,
        head=config.get("lm_head") is True or config.get("quant_lm_head") is True,
        note=f"linear layers packed as quantization_config says ({method}, {label}), "
        f"the rest in {own_dtype(model)}",
    )


def _int(config: Config, key: str, default: int, *, least: int = 1) -> int:
    value = config.get(key, default)
    value = default if value is None else value
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= 1 << 20:
        raise UserError(f"quantization_config.{key}: {str(value)[:40]!r} is not a size")
    return value


def _fp8(config: Config) -> tuple[Layout, Dtype | None]:
    block = config.get("weight_block_size")
    static = 4 if config.get("activation_scheme") == "static" else 0
    if block is None:
        layout = Layout(bits=8, scales=Scales.TENSOR, scale_bytes=4, extra_bytes=static)
        return layout, Dtype.FP8_E4M3
    if not isinstance(block, list) or len(block) != 2:
        raise UserError("quantization_config.weight_block_size: not two sizes")
    sizes = {str(i): value for i, value in enumerate(block)}
    shape = (_int(sizes, "0", 128), _int(sizes, "1", 128))
    layout = Layout(bits=8, scales=Scales.BLOCK, scale_bytes=4, block=shape, extra_bytes=static)
    return layout, Dtype.FP8_E4M3


def _fp8_rows(config: Config) -> tuple[Layout, Dtype | None]:
    return Layout(bits=8, scales=Scales.ROW, scale_bytes=4), Dtype.FP8_E4M3


def _grouped(config: Config, *, index_bytes: int, zeros: bool) -> tuple[Layout, Dtype | None]:
    """GPTQ's and AWQ's packing: int32 words of `bits`, a 16-bit scale a group."""
    bits = _int(config, "bits", 4)
    group = _int(config, "group_size", 128, least=-1)
    layout = Layout(
        bits=bits,
        scales=Scales.GROUP if group > 0 else Scales.ROW,
        group=max(group, 0),
        scale_bytes=2,
        zero_bits=bits if zeros else 0,
        index_bytes=index_bytes,
    )
    return layout, {4: Dtype.INT4, 8: Dtype.INT8}.get(bits)


def _gptq(config: Config) -> tuple[Layout, Dtype | None]:
    return _grouped(config, index_bytes=4, zeros=True)


def _awq(config: Config) -> tuple[Layout, Dtype | None]:
    return _grouped(config, index_bytes=0, zeros=config.get("zero_point", True) is not False)


def _bitsandbytes(config: Config) -> tuple[Layout, Dtype | None]:
    if config.get("load_in_8bit"):
        return Layout(bits=8, scales=Scales.ROW, scale_bytes=4), Dtype.INT8
    return nf4_layout(double=config.get("bnb_4bit_use_double_quant") is True), Dtype.INT4


def _mxfp4(config: Config) -> tuple[Layout, Dtype | None]:
    return LAYOUTS[Dtype.MXFP4], Dtype.MXFP4


def _modelopt(config: Config) -> tuple[Layout, Dtype | None]:
    algorithm = str(config.get("quant_algo", "FP8")).upper()
    if algorithm == "NVFP4":
        return _nvfp4(_int(config, "group_size", 16)), Dtype.NVFP4
    if algorithm == "FP8":
        return Layout(bits=8, scales=Scales.TENSOR, scale_bytes=4, extra_bytes=4), Dtype.FP8_E4M3
    raise UserError(f"quantization_config.quant_algo: {algorithm[:40]!r} is not known")


def _nvfp4(group: int) -> Layout:
    """An fp8 scale a group; fp32 a tensor for its weights' scale and its inputs'."""
    return Layout(bits=4, scales=Scales.GROUP, scale_bytes=1, group=group, extra_bytes=8)


def _compressed(config: Config) -> tuple[Layout, Dtype | None]:
    """llm-compressor's: the weights of the first of `config_groups`."""
    groups = config.get("config_groups")
    first = next(iter(groups.values()), None) if isinstance(groups, dict) else None
    weights = first.get("weights") if isinstance(first, dict) else None
    if not isinstance(weights, dict):
        raise UserError("quantization_config.config_groups: the first has no 'weights'")
    bits = _int(weights, "num_bits", 8)
    kind, strategy = weights.get("type", "int"), weights.get("strategy", "channel")
    if kind == "float" and bits == 4:
        group = _int(weights, "group_size", 16)
        if group == 32:
            return LAYOUTS[Dtype.MXFP4], Dtype.MXFP4
        return _nvfp4(group), Dtype.NVFP4
    dtype = Dtype.FP8_E4M3 if kind == "float" else {4: Dtype.INT4, 8: Dtype.INT8}.get(bits)
    zero = 0 if weights.get("symmetric", True) is not False else bits
    packed = 16 if kind == "int" and bits < 8 else 0  # the shape before packing, two int64
    if strategy == "tensor":
        return Layout(bits=bits, scales=Scales.TENSOR, scale_bytes=4), dtype
    if strategy == "block":
        return _fp8({"weight_block_size": weights.get("block_structure")})
    scales = Scales.GROUP if strategy == "group" else Scales.ROW
    group = _int(weights, "group_size", 128) if scales is Scales.GROUP else 0
    return Layout(
        bits=bits, scales=scales, scale_bytes=2, group=group, zero_bits=zero, extra_bytes=packed
    ), dtype


def _quark(config: Config) -> tuple[Layout, Dtype | None]:
    """AMD Quark's: `global_quant_config.weight` has a dtype and a scheme."""
    whole = config.get("global_quant_config")
    weight = whole.get("weight") if isinstance(whole, dict) else None
    if not isinstance(weight, dict):
        raise UserError("quantization_config.global_quant_config: it has no 'weight'")
    name, scheme = str(weight.get("dtype")), str(weight.get("qscheme"))
    known = {
        "fp4": (4, Dtype.MXFP4),
        "fp8_e4m3": (8, Dtype.FP8_E4M3),
        "int8": (8, Dtype.INT8),
        "int4": (4, Dtype.INT4),
        "uint4": (4, Dtype.INT4),
    }
    if name not in known:
        raise UserError(f"quantization_config.global_quant_config.weight.dtype: {name[:40]!r}")
    bits, dtype = known[name]
    if dtype is Dtype.MXFP4:
        return LAYOUTS[dtype], dtype
    zero = bits if weight.get("symmetric") is False else 0
    if scheme == "per_group":
        group = _int(weight, "group_size", 128)
        return Layout(
            bits=bits, scales=Scales.GROUP, group=group, scale_bytes=2, zero_bits=zero
        ), dtype
    scales = Scales.TENSOR if scheme == "per_tensor" else Scales.ROW
    return Layout(bits=bits, scales=scales, scale_bytes=4, zero_bits=zero), dtype


def _bitnet(config: Config) -> tuple[Layout, Dtype | None]:
    """Ternary weights, four to a byte, and a scale a tensor (arXiv:2402.17764)."""
    return Layout(bits=2, scales=Scales.TENSOR, scale_bytes=2), None


_READERS: dict[str, Callable[[Config], tuple[Layout, Dtype | None]]] = {
    "fp8": _fp8,
    "fbgemm_fp8": _fp8_rows,
    "gptq": _gptq,
    "auto-round": _gptq,
    "awq": _awq,
    "bitsandbytes": _bitsandbytes,
    "mxfp4": _mxfp4,
    "modelopt": _modelopt,
    "nvfp4": _modelopt,
    "compressed-tensors": _compressed,
    "quark": _quark,
    "bitnet": _bitnet,
}
