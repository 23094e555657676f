"""Nemotron-H: a layer is one thing alone: Mamba-2, attention, an MLP, or experts."""

from attnbench.catalog.blocks import MoE
from attnbench.catalog.decoder import FULL, Block, Feed, attend, decoder
from attnbench.catalog.fields import MAX_LAYERS, Fields
from attnbench.catalog.recurrent import Mamba2, mamba2
from attnbench.catalog.shape import Sizes, Style
from attnbench.spec.model import ModelSpec

MODEL_TYPES = ("nemotron_h",)

DEFAULTS = {
    "vocab_size": 131072, "hidden_size": 4096, "intermediate_size": 21504,
    "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
    "max_position_embeddings": 4096, "ssm_state_size": 128, "mamba_num_heads": 128,
    "mamba_head_dim": 64, "n_groups": 8, "conv_kernel": 4, "num_experts": 8,
    "n_shared_experts": 1, "moe_intermediate_size": 7688, "num_experts_per_tok": 2,
    "moe_shared_expert_intermediate_size": 7688,
}  # fmt: skip
_LETTERS = {"M": "mamba", "*": FULL, "-": "mlp", "E": "moe"}
_NAMES = {"linear_attention": "mamba", "attention": FULL}


def build(c: Fields) -> ModelSpec:
    """`hybrid_override_pattern` spells the layers: M Mamba-2, * attention, - MLP, E experts."""
    c = c.with_defaults(DEFAULTS)
    kinds = _kinds(c)
    s = Sizes.read(c.also(num_hidden_layers=len(kinds)))
    style = Style(
        qkv_bias=c.flag("attention_bias"),
        out_bias=c.flag("attention_bias"),
        mlp_bias=c.flag("mlp_bias"),
        gated=False,
        norms=("norm",),
        at="backbone",
    )
    moe = _moe(c) if "moe" in kinds else None

    def block(kind: str) -> Block:
        if kind == "mamba":
            return _mamba(c, s)
        return attend(c, s, style, FULL) if kind == FULL else ((), ())

    feeds: dict[str, Feed] = {"mlp": s.inner, "moe": moe}
    return decoder(
        c, s, style, kinds=kinds, block=block, feeds=tuple(feeds.get(kind) for kind in kinds)
    )


def _kinds(c: Fields) -> tuple[str, ...]:
    pattern = c.get("hybrid_override_pattern")
    if isinstance(pattern, str):
        found = [_LETTERS.get(letter, letter) for letter in pattern]
    else:
        listed = c.texts("layers_block_type") or c.texts("layer_types")
        if listed is None:
            raise c.error("hybrid_override_pattern", "missing, and layers_block_type too")
        found = [_NAMES.get(name, name) for name in listed]
    if not 0 < len(found) <= MAX_LAYERS:
        raise c.error("hybrid_override_pattern", f"spells {len(found)} layers")
    for kind in found:
        if kind not in _LETTERS.values():
            raise c.error("hybrid_override_pattern", f"{kind!r} is no kind of layer")
    return tuple(found)


def _mamba(c: Fields, s: Sizes) -> Block:
    heads, dim = c.integer("mamba_num_heads"), c.integer("mamba_head_dim")
    conv_bias = c.get("use_conv_bias", c.get("mamba_conv_bias", True))
    sizes = Mamba2(
        hidden=s.hidden,
        heads=heads,
        head_dim=dim,
        state=c.integer("ssm_state_size"),
        groups=c.maybe("mamba_n_groups") or c.integer("n_groups"),
        kernel=c.maybe("mamba_d_conv") or c.integer("conv_kernel"),
        inner=heads * dim,
        scan=c.maybe("chunk_size") or 0,
        conv_bias=conv_bias is True,
        bias=c.flag("use_bias"),
        engine_fp32=c.text("mamba_ssm_cache_dtype", "float32") == "float32",
    )
    return mamba2("backbone.layers.*.mixer", sizes)


def _moe(c: Fields) -> MoE:
    shared = c.integer("n_shared_experts", low=0)
    return MoE(
        total=c.integer("num_experts"),
        per_token=c.integer("num_experts_per_tok"),
        inner=c.integer("moe_intermediate_size"),
        shared=c.integer("moe_shared_expert_intermediate_size") * bool(shared),
        gated=False,
        shared_bias=c.flag("mlp_bias"),
        latent=c.maybe("moe_latent_size") or 0,
    )
