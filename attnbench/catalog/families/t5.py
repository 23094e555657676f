"""T5, Flan-T5, mT5, UMT5 and Switch: no biases, RMSNorm, a relative position bias."""

import msgspec

from attnbench.catalog.assemble import assemble
from attnbench.catalog.blocks import MoE, Tensors, embedding, norm, vector
from attnbench.catalog.decoder import Feed
from attnbench.catalog.encoder_decoder import Stack, layers
from attnbench.catalog.fields import Fields
from attnbench.catalog.shape import Sizes
from attnbench.spec.model import ModelSpec, Place

MODEL_TYPES = ("t5", "mt5", "umt5", "switch_transformers")

_T5 = {
    "vocab_size": 32128, "hidden_size": 512, "d_kv": 64, "intermediate_size": 2048,
    "num_layers": 6, "num_attention_heads": 8, "relative_attention_num_buckets": 32,
    "feed_forward_proj": "relu",
}  # fmt: skip
_MT5 = {
    **_T5, "vocab_size": 250112, "intermediate_size": 1024, "num_layers": 8,
    "num_attention_heads": 6, "feed_forward_proj": "gated-gelu",
}  # fmt: skip
DEFAULTS = {
    "t5": _T5,
    "mt5": _MT5,
    "umt5": _MT5,
    "switch_transformers": {
        **_T5, "hidden_size": 768, "num_layers": 12, "num_attention_heads": 12, "num_experts": 8,
        "num_sparse_encoder_layers": 3, "num_sparse_decoder_layers": 3,
    },
}  # fmt: skip


def build(c: Fields) -> ModelSpec:
    """The position bias stands in the first layer of a stack and serves all (UMT5: in each).

    The output is tied whatever `tie_word_embeddings` says: T5 1.1's files say false
    for another reason (unscaled outputs), and transformers ties it always.
    """
    kind = c.text("model_type")
    c = c.with_defaults(DEFAULTS[kind])
    c.require("hidden_size", "num_layers", "num_attention_heads", "intermediate_size", "vocab_size")
    deep = c.layers("num_layers")
    s = Sizes(
        hidden=c.integer("hidden_size"),
        layers=c.layers("num_decoder_layers", deep),
        heads=c.integer("num_attention_heads"),
        kv_heads=c.integer("num_attention_heads"),
        head_dim=c.integer("d_kv"),
        inner=c.integer("intermediate_size"),
        vocab=c.integer("vocab_size"),
    )
    bias = c.integer("relative_attention_num_buckets"), s.heads
    each = kind == "umt5"
    encoder = Stack(
        at="encoder.block.*",
        hidden=s.hidden,
        heads=s.heads,
        head_dim=s.head_dim,
        norms=("layer.0.layer_norm", "layer.1.layer_norm"),
        norm_bias=False,
        bias=False,
        mlp_bias=False,
        gated=c.text("feed_forward_proj").startswith("gated-"),
        extra=_position_bias("encoder.block.*", bias) if each else (),
    )
    decoder = msgspec.structs.replace(
        encoder,
        at="decoder.block.*",
        norms=(*encoder.norms, "layer.2.layer_norm"),
        cross=True,
        extra=_position_bias("decoder.block.*", bias) if each else (),
    )
    return assemble(
        c,
        s,
        layers(decoder, _feeds(c, s, s.layers, "num_sparse_decoder_layers")),
        _ends(c, s, bias, shared_bias=not each),
        encoder=layers(encoder, _feeds(c, s, deep, "num_sparse_encoder_layers")),
        tied_embeddings=True,
    )


def _feeds(c: Fields, s: Sizes, count: int, key: str) -> tuple[Feed, ...]:
    # Switch: of every `step` layers the second has experts, one of which a token visits.
    sparse = c.maybe(key, low=0) or 0
    if not sparse:
        return (s.inner,) * count
    step = max(1, count // sparse)
    moe = MoE(total=c.integer("num_experts"), per_token=1, inner=s.inner, gated=False)
    return tuple(moe if step == 1 or i % step == 1 else s.inner for i in range(count))


def _position_bias(at: str, shape: tuple[int, int], place: Place = Place.LAYER) -> Tensors:
    return vector(f"{at}.relative_attention_bias.weight", *shape, place=place)


def _ends(c: Fields, s: Sizes, bias: tuple[int, int], *, shared_bias: bool) -> Tensors:
    made = embedding("shared", s.vocab, s.hidden)
    for stack in ("encoder", "decoder"):
        made += norm(f"{stack}.final_layer_norm", s.hidden, place=Place.LAST)
        if shared_bias:
            made += _position_bias(f"{stack}.block.0", bias, Place.FIRST)
    return made
