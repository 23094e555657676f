"""Counts of parameters: sums over a model's inventory of tensors."""

import msgspec

from attnbench.spec.model import Layer, ModelSpec, Role


class Params(msgspec.Struct, frozen=True, kw_only=True):
    """Parameters of a model; `text` is `total` less a vision or audio tower."""

    total: int
    active: int
    embedding: int
    routed_experts: int
    text: int


def count(model: ModelSpec) -> Params:
    """How many parameters `model` has, each tensor once (tied weights once).

        total = Σ prod(shape) · count        over every tensor group
        active = total − Σ routed · (1 − experts a token visits / experts)

    Unit: parameters. Multi-token-prediction modules are not among them.

    Source: `sum(p.numel() for p in model.parameters())` of transformers' model.

    >>> from attnbench.catalog import load_model
    >>> count(load_model("llama-3-8b")).total
    8030261248
    """
    roles = by_role(model)
    total = sum(roles.values())
    idle = sum(idle_experts(layer) for layer in (*model.encoder, *model.layers))
    return Params(
        total=total,
        active=total - idle,
        embedding=roles.get(Role.EMBEDDING, 0),
        routed_experts=roles.get(Role.ROUTED_EXPERT, 0),
        text=total - roles.get(Role.VISION, 0),
    )


def by_role(model: ModelSpec) -> dict[str, int]:
    """Parameters by what they are for; only roles that the model has."""
    counts: dict[str, int] = {}
    for tensor, copies in model.parameters():
        counts[tensor.role] = counts.get(tensor.role, 0) + tensor.elements * copies
    return counts


def idle_experts(layer: Layer) -> int:
    """Parameters of the routed experts that one token does not visit, in all such layers.

    Unit: parameters; routed · (total − per_token) / total, layers of the kind together.
    """
    if layer.experts is None:
        return 0
    routed = sum(t.elements for t in layer.tensors if t.role is Role.ROUTED_EXPERT)
    left = layer.experts.total - layer.experts.per_token
    return routed * left // layer.experts.total * layer.count
