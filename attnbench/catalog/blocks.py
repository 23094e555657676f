"""Building blocks: the parameter tensors of projections, norms, MLPs and experts.

Each answers a tuple of `Tensor`; `at` is the name before the tensor's own, e.g.
`model.layers.*.self_attn`. Names are Llama's where a family's own differ only in
spelling, or in what they fuse.
"""

import msgspec

from attnbench.spec.model import Place, Role, Shard, Tensor

Tensors = tuple[Tensor, ...]


def linear(
    name: str,
    out: int,
    into: int,
    role: Role,
    shard: Shard = Shard.REPLICATED,
    *,
    bias: bool = False,
    count: int = 1,
    place: Place = Place.LAYER,
) -> Tensors:
    """A linear layer: weight [out, into], and where it has one a bias [out].

    A row-parallel layer adds its bias after the sum over ranks: each holds it whole.
    """
    weight = Tensor(
        name=f"{name}.weight", shape=(out, into), role=role, shard=shard, count=count, place=place
    )
    if not bias:
        return (weight,)
    whole = Shard.REPLICATED if shard is Shard.ROW else shard
    return (
        weight,
        Tensor(name=f"{name}.bias", shape=(out,), role=role, shard=whole, count=count, place=place),
    )


def vector(
    name: str,
    *shape: int,
    role: Role = Role.OTHER,
    shard: Shard = Shard.REPLICATED,
    count: int = 1,
    place: Place = Place.LAYER,
) -> Tensors:
    """A tensor by itself: a bias, a decay, a scale, a convolution's kernel."""
    return (Tensor(name=name, shape=shape, role=role, shard=shard, count=count, place=place),)


def norm(
    name: str,
    width: int,
    *,
    bias: bool = False,
    weight: bool = True,
    count: int = 1,
    role: Role = Role.NORM,
    place: Place = Place.LAYER,
) -> Tensors:
    """RMSNorm's weight [width]; with `bias` LayerNorm's two; without `weight` nothing."""
    names = [f"{name}.weight"] * weight + [f"{name}.bias"] * bias
    return tuple(Tensor(name=n, shape=(width,), role=role, count=count, place=place) for n in names)


def projections(
    at: str,
    hidden: int,
    *,
    heads: int,
    kv_heads: int,
    key_dim: int,
    value_dim: int | None = None,
    qkv_bias: bool = False,
    key_bias: bool | None = None,
    out_bias: bool = False,
    source: int | None = None,
    role: Role = Role.ATTENTION,
) -> Tensors:
    """The q, k, v and o projections of attention; K and V read `source` features."""
    value_dim = key_dim if value_dim is None else value_dim
    source = hidden if source is None else source
    key_bias = qkv_bias if key_bias is None else key_bias
    return (
        *linear(f"{at}.q_proj", heads * key_dim, hidden, role, Shard.COLUMN, bias=qkv_bias),
        *linear(f"{at}.k_proj", kv_heads * key_dim, source, role, Shard.KV, bias=key_bias),
        *linear(f"{at}.v_proj", kv_heads * value_dim, source, role, Shard.KV, bias=qkv_bias),
        *linear(f"{at}.o_proj", hidden, heads * value_dim, role, Shard.ROW, bias=out_bias),
    )


def mlp(
    at: str,
    hidden: int,
    inner: int,
    *,
    gated: bool = True,
    bias: bool = False,
    role: Role = Role.MLP,
    count: int = 1,
    out: int | None = None,
) -> Tensors:
    """A feed-forward block: up and down, and with `gated` a gate beside up."""
    column, row = Shard.COLUMN, Shard.ROW
    if role is Role.ROUTED_EXPERT:
        column = row = Shard.EXPERT
    names = ("gate_proj", "up_proj") if gated else ("up_proj",)
    made: Tensors = ()
    for name in names:
        made += linear(f"{at}.{name}", inner, hidden, role, column, bias=bias, count=count)
    return made + linear(f"{at}.down_proj", out or hidden, inner, role, row, bias=bias, count=count)


class MoE(msgspec.Struct, frozen=True, kw_only=True):
    """A mixture of experts: `per_token` of `total` gated MLPs of width `inner`.

    `shared` is the width of the experts that every token visits, together;
    `shared_gate` whether a sigmoid weighs them. `latent` is the width that routed
    experts read and write where it is not the hidden size; `correction` whether the
    router's load-balancing bias is a parameter (in most families it is a buffer);
    `bias` is the routed experts' and `shared_bias` that of what every token visits.
    """

    total: int
    per_token: int
    inner: int
    shared: int = 0
    shared_gate: bool = False
    router_bias: bool = False
    bias: bool = False
    shared_bias: bool = False
    gated: bool = True
    latent: int = 0
    correction: bool = False


def experts(at: str, hidden: int, moe: MoE) -> Tensors:
    """Router, routed experts and shared experts of one layer."""
    width = moe.latent or hidden
    made = linear(f"{at}.gate", moe.total, hidden, Role.ROUTER, bias=moe.router_bias)
    if moe.correction:
        made += vector(f"{at}.gate.e_score_correction_bias", moe.total, role=Role.ROUTER)
    made += mlp(
        f"{at}.experts.*",
        width,
        moe.inner,
        gated=moe.gated,
        bias=moe.bias,
        role=Role.ROUTED_EXPERT,
        count=moe.total,
    )
    if moe.latent:
        made += linear(
            f"{at}.fc1_latent_proj", moe.latent, hidden, Role.SHARED_EXPERT, bias=moe.shared_bias
        )
        made += linear(
            f"{at}.fc2_latent_proj", hidden, moe.latent, Role.SHARED_EXPERT, bias=moe.shared_bias
        )
    if moe.shared:
        made += mlp(
            f"{at}.shared_experts",
            hidden,
            moe.shared,
            gated=moe.gated,
            bias=moe.bias or moe.shared_bias,
            role=Role.SHARED_EXPERT,
        )
    if moe.shared_gate:
        made += linear(f"{at}.shared_expert_gate", 1, hidden, Role.SHARED_EXPERT)
    return made


def embedding(
    name: str, vocab: int, width: int, *, role: Role = Role.EMBEDDING, place: Place = Place.FIRST
) -> Tensors:
    """A table of `vocab` rows."""
    return (
        Tensor(
            name=f"{name}.weight", shape=(vocab, width), role=role, shard=Shard.VOCAB, place=place
        ),
    )
