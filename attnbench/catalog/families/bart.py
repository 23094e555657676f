"""BART and its kin (mBART, Pegasus, Marian, Blenderbot, M2M-100, NLLB, PLBart), and Whisper."""

import msgspec

from attnbench.catalog.assemble import assemble
from attnbench.catalog.blocks import MoE, Tensors, embedding, norm, vector
from attnbench.catalog.decoder import Feed
from attnbench.catalog.encoder_decoder import Stack, layers
from attnbench.catalog.fields import Fields
from attnbench.catalog.shape import Sizes
from attnbench.spec.model import ModelSpec, Place, Role

MODEL_TYPES = (
    "bart", "mbart", "pegasus", "marian", "blenderbot", "blenderbot-small", "m2m_100",
    "nllb-moe", "plbart", "whisper",
)  # fmt: skip


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """What tells one of them from another.

    `offset` are the rows of the position tables before the first position, None
    where positions are computed and no parameter; `first` and `last` whether a norm
    stands after the embeddings, and after the last layer.
    """

    offset: int | None = None
    first: bool = False
    last: bool = False


_KINDS = {
    "bart": Kind(offset=2, first=True),
    "plbart": Kind(offset=2, first=True),
    "mbart": Kind(offset=2, first=True, last=True),
    "pegasus": Kind(offset=0, last=True),
    "marian": Kind(offset=0),
    "blenderbot": Kind(offset=0, last=True),
    "blenderbot-small": Kind(offset=0, first=True),
    "m2m_100": Kind(last=True),
    "nllb-moe": Kind(last=True),
    "whisper": Kind(offset=0, last=True),
}
DEFAULTS = {
    "hidden_size": 1024, "encoder_layers": 12, "decoder_layers": 12, "vocab_size": 50265,
    "encoder_attention_heads": 16, "decoder_attention_heads": 16, "encoder_ffn_dim": 4096,
    "decoder_ffn_dim": 4096, "max_position_embeddings": 1024, "encoder_sparse_step": 4,
    "decoder_sparse_step": 4, "num_experts": 128, "num_mel_bins": 80,
    "max_source_positions": 1500, "max_target_positions": 448,
}  # fmt: skip
_SELF = ("self_attn_layer_norm", "final_layer_norm")


def build(c: Fields) -> ModelSpec:
    """LayerNorm and biases throughout; embeddings shared by both stacks and the output."""
    name = c.text("model_type")
    c = c.with_defaults(DEFAULTS)
    c.require("hidden_size", "vocab_size")
    needed = ("encoder_layers", "decoder_layers", "decoder_attention_heads", "decoder_ffn_dim")
    missing = [key for key in needed if not c.path and not c.has(key)]
    if missing:
        raise c.error(", ".join(missing), "missing")
    hidden, heads = c.integer("hidden_size"), c.integer("decoder_attention_heads")
    s = Sizes(
        hidden=hidden,
        layers=c.layers("decoder_layers"),
        heads=heads,
        kv_heads=heads,
        head_dim=c.divided("d_model", hidden, "decoder_attention_heads", heads),
        inner=c.integer("decoder_ffn_dim"),
        vocab=c.integer("vocab_size"),
    )
    whisper = name == "whisper"
    encoder_heads = c.integer("encoder_attention_heads")
    encoder = Stack(
        at="model.encoder.layers.*",
        hidden=hidden,
        heads=encoder_heads,
        head_dim=c.divided("d_model", hidden, "encoder_attention_heads", encoder_heads),
        norms=_SELF,
        key_bias=not whisper,
    )
    source = c.integer("max_source_positions") if whisper else None
    decoder = msgspec.structs.replace(
        encoder,
        at="model.decoder.layers.*",
        heads=s.heads,
        head_dim=s.head_dim,
        norms=(*_SELF, "encoder_attn_layer_norm"),
        cross=True,
        cross_length=source,
    )
    moe = name == "nllb-moe"
    return assemble(
        c,
        s,
        layers(decoder, _feeds(c, "decoder", s.layers, moe)),
        _ends(c, s, _KINDS[name], whisper),
        encoder=layers(encoder, _feeds(c, "encoder", c.layers("encoder_layers"), moe)),
        tied_embeddings=c.flag("tie_word_embeddings", True),
        encoder_length=source,
        decoder_length=c.integer("max_target_positions") if whisper else None,
    )


def _feeds(c: Fields, stack: str, count: int, moe: bool) -> tuple[Feed, ...]:
    inner = c.integer(f"{stack}_ffn_dim")
    step = c.integer(f"{stack}_sparse_step", low=0)
    if not moe or not step:
        return (inner,) * count
    expert = MoE(
        total=c.integer("num_experts"),
        per_token=min(2, c.integer("num_experts")),
        inner=inner,
        gated=False,
        bias=True,
        router_bias=c.flag("router_bias"),
    )
    return tuple(inner if (i + 1) % step else expert for i in range(count))


def _ends(c: Fields, s: Sizes, kind: Kind, whisper: bool) -> Tensors:
    made = embedding("model.shared", s.vocab, s.hidden)
    for stack, place in (("encoder", Place.FIRST), ("decoder", Place.LAST)):
        at = f"model.{stack}"
        if kind.offset is not None:
            rows = c.integer("max_position_embeddings") + kind.offset
            if whisper:
                rows = c.integer(
                    "max_source_positions" if stack == "encoder" else "max_target_positions"
                )
            made += vector(f"{at}.embed_positions.weight", rows, s.hidden, place=place)
        for name, present in (("layernorm_embedding", kind.first), ("layer_norm", kind.last)):
            if present:
                made += norm(f"{at}.{name}", s.hidden, bias=True, place=place)
    if whisper:
        for name, channels in (("conv1", c.integer("num_mel_bins")), ("conv2", s.hidden)):
            at = f"model.encoder.{name}"
            made += vector(f"{at}.weight", s.hidden, channels, 3, place=Place.FIRST)
            made += vector(f"{at}.bias", s.hidden, place=Place.FIRST)
    if not c.flag("tie_word_embeddings", True):
        made += embedding("lm_head", s.vocab, s.hidden, role=Role.OUTPUT, place=Place.LAST)
    return made
