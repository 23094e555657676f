"""The sizes that every decoder has, and the style in which a family writes a layer."""

import msgspec

from attnbench.catalog.fields import Fields


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """The sizes that every decoder has, under one set of names."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    inner: int
    vocab: int

    @classmethod
    def read(cls, c: Fields, *, inner: int | None = None, kv_heads: int | None = None) -> "Sizes":
        """The sizes in `c`; `inner` and `kv_heads` stand in where it states none.

        KV heads absent are as many as heads; head_dim absent is hidden / heads.

        Raises:
            UserError: a size is missing, out of range, or contradicts another.
        """
        core = ["hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size"]
        c.require(*core, *(["intermediate_size"] if inner is None else []))
        hidden = c.integer("hidden_size")
        heads = c.integer("num_attention_heads")
        kv = c.maybe("num_key_value_heads") or kv_heads or heads
        c.divided("num_attention_heads", heads, "num_key_value_heads", kv)
        head_dim = c.maybe("head_dim")
        if head_dim is None:
            head_dim = c.divided("hidden_size", hidden, "num_attention_heads", heads)
        return cls(
            hidden=hidden,
            layers=c.layers(),
            heads=heads,
            kv_heads=kv,
            head_dim=head_dim,
            inner=inner if inner is not None else c.integer("intermediate_size"),
            vocab=c.integer("vocab_size"),
        )


class Style(msgspec.Struct, frozen=True, kw_only=True):
    """How a family writes a layer: biases, norms, gate.

    `qk_norm`: none; "head", one weight [head_dim] each for q and k; "full", one over
    all heads; "heads", one [head_dim] for each head. `norms` are the layer's, over the
    hidden size. `positions` are the rows of a learned position table. `tied` is what
    an absent `tie_word_embeddings` means.
    """

    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    gated: bool = True
    norms: tuple[str, ...] = ("input_layernorm", "post_attention_layernorm")
    norm_bias: bool = False
    norm_weight: bool = True
    qk_norm: str | None = None
    sinks: bool = False
    final_norm: bool = True
    embedding_norm: bool = False
    positions: int = 0
    tied: bool = False
    head_bias: bool = False
    at: str = "model"
