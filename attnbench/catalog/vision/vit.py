"""A vision transformer's tensors: patches, positions, layers, norms.

Vision towers run on the first pipeline stage. Engines split their layers over
tensor-parallel ranks as they do the language model's (vLLM, `models/siglip.py`,
`models/qwen3_vl.py`); what is outside the layers stands whole on every rank.
"""

import msgspec

from attnbench.catalog.blocks import Tensors, linear, mlp, norm, projections, vector
from attnbench.catalog.fields import Fields
from attnbench.spec.model import Place, Role, Shard, Tensor


class Tower(msgspec.Struct, frozen=True, kw_only=True):
    """A tower's tensors, and the width of the features that it hands on."""

    tensors: Tensors
    width: int


class ViT(msgspec.Struct, frozen=True, kw_only=True):
    """One vision transformer. `patch` is the shape of a patch: channels, [time,] height, width.

    `positions` are the rows of a learned table; `norm_bias` LayerNorm rather than
    RMSNorm; `scales` learned per-channel factors of a layer's two halves.
    """

    at: str
    hidden: int
    inner: int
    layers: int
    patch: tuple[int, ...]
    patch_bias: bool = True
    positions: int = 0
    class_token: bool = False
    pre_norm: bool = False
    post_norm: bool = True
    norm_bias: bool = True
    qkv_bias: bool = True
    out_bias: bool = True
    mlp_bias: bool = True
    gated: bool = False
    scales: int = 0


def vit(v: ViT) -> Tensors:
    """Every tensor of the tower."""
    made: Tensors = vector(f"{v.at}.patch_embedding.weight", v.hidden, *v.patch)
    if v.patch_bias:
        made += vector(f"{v.at}.patch_embedding.bias", v.hidden)
    if v.positions:
        made += vector(f"{v.at}.position_embedding.weight", v.positions, v.hidden)
    if v.class_token:
        made += vector(f"{v.at}.class_embedding", v.hidden)
    for name, present in (("pre_layernorm", v.pre_norm), ("post_layernorm", v.post_norm)):
        if present:
            made += norm(f"{v.at}.{name}", v.hidden, bias=v.norm_bias)
    return vision(made) + vision(layer(v), times=v.layers, split=True)


def layer(v: ViT) -> Tensors:
    """The tensors of one layer of the tower."""
    at = f"{v.at}.layers.*"
    made = projections(
        f"{at}.self_attn",
        v.hidden,
        heads=1,
        kv_heads=1,
        key_dim=v.hidden,
        qkv_bias=v.qkv_bias,
        out_bias=v.out_bias,
    )
    made += mlp(f"{at}.mlp", v.hidden, v.inner, gated=v.gated, bias=v.mlp_bias)
    for name in ("layer_norm1", "layer_norm2"):
        made += norm(f"{at}.{name}", v.hidden, bias=v.norm_bias)
    for i in range(v.scales):
        made += vector(f"{at}.scale_{i}", v.hidden)
    return made


def vision(tensors: Tensors, *, times: int = 1, split: bool = False) -> Tensors:
    """`tensors`, `times` over, as parts of a vision tower; `split` over ranks, or whole on each."""
    return tuple(
        Tensor(
            name=t.name,
            shape=t.shape,
            role=Role.VISION,
            shard=t.shard if split else Shard.REPLICATED,
            count=t.count * times,
            place=Place.FIRST,
        )
        for t in tensors
    )


def dense(name: str, out: int, into: int, *, bias: bool = False, count: int = 1) -> Tensors:
    """A linear layer of a tower or projector."""
    return linear(name, out, into, Role.VISION, bias=bias, count=count, place=Place.FIRST)


def side(c: Fields, key: str, default: int | None = None) -> int:
    """The size at `key`, a number or a list whose first item stands for all."""
    value = c.get(key, default)
    if isinstance(value, list) and value:
        return c.also(**{key: value[0]}).integer(key)
    return c.integer(key, default)


def patches(c: Fields, image: int | None = None, patch: int | None = None) -> int:
    """How many patches an image is cut into: (image / patch) squared."""
    return (side(c, "image_size", image) // side(c, "patch_size", patch)) ** 2


def square(c: Fields, patch: int | None = None) -> tuple[int, int, int]:
    """The shape of a patch: channels, height, width."""
    size = side(c, "patch_size", patch)
    return (c.integer("num_channels", c.maybe("in_channels") or 3), size, size)
