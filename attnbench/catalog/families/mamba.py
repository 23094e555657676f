"""Mamba, Falcon-Mamba and Mamba-2: a state a layer, no attention, no MLP."""

from attnbench.catalog import recurrent
from attnbench.catalog.decoder import Block, decoder
from attnbench.catalog.fields import Fields
from attnbench.catalog.shape import Sizes, Style
from attnbench.spec.model import ModelSpec

MODEL_TYPES = ("mamba", "falcon_mamba", "mamba2")

_MAMBA = {
    "vocab_size": 50280, "hidden_size": 768, "num_hidden_layers": 32, "state_size": 16,
    "expand": 2, "conv_kernel": 4,
}  # fmt: skip
_MAMBA2 = {
    "vocab_size": 32768, "hidden_size": 4096, "num_hidden_layers": 64, "state_size": 128,
    "expand": 2, "conv_kernel": 4, "n_groups": 8, "num_heads": 128, "head_dim": 64,
}  # fmt: skip


def build(c: Fields) -> ModelSpec:
    """One norm and one mixer a layer; `heads` are the channels or heads of the state."""
    second = c.text("model_type") == "mamba2"
    c = c.with_defaults(_MAMBA2 if second else _MAMBA)
    c.require("hidden_size", "num_hidden_layers", "vocab_size")
    at = "backbone.layers.*.mixer"
    mixers, tensors = _mamba2(c, at) if second else _mamba(c, at)
    s = Sizes(
        hidden=c.integer("hidden_size"),
        layers=c.layers(),
        heads=1,
        kv_heads=1,
        head_dim=1,
        inner=0,
        vocab=c.integer("vocab_size"),
    )
    style = Style(norms=("norm",), tied=not second, at="backbone")
    return decoder(
        c, s, style, block=lambda _: (mixers, tensors), feeds=(None,) * s.layers, heads=0
    )


def _mamba(c: Fields, at: str) -> Block:
    hidden = c.integer("hidden_size")
    rank = c.get("time_step_rank", "auto")
    sizes = recurrent.Mamba(
        hidden=hidden,
        inner=c.maybe("intermediate_size") or c.integer("expand") * hidden,
        state=c.integer("state_size"),
        rank=-(-hidden // 16) if rank == "auto" else c.integer("time_step_rank"),
        kernel=c.integer("conv_kernel"),
        conv_bias=c.flag("use_conv_bias", True),
        bias=c.flag("use_bias"),
    )
    return recurrent.mamba(at, sizes)


def _mamba2(c: Fields, at: str) -> Block:
    hidden = c.integer("hidden_size")
    inner = int(c.number("expand", 2) * hidden)
    heads, dim = c.integer("num_heads"), c.integer("head_dim")
    if heads * dim != inner:
        raise c.error("num_heads", f"{heads} heads of {dim} are not expand x hidden_size, {inner}")
    sizes = recurrent.Mamba2(
        hidden=hidden,
        heads=heads,
        head_dim=dim,
        state=c.integer("state_size"),
        groups=c.integer("n_groups"),
        kernel=c.integer("conv_kernel"),
        inner=inner,
        scan=c.maybe("chunk_size") or 0,
        conv_bias=c.flag("use_conv_bias", True),
        bias=c.flag("use_bias"),
    )
    return recurrent.mamba2(at, sizes)
