"""LongCat-Flash: two latent attentions and two dense MLPs a layer, experts beside them."""

from attnbench.catalog import mla
from attnbench.catalog.assemble import assemble, ends
from attnbench.catalog.blocks import MoE, Tensors, experts, linear, mlp, norm
from attnbench.catalog.fields import Fields
from attnbench.catalog.shape import Style
from attnbench.spec.model import Experts, Layer, ModelSpec, Role

MODEL_TYPES = ("longcat_flash",)

DEFAULTS = {
    "vocab_size": 131072, "hidden_size": 6144, "num_hidden_layers": 28,
    "num_attention_heads": 64, "intermediate_size": 12288, "q_lora_rank": 1536,
    "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
    "moe_topk": 12, "num_experts": 512, "zero_expert_num": 256, "expert_ffn_hidden_size": 2048,
    "max_position_embeddings": 131072,
}  # fmt: skip
_AT = "model.layers.*"


def build(c: Fields) -> ModelSpec:
    """Zero experts pass their input on: they are routed to, and have no parameters."""
    c = c.with_defaults(DEFAULTS)
    s = mla.sizes(c)
    latent = mla.mixer(c, s)
    bias = c.flag("attention_bias")
    zero = c.integer("zero_expert_num", low=0)
    total, top = c.integer("num_experts"), c.integer("moe_topk")
    if top > total + zero:
        raise c.error("moe_topk", f"{top} of only {total + zero} experts")
    made: Tensors = ()
    for i in range(2):
        at = f"{_AT}.self_attn.{i}"
        made += mla.projections(c, s, latent, at=at, bias=bias)
        made += mlp(f"{_AT}.mlps.{i}", s.hidden, s.inner)
        made += norm(f"{_AT}.input_layernorm.{i}", s.hidden)
        made += norm(f"{_AT}.post_attention_layernorm.{i}", s.hidden)
    inner = c.integer("expert_ffn_hidden_size")
    moe = MoE(total=total, per_token=top, inner=inner, router_bias=c.flag("router_bias"))
    made += experts(f"{_AT}.mlp", s.hidden, moe)
    if zero:
        made += linear(f"{_AT}.mlp.gate_zero", zero, s.hidden, Role.ROUTER)
    # Of the `top` experts that a token is sent to, this many are real on average.
    real = max(1, top * total // (total + zero))
    layer = Layer(
        indices=tuple(range(s.layers)),
        mixers=(latent, latent),
        tensors=made,
        inner=2 * s.inner,
        experts=Experts(total=total, per_token=real, inner=inner),
    )
    note = (
        f"{zero} of {total + zero} experts are empty: of {top} that a token is sent to, "
        f"{real} are counted as active, the mean"
    )
    return assemble(c, s, (layer,), ends(c, s, Style()), warnings=(note,) if zero else ())
