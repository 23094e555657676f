"""Decoders that are Llama but for LayerNorm, plain MLPs or biases: StarCoder 2, StableLM, ..."""

from attnbench.catalog.decoder import decoder, windowed
from attnbench.catalog.fields import Fields
from attnbench.catalog.shape import Sizes, Style
from attnbench.spec.model import ModelSpec

MODEL_TYPES = ("starcoder2", "stablelm", "nemotron", "persimmon", "arcee", "stablelm_epoch")

_STARCODER2 = {
    "vocab_size": 49152, "hidden_size": 3072, "intermediate_size": 12288,
    "num_hidden_layers": 30, "num_attention_heads": 24, "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
}  # fmt: skip
_STABLELM = {
    "vocab_size": 50304, "hidden_size": 2560, "intermediate_size": 6912,
    "num_hidden_layers": 32, "num_attention_heads": 32, "max_position_embeddings": 4096,
}  # fmt: skip
_NEMOTRON = {
    "vocab_size": 256000, "hidden_size": 6144, "intermediate_size": 24576,
    "num_hidden_layers": 32, "num_attention_heads": 48, "max_position_embeddings": 4096,
}  # fmt: skip
_PERSIMMON = {
    "vocab_size": 262144, "hidden_size": 4096, "intermediate_size": 16384,
    "num_hidden_layers": 36, "num_attention_heads": 64, "max_position_embeddings": 16384,
}  # fmt: skip
_ARCEE = {
    "vocab_size": 32000, "hidden_size": 2560, "intermediate_size": 18432,
    "num_hidden_layers": 32, "num_attention_heads": 32, "max_position_embeddings": 4096,
}  # fmt: skip


def build(c: Fields) -> ModelSpec:
    """Each reads the biases and norms that its own fields state."""
    kind = c.text("model_type")
    if kind == "starcoder2":
        c = c.with_defaults(_STARCODER2)
        bias = c.flag("use_bias", True)
        style = Style(
            qkv_bias=bias, out_bias=bias, mlp_bias=bias, gated=False, norm_bias=True, tied=True
        )
        s = Sizes.read(c)
        return decoder(c, s, style, kinds=windowed(c, s.layers))
    if kind == "nemotron":
        c = c.with_defaults(_NEMOTRON)
        bias = c.flag("attention_bias")
        style = Style(
            qkv_bias=bias,
            out_bias=bias,
            mlp_bias=c.flag("mlp_bias"),
            gated=False,
            norm_bias=True,
        )
        return decoder(c, Sizes.read(c), style)
    if kind == "persimmon":
        return _persimmon(c.with_defaults(_PERSIMMON))
    if kind == "arcee":
        c = c.with_defaults(_ARCEE)
        bias = c.flag("attention_bias")
        style = Style(qkv_bias=bias, out_bias=bias, mlp_bias=c.flag("mlp_bias"), gated=False)
        return decoder(c, Sizes.read(c), style)
    return _stablelm(c.with_defaults(_STABLELM))


def _stablelm(c: Fields) -> ModelSpec:
    parallel = c.flag("use_parallel_residual")
    style = Style(
        qkv_bias=c.flag("use_qkv_bias"),
        norms=("input_layernorm",) if parallel else ("input_layernorm", "post_attention_layernorm"),
        norm_bias=True,
        qk_norm="heads" if c.flag("qk_layernorm") else None,
    )
    return decoder(c, Sizes.read(c), style)


def _persimmon(c: Fields) -> ModelSpec:
    style = Style(
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
        gated=False,
        norm_bias=True,
        qk_norm="head" if c.flag("qk_layernorm", True) else None,
    )
    return decoder(c, Sizes.read(c), style)
