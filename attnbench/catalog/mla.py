"""Multi-head latent attention: its tensors, and the mixer that says what it caches.

Source: DeepSeek-V2, arXiv:2405.04434, section 2.1; DeepSeek-V3.2's indexer,
arXiv:2512.02556.
"""

from attnbench.catalog.blocks import Tensors, linear, norm
from attnbench.catalog.decoder import Block
from attnbench.catalog.fields import Fields
from attnbench.catalog.shape import Sizes, Style
from attnbench.spec.model import Latent, Role, Shard


def sizes(c: Fields) -> Sizes:
    """The sizes of a model whose heads have widths of their own; head_dim stands unused."""
    c.require(
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "vocab_size",
        "kv_lora_rank",
        "qk_rope_head_dim",
        "qk_nope_head_dim",
        "v_head_dim",
        "intermediate_size",
    )
    heads = c.integer("num_attention_heads")
    return Sizes(
        hidden=c.integer("hidden_size"),
        layers=c.layers(),
        heads=heads,
        kv_heads=heads,
        head_dim=c.integer("qk_nope_head_dim", low=0) + c.integer("qk_rope_head_dim", low=0),
        inner=c.integer("intermediate_size"),
        vocab=c.integer("vocab_size"),
    )


def mixer(c: Fields, s: Sizes, *, index_dim: int = 0) -> Latent:
    """What a token leaves in the cache: the latent and the rope key, once for all heads."""
    return Latent(
        heads=s.heads,
        kv_rank=c.integer("kv_lora_rank"),
        rope_dim=c.integer("qk_rope_head_dim", low=0),
        nope_dim=c.integer("qk_nope_head_dim", low=0),
        value_dim=c.integer("v_head_dim"),
        index_dim=index_dim,
    )


def projections(
    c: Fields, s: Sizes, latent: Latent, *, at: str, bias: bool = False, query_norm: bool = True
) -> Tensors:
    """q (through a low rank where `q_lora_rank` is a number), kv_a, kv_b and o."""
    role, column = Role.ATTENTION, Shard.COLUMN
    query = s.heads * (latent.nope_dim + latent.rope_dim)
    rank = c.maybe("q_lora_rank", low=0)
    made: Tensors = ()
    if rank:
        made += linear(f"{at}.q_a_proj", rank, s.hidden, role, bias=bias)
        made += norm(f"{at}.q_a_layernorm", rank, weight=query_norm)
        made += linear(f"{at}.q_b_proj", query, rank, role, column)
    else:
        made += linear(f"{at}.q_proj", query, s.hidden, role, column)
    cached, rank = latent.kv_rank + latent.rope_dim, latent.kv_rank
    values = s.heads * latent.value_dim
    made += linear(f"{at}.kv_a_proj_with_mqa", cached, s.hidden, role, bias=bias)
    made += norm(f"{at}.kv_a_layernorm", rank)
    made += linear(f"{at}.kv_b_proj", s.heads * latent.nope_dim + values, rank, role, column)
    return made + linear(f"{at}.o_proj", s.hidden, values, role, Shard.ROW, bias=bias)


def indexer(c: Fields, s: Sizes, *, at: str) -> Tensors:
    """The sparse indexer: queries from the query latent, one key a token, head weights."""
    heads, dim = c.integer("index_n_heads"), c.integer("index_head_dim")
    return (
        *linear(f"{at}.wq_b", heads * dim, c.integer("q_lora_rank"), Role.ATTENTION),
        *linear(f"{at}.wk", dim, s.hidden, Role.ATTENTION),
        *norm(f"{at}.k_norm", dim, bias=True),
        *linear(f"{at}.weights_proj", heads, s.hidden, Role.ATTENTION),
    )


def block(c: Fields, s: Sizes, style: Style, *, index: bool = False) -> Block:
    """One layer's latent attention, with an indexer where `index` asks for it."""
    at = f"{style.at}.layers.*.self_attn"
    latent = mixer(c, s, index_dim=c.integer("index_head_dim") if index else 0)
    made = projections(c, s, latent, at=at, bias=c.flag("attention_bias"))
    if index:
        made += indexer(c, s, at=f"{at}.indexer")
    return (latent,), made
