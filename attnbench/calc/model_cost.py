"""A model as the time of its forward pass depends on it: multiplied elements, attention."""

import msgspec

from attnbench.spec.model import (
    Attention,
    Chunked,
    Cross,
    Latent,
    ModelSpec,
    Recurrent,
    Role,
    Shared,
    Sliding,
)

_MULTIPLIED = (
    Role.ATTENTION, Role.MLP, Role.ROUTER, Role.SHARED_EXPERT, Role.RECURRENT, Role.OTHER,
)  # fmt: skip


class AttentionGroup(msgspec.Struct, frozen=True, kw_only=True):
    """`layers` layers whose attention is alike; `latent`: over MLA's compressed cache.

    A latent group's widths are those that decoding computes with, `prefill_dims` those of
    prefill, which decompresses.
    """

    layers: int
    heads: int
    kv_heads: int
    key_dim: int
    value_dim: int
    window: int | None = None
    latent: bool = False
    prefill_dims: tuple[int, int] | None = None


class ModelCost(msgspec.Struct, frozen=True, kw_only=True):
    """Elements that a token is multiplied with, in all layers together.

    `dense` always; of `routed` those of `per_token` of `experts`, which `expert_layers` of
    the `layers` have; `output` once a token sampled.
    """

    name: str
    layers: int
    hidden: int
    dense: int
    routed: int
    experts: int
    per_token: int
    expert_layers: int
    output: int
    attention: tuple[AttentionGroup, ...]


def model_cost(model: ModelSpec) -> ModelCost:
    """What a forward pass of `model`'s decoder multiplies."""
    roles: dict[Role, int] = {}
    for layer in model.layers:
        for tensor in layer.tensors:
            roles[tensor.role] = roles.get(tensor.role, 0) + tensor.elements * layer.count
    experts = next((layer.experts for layer in model.layers if layer.experts), None)
    return ModelCost(
        name=model.name,
        layers=model.num_layers,
        hidden=model.hidden_size,
        dense=sum(roles.get(role, 0) for role in _MULTIPLIED),
        routed=roles.get(Role.ROUTED_EXPERT, 0),
        experts=experts.total if experts else 1,
        per_token=experts.per_token if experts else 1,
        expert_layers=sum(layer.count for layer in model.layers if layer.experts),
        output=model.hidden_size * model.vocab_size,
        attention=_groups(model),
    )


def _groups(model: ModelSpec) -> tuple[AttentionGroup, ...]:
    counts: dict[AttentionGroup, int] = {}
    for layer in model.layers:
        for mixer in layer.mixers:
            if isinstance(mixer, Recurrent | Cross):
                continue
            of = mixer.like if isinstance(mixer, Shared) else mixer
            group = _group(of)
            counts[group] = counts.get(group, 0) + layer.count
    return tuple(msgspec.structs.replace(g, layers=n) for g, n in counts.items())


def _group(mixer: Attention | Latent) -> AttentionGroup:
    if isinstance(mixer, Latent):
        width = mixer.kv_rank + mixer.rope_dim
        return AttentionGroup(
            layers=1, heads=mixer.heads, kv_heads=1, key_dim=width, value_dim=mixer.kv_rank,
            latent=True, prefill_dims=(mixer.nope_dim + mixer.rope_dim, mixer.value_dim),
        )  # fmt: skip
    window = None
    if isinstance(mixer, Sliding):
        window = mixer.window
    elif isinstance(mixer, Chunked):
        window = mixer.chunk
    return AttentionGroup(
        layers=1, heads=mixer.heads, kv_heads=mixer.kv_heads, key_dim=mixer.key_dim,
        value_dim=mixer.value_dim, window=window,
    )  # fmt: skip
