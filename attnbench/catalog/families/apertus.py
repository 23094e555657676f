"""Llama with a twist each: Apertus, BitNet, nanochat, Jais 2, Granite with sliding layers."""

from attnbench.catalog.blocks import MoE, Tensors, norm, vector
from attnbench.catalog.decoder import FULL, SLIDING, Block, attend, decoder, kinds_of, moe_from
from attnbench.catalog.fields import Fields
from attnbench.catalog.shape import Sizes, Style
from attnbench.spec.model import ModelSpec, Role

MODEL_TYPES = (
    "apertus", "bitnet", "nanochat", "jais2", "granite_swa", "granitemoe_swa",
    "hunyuan_v1_dense", "hunyuan_v1_moe",
)  # fmt: skip

_BASE: dict[str, object] = {
    "vocab_size": 131072, "hidden_size": 4096, "intermediate_size": 14336,
    "num_hidden_layers": 32, "num_attention_heads": 32,
}  # fmt: skip
_SWA: dict[str, object] = {
    "vocab_size": 100352, "hidden_size": 2560, "intermediate_size": 8192,
    "num_hidden_layers": 24, "num_attention_heads": 20, "num_key_value_heads": 4,
    "sliding_window": 128, "num_experts": 8, "num_experts_per_tok": 2,
}  # fmt: skip
_HUNYUAN: dict[str, object] = {**_BASE, "vocab_size": 290943, "intermediate_size": 11008}
DEFAULTS: dict[str, dict[str, object]] = {
    "apertus": _BASE,
    "bitnet": {
        "vocab_size": 128256, "hidden_size": 2560, "intermediate_size": 6912,
        "num_hidden_layers": 30, "num_attention_heads": 20, "num_key_value_heads": 5,
    },
    "nanochat": {
        "vocab_size": 50304, "hidden_size": 768, "intermediate_size": 8192,
        "num_hidden_layers": 12, "num_attention_heads": 6, "num_key_value_heads": 6,
    },
    "jais2": {
        "vocab_size": 150272, "hidden_size": 3328, "intermediate_size": 26624,
        "num_hidden_layers": 32, "num_attention_heads": 26, "head_dim": 128,
        "attention_bias": True, "mlp_bias": True,
    },
    "granite_swa": _SWA,
    "granitemoe_swa": _SWA,
    "hunyuan_v1_dense": _HUNYUAN,
    "hunyuan_v1_moe": {**_HUNYUAN, "num_experts": 1, "moe_topk": 1},
}  # fmt: skip
_AT = "model.layers.*"


def build(c: Fields) -> ModelSpec:
    """The twist is in biases, norms, sinks, or a parameter of the activation."""
    kind = c.text("model_type")
    c = c.with_defaults(DEFAULTS[kind])
    s = Sizes.read(c)
    bias = c.flag("attention_bias")
    plain = Style(qkv_bias=bias, out_bias=bias, mlp_bias=c.flag("mlp_bias"))
    if kind in ("granite_swa", "granitemoe_swa"):
        return _sliding_granite(c, s, bias, experts=kind == "granitemoe_swa")
    if kind.startswith("hunyuan"):
        style = Style(qkv_bias=bias, out_bias=bias, qk_norm="head")
        return decoder(c, s, style, feeds=_hunyuan(c, s) if kind.endswith("moe") else None)
    if kind == "nanochat":
        return decoder(c, s, Style(qkv_bias=bias, out_bias=bias, gated=False, norm_weight=False))
    if kind == "jais2":
        style = Style(qkv_bias=bias, out_bias=bias, mlp_bias=c.flag("mlp_bias"), gated=False,
                      norm_bias=True)  # fmt: skip
        return decoder(c, s, style)
    if kind == "bitnet":
        extra: Tensors = norm(f"{_AT}.self_attn.attn_sub_norm", s.hidden)
        extra += norm(f"{_AT}.mlp.ffn_sub_norm", s.inner)
        return decoder(c, s, plain, block=lambda k: _with(attend(c, s, plain, k), extra))
    style = Style(qkv_bias=bias, out_bias=bias, mlp_bias=c.flag("mlp_bias"), gated=False,
                  qk_norm="head")  # fmt: skip
    # xIELU: two learned slopes a layer.
    extra = vector(f"{_AT}.mlp.act_fn.alpha_p", 1, role=Role.MLP)
    extra += vector(f"{_AT}.mlp.act_fn.alpha_n", 1, role=Role.MLP)
    return decoder(c, s, style, block=lambda k: _with(attend(c, s, style, k), extra))


def _with(block: Block, extra: Tensors) -> Block:
    return block[0], block[1] + extra


def _sliding_granite(c: Fields, s: Sizes, bias: bool, *, experts: bool) -> ModelSpec:
    style = Style(
        qkv_bias=bias, out_bias=bias, mlp_bias=c.flag("mlp_bias"), sinks=True, tied=not experts
    )
    feeds = None
    if experts:
        moe = MoE(
            total=c.integer("num_experts"),
            per_token=c.integer("num_experts_per_tok"),
            inner=s.inner,
        )
        feeds = moe_from(c, [True] * s.layers, moe, s.inner)
    kinds = kinds_of(c, s.layers, lambda i: SLIDING if i % 4 else FULL)
    return decoder(c, s, style, kinds=kinds, feeds=feeds)


def _hunyuan(c: Fields, s: Sizes) -> tuple[int | MoE | None, ...]:
    top = c.get("moe_topk")
    per_token = c.also(moe_topk=top[0]).integer("moe_topk") if isinstance(top, list) and top else (
        c.integer("moe_topk")
    )  # fmt: skip
    moe = MoE(total=c.integer("num_experts"), per_token=per_token, inner=s.inner, shared=s.inner)
    return moe_from(c, [True] * s.layers, moe, s.inner)
