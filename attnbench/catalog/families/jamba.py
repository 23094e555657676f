"""Jamba: Mamba layers, an attention layer in every eight, experts in every second."""

from attnbench.catalog.blocks import MoE
from attnbench.catalog.decoder import FULL, Block, attend, decoder, kinds_of, moe_from
from attnbench.catalog.fields import Fields
from attnbench.catalog.recurrent import Mamba, mamba
from attnbench.catalog.shape import Sizes, Style
from attnbench.spec.model import ModelSpec

MODEL_TYPES = ("jamba",)

DEFAULTS = {
    "vocab_size": 65536, "hidden_size": 4096, "intermediate_size": 14336,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
    "max_position_embeddings": 262144, "num_experts": 16, "num_experts_per_tok": 2,
    "expert_layer_period": 2, "expert_layer_offset": 1, "attn_layer_period": 8,
    "attn_layer_offset": 4, "mamba_d_state": 16, "mamba_d_conv": 4, "mamba_expand": 2,
}  # fmt: skip


def build(c: Fields) -> ModelSpec:
    """A layer's kind follows from its number, a period and an offset."""
    c = c.with_defaults(DEFAULTS)
    s = Sizes.read(c)
    style = Style(norms=("input_layernorm", "pre_ff_layernorm"))
    rank = c.get("mamba_dt_rank", "auto")
    sizes = Mamba(
        hidden=s.hidden,
        inner=c.integer("mamba_expand") * s.hidden,
        state=c.integer("mamba_d_state"),
        rank=-(-s.hidden // 16) if rank == "auto" else c.integer("mamba_dt_rank"),
        kernel=c.integer("mamba_d_conv"),
        conv_bias=c.flag("mamba_conv_bias", True),
        bias=c.flag("mamba_proj_bias"),
        inner_norms=True,
    )

    def block(kind: str) -> Block:
        if kind == FULL:
            return attend(c, s, style, kind)
        return mamba("model.layers.*.mamba", sizes)

    period, offset = c.integer("attn_layer_period"), c.integer("attn_layer_offset", low=0)
    kinds = kinds_of(c, s.layers, lambda i: FULL if i % period == offset else "mamba")
    return decoder(c, s, style, kinds=kinds, block=block, feeds=_feeds(c, s))


def _feeds(c: Fields, s: Sizes) -> tuple[int | MoE | None, ...]:
    total = c.integer("num_experts")
    moe = MoE(total=total, per_token=c.integer("num_experts_per_tok"), inner=s.inner)
    period, offset = c.integer("expert_layer_period"), c.integer("expert_layer_offset", low=0)
    sparse = [total > 1 and i % period == offset for i in range(s.layers)]
    return moe_from(c, sparse, moe if total > 1 else None, s.inner)
