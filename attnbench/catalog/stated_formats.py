"""Formats of weights and caches as logs state them."""

import re

import msgspec

from attnbench.calc.module_names import read_patterns
from attnbench.calc.quantization import LAYOUTS, Scheme, nf4_scheme, plain_scheme
from attnbench.catalog.quantization_config import own_dtype, scheme_of
from attnbench.spec.dtype import Dtype
from attnbench.spec.model import ModelSpec

_INT4 = frozenset(
    {"int4", "awq", "gptq", "w4a16", "4bit", "autoround", "awq_marlin", "gptq_marlin"}
)
_PLAIN = frozenset(
    {"", "null", "none", "auto", "unstated", "checkpoint", "bfloat16", "bf16", "float16", "fp16"}
)


class Unstated(Exception):
    """A format that neither the words nor the name settle."""


def weight_format(words: str | None, model: str) -> Dtype | str | None:
    """The format of weights: a dtype, 'nf4', or None for the model's own.

    `words` is what a log says (`bfloat16 / quantization=fp8`); a quantised checkpoint's
    name says the rest.

    Raises:
        Unstated: quantised, but how is not said.
    """
    said = (words or "").lower().removeprefix("torch.")
    named = f"{said} {model.lower()}"
    tokens = set(re.findall(r"[a-z0-9_]+", named.replace("-", " ").replace("_", " "))) | set(
        re.findall(r"[a-z0-9_]+", named)
    )
    if "bitsandbytes" in tokens or "bnb" in tokens or "nf4" in tokens:
        return "nf4"
    if tokens & {"nvfp4", "fp4", "modelopt_fp4"}:
        return Dtype.NVFP4
    if "mxfp4" in tokens:
        return Dtype.MXFP4
    if tokens & {"int8", "8bit", "w8a16"} and "fp8" not in tokens:  # GPTQ has 8 bits too
        return Dtype.INT8
    if tokens & _INT4:
        return Dtype.INT4
    if "fp8" in tokens:
        return Dtype.FP8_E4M3
    if re.search(r"[-_](bf16|fp16)\b", model.lower()):  # unpacked again, whatever was published
        return Dtype.BF16
    if tokens & {"int8", "w8a8", "w8a16", "8bit"}:
        return Dtype.INT8
    if "gguf" in said:
        raise Unstated("a GGUF's formats are in the file")
    if "quantization=" in said and "quantization=none" not in said:
        raise Unstated(f"{words}: which format is not said")
    first = re.split(r"[/ (]", said.strip(), maxsplit=1)[0]
    if first not in _PLAIN and first not in ("fp32", "float32"):
        raise Unstated(f"{words}: not a format that is known")
    return None


# What ModelOpt's NVFP4 checkpoints keep in 16 bits, as `exclude_modules` of nvidia's
# DeepSeek-V3.2, GLM-5.1, Kimi-K2.6, MiniMax-M2.5, Qwen3.5 and Gemma-4 say; its Qwen3
# mixtures of experts keep the router and output alone.
_MODELOPT_KEEPS = ("*self_attn*", "*linear_attn*", "*shared_expert*")
# What llm-compressor's recipes keep besides output, routers and towers: fused projections
# of gated delta nets. (vllm-project/llm-compressor, docs/key-models/qwen3.6.)
_COMPRESSOR_KEEPS = ("*linear_attn*",)
_MIXED = re.compile(r"qwen3\.[6-9]-\d")


def publisher(name: str) -> str:
    """The organisation of a hub id, in lower case; empty where there is none.

    >>> publisher("RedHatAI/Qwen3-8B-NVFP4")
    'redhatai'
    """
    return name.partition("/")[0].strip().lower() if "/" in name else ""


def _mixes_fp8(words: str, name: str, model: ModelSpec) -> bool:
    """Whether an NVFP4 checkpoint has its attention, and its cache, in fp8.

    NVIDIA's and Unsloth's of Qwen3.5's successors do.

    Source: `hf_quant_config.json` of nvidia/Qwen3.6-27B-NVFP4 and 35B-A3B-NVFP4
    (MIXED_PRECISION: MLP and output W4A16_NVFP4, attention FP8, cache FP8, mtp excluded);
    Neroued/ninfer issue 23 (unsloth/Qwen3.8-27B-NVFP4).
    """
    by = publisher(name) in ("nvidia", "unsloth") or "modelopt" in words.lower()
    return by and _family(model).startswith("qwen3_5") and bool(_MIXED.search(name.lower()))


def _family(model: ModelSpec) -> str:
    return model.model_type.removesuffix("_text")


def _nvfp4(words: str, name: str, model: ModelSpec) -> Scheme:
    moe = any(layer.experts for layer in model.layers)
    made = plain_scheme(Dtype.NVFP4, own_dtype(model))
    modelopt = "compressed-tensors" not in words.lower()
    if _mixes_fp8(words, name, model):
        fp8 = LAYOUTS[Dtype.FP8_E4M3]
        return msgspec.structs.replace(made, mixers=fp8, head=modelopt, drafts=False)
    whole = _family(model) in ("qwen3_moe", "qwen3_vl_moe", "nemotron_h")
    keeps: tuple[str, ...] = _COMPRESSOR_KEEPS
    if modelopt:
        some = (moe or _family(model) == "gemma4") and not whole
        keeps = _MODELOPT_KEEPS if some else ()
    kept = read_patterns(list(keeps), where="NVFP4") if keeps else made.kept
    drafts = modelopt and not _family(model).startswith("qwen3_5")
    return msgspec.structs.replace(made, kept=kept, drafts=drafts)


def stated_scheme(words: str | None, name: str, model: ModelSpec) -> Scheme:
    """How the weights of `model` are stored where a log says `words` of a checkpoint `name`.

    Raises:
        Unstated: quantised, but how is not said.
        UserError: the profile's own configuration cannot be read.
    """
    wanted = weight_format(words, name)
    own = own_dtype(model)
    if wanted is None:
        return scheme_of(model)
    if wanted == "nf4":
        return nf4_scheme(own)
    dtype = Dtype(wanted)
    if dtype is Dtype.BF16:
        return plain_scheme(own, own)
    if dtype is Dtype.NVFP4:
        return _nvfp4(words or "", name, model)
    if dtype is Dtype.INT4:  # AWQ and GPTQ store a zero point a group, llm-compressor none
        zeros = 0 if "compressed-tensors" in (words or "").lower() else 4
        layout = msgspec.structs.replace(LAYOUTS[dtype], zero_bits=zeros)
        return msgspec.structs.replace(plain_scheme(dtype, own), layout=layout, drafts=False)
    return scheme_of(model, dtype)


def stated_kv(words: str | None, weights: str | None, name: str, model: ModelSpec | None) -> Dtype:
    """The dtype of the cache where a log says `words` of it, and `weights` of a checkpoint."""
    own = Dtype.BF16 if model is None else own_dtype(model)
    auto = (words or "auto").lower() == "auto"
    stated = weights or ""
    fp4 = "nvfp4" in f"{stated} {name}".lower()
    asks = publisher(name) == "nvidia" or (model is not None and _mixes_fp8(stated, name, model))
    if auto and fp4 and asks:
        return Dtype.FP8_E4M3
    return kv_format(words, own, f"{stated} {name}")


def kv_format(words: str | None, own: Dtype, weights: str = "") -> Dtype:
    """The dtype of the cache: `auto` is the checkpoint's, which is the model's own.

    ModelOpt's FP4 checkpoints ask for an fp8 cache (`kv_cache_quant_algo`).

    >>> kv_format("fp8_e4m3", Dtype.BF16)
    <Dtype.FP8_E4M3: 'fp8_e4m3'>
    """
    said = (words or "auto").lower().removeprefix("torch.")
    if said.startswith("fp8_e5m2"):
        return Dtype.FP8_E5M2
    if said == "auto" and "modelopt_fp4" in weights.lower():
        return Dtype.FP8_E4M3
    if said.startswith(("fp8", "float8")):
        return Dtype.FP8_E4M3
    if said in ("bf16", "bfloat16"):
        return Dtype.BF16
    if said in ("fp16", "f16", "float16", "half"):
        return Dtype.FP16
    if said in ("fp32", "f32", "float32", "float"):
        return Dtype.FP32
    return own
