"""OLMo-Hybrid: three layers of gated delta rule, then one of OLMo 2's attention."""

from attnbench.catalog.decoder import FULL, Block, attend, decoder, kinds_of
from attnbench.catalog.fields import Fields
from attnbench.catalog.recurrent import DeltaNet, delta_net
from attnbench.catalog.shape import Sizes, Style
from attnbench.spec.model import ModelSpec

MODEL_TYPES = ("olmo_hybrid",)

_LINEAR = "linear_attention"
DEFAULTS = {
    "vocab_size": 100352, "hidden_size": 3840, "intermediate_size": 11008,
    "num_hidden_layers": 32, "num_attention_heads": 30, "max_position_embeddings": 65536,
    "linear_conv_kernel_dim": 4,
}  # fmt: skip


def build(c: Fields) -> ModelSpec:
    """Linear layers have their norms before, full ones after: two in either."""
    c = c.with_defaults(DEFAULTS)
    s = Sizes.read(c)
    bias = c.flag("attention_bias")
    style = Style(qkv_bias=bias, out_bias=bias, qk_norm="full")
    heads = c.maybe("linear_num_key_heads") or s.heads
    key_dim = c.maybe("linear_key_head_dim") or int(0.75 * s.hidden / heads)
    sizes = DeltaNet(
        hidden=s.hidden,
        key_heads=heads,
        value_heads=c.maybe("linear_num_value_heads") or s.heads,
        key_dim=key_dim,
        value_dim=c.maybe("linear_value_head_dim") or 2 * key_dim,
        kernel=c.integer("linear_conv_kernel_dim"),
    )

    def block(kind: str) -> Block:
        if kind == _LINEAR:
            return delta_net("model.layers.*.linear_attn", sizes)
        return attend(c, s, style, kind)

    kinds = list(kinds_of(c, s.layers, lambda i: FULL if i % 4 == 3 else _LINEAR))
    if FULL not in kinds:
        kinds[-1] = FULL
    return decoder(c, s, style, kinds=kinds, block=block)
