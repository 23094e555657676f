"""Qwen 2, 2.5, 3 and 3.5 VL's towers: patches over time, and a merger of 2 x 2 of them."""

from attnbench.catalog.blocks import Tensors, mlp, norm, vector
from attnbench.catalog.fields import Fields
from attnbench.catalog.vision.vit import Tower, ViT, dense, patches, side, vision, vit

MODEL_TYPES = (
    "qwen2_vl_vision", "qwen2_5_vl_vision", "qwen3_vl_vision", "qwen3_vl_moe_vision",
    "qwen3_5_vision", "qwen3_5_moe_vision", "glm4v_vision", "glm4v_moe_vision",
)  # fmt: skip

_QWEN2 = {
    "depth": 32, "embed_dim": 1280, "hidden_size": 3584, "mlp_ratio": 4, "patch_size": 14,
    "spatial_merge_size": 2, "temporal_patch_size": 2,
}  # fmt: skip
_QWEN25 = {
    "depth": 32, "hidden_size": 3584, "intermediate_size": 3420, "patch_size": 14,
    "spatial_merge_size": 2, "temporal_patch_size": 2, "out_hidden_size": 3584,
}  # fmt: skip
_QWEN3 = {
    "depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "patch_size": 16,
    "spatial_merge_size": 2, "temporal_patch_size": 2, "out_hidden_size": 3584,
    "num_position_embeddings": 2304, "deepstack_visual_indexes": [8, 16, 24],
}  # fmt: skip
_GLM = {
    "depth": 24, "hidden_size": 1536, "image_size": 336, "patch_size": 14,
    "spatial_merge_size": 2, "temporal_patch_size": 2, "out_hidden_size": 4096,
    "intermediate_size": 13696,
}  # fmt: skip


def tower(c: Fields) -> Tower:
    """The merger is the projector: it hands on the language model's width."""
    kind = c.text("model_type")
    if kind.startswith("glm4v"):
        return _glm(c.with_defaults(_GLM))
    if kind.startswith("qwen3"):
        return _qwen3(c.with_defaults(_QWEN3), deepstack=not kind.startswith("qwen3_5"))
    second = kind == "qwen2_vl_vision"
    c = c.with_defaults(_QWEN2 if second else _QWEN25)
    hidden = c.integer("embed_dim" if second else "hidden_size")
    out = c.integer("hidden_size" if second else "out_hidden_size")
    sizes = ViT(
        at="visual",
        hidden=hidden,
        inner=int(hidden * c.number("mlp_ratio", 4)) if second else c.integer("intermediate_size"),
        layers=c.layers("depth"),
        patch=_patch(c),
        patch_bias=False,
        post_norm=False,
        norm_bias=second,
        gated=not second,
    )
    wide = hidden * c.integer("spatial_merge_size") ** 2
    made = vit(sizes) + vision(norm("visual.merger.ln_q", hidden, bias=second))
    made += dense("visual.merger.mlp.0", wide, wide, bias=True)
    return Tower(tensors=made + dense("visual.merger.mlp.2", out, wide, bias=True), width=out)


def _qwen3(c: Fields, *, deepstack: bool) -> Tower:
    hidden, out = c.integer("hidden_size"), c.integer("out_hidden_size")
    sizes = ViT(
        at="visual",
        hidden=hidden,
        inner=c.integer("intermediate_size"),
        layers=c.layers("depth"),
        patch=_patch(c),
        positions=c.integer("num_position_embeddings"),
        post_norm=False,
    )
    wide = hidden * c.integer("spatial_merge_size") ** 2
    made = vit(sizes) + _merger("visual.merger", hidden, wide, out, 1)
    if deepstack:
        # Features of these layers enter the language model's first layers too.
        times = len(c.integers("deepstack_visual_indexes"))
        made += _merger("visual.deepstack_merger_list.*", wide, wide, out, times)
    return Tower(tensors=made, width=out)


def _glm(c: Fields) -> Tower:
    """GLM-4V: gated layers as wide as the output, patches merged by a strided convolution."""
    hidden, out = c.integer("hidden_size"), c.integer("out_hidden_size")
    merge, inner = c.integer("spatial_merge_size"), c.integer("intermediate_size")
    bias = c.flag("attention_bias")
    sizes = ViT(
        at="visual",
        hidden=hidden,
        inner=out,
        layers=c.layers("depth"),
        patch=_patch(c),
        positions=patches(c),
        pre_norm=True,
        norm_bias=False,
        qkv_bias=bias,
        out_bias=bias,
        mlp_bias=False,
        gated=True,
    )
    merger = mlp("visual.merger", out, inner) + norm("visual.merger.norm", out, bias=True)
    down = vector("visual.downsample.weight", out, hidden, merge, merge)
    down += vector("visual.downsample.bias", out)
    made = vit(sizes) + vision(merger + down) + dense("visual.merger.proj", out, out)
    return Tower(tensors=made, width=out)


def _merger(at: str, normed: int, wide: int, out: int, times: int) -> Tensors:
    if not times:
        return ()
    made = norm(f"{at}.norm", normed, bias=True)
    made += dense(f"{at}.linear_fc1", wide, wide, bias=True)
    made += dense(f"{at}.linear_fc2", out, wide, bias=True)
    return vision(made, times=times)


def _patch(c: Fields) -> tuple[int, ...]:
    size = side(c, "patch_size")
    channels = c.maybe("in_channels") or c.maybe("in_chans") or 3
    return (channels, c.integer("temporal_patch_size"), size, size)
