"""CLIP, SigLIP and Idefics 2/3's and SmolVLM's own SigLIP."""

from attnbench.catalog.blocks import Tensors, mlp, norm, vector
from attnbench.catalog.fields import Fields
from attnbench.catalog.vision.vit import Tower, ViT, dense, patches, square, vision, vit

MODEL_TYPES = (
    "clip_vision_model", "siglip_vision_model", "idefics2", "idefics2_vision", "idefics3",
    "idefics3_vision", "smolvlm_vision", "siglip2_vision_model", "kimi_k25_vision",
)  # fmt: skip

_CLIP = {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "image_size": 224,
    "patch_size": 32,
}  # fmt: skip
_SIGLIP = {**_CLIP, "patch_size": 16}
_SIGLIP2 = {**_SIGLIP, "num_patches": 256, "vision_use_head": True}
_KIMI = {
    "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "patch_size": 14,
    "pos_emb_height": 64, "pos_emb_width": 64,
}  # fmt: skip
_IDEFICS = {**_CLIP, "hidden_size": 1152, "num_attention_heads": 16}


def tower(c: Fields) -> Tower:
    """CLIP has a class token and a norm before; SigLIP may have a pooling head."""
    kind = c.text("model_type")
    if kind in ("siglip2_vision_model", "kimi_k25_vision"):
        return _free(c.with_defaults(_KIMI if kind.startswith("kimi") else _SIGLIP2))
    clip, siglip = kind == "clip_vision_model", kind == "siglip_vision_model"
    idefics2 = kind.startswith("idefics2")
    defaults = _CLIP if clip else _SIGLIP if siglip else _IDEFICS
    if idefics2 or kind.startswith("idefics3"):
        defaults = {**defaults, "hidden_size": 768 if idefics2 else 1152}
    c = c.with_defaults(defaults)
    hidden, inner = c.integer("hidden_size"), c.integer("intermediate_size")
    sizes = ViT(
        at="vision_tower",
        hidden=hidden,
        inner=inner,
        layers=c.layers(),
        patch=square(c),
        patch_bias=not clip,
        positions=patches(c) + clip,
        class_token=clip,
        pre_norm=clip,
    )
    made = vit(sizes)
    if siglip and c.flag("vision_use_head", True):
        made += _pooling(hidden, inner)
    return Tower(tensors=made, width=hidden)


def _free(c: Fields) -> Tower:
    """Images of any size: SigLIP 2 with a table of `num_patches`, Kimi's of rows by columns."""
    hidden = c.integer("vt_hidden_size") if c.has("vt_hidden_size") else c.integer("hidden_size")
    inner = c.maybe("vt_intermediate_size") or c.integer("intermediate_size")
    rows = c.maybe("num_patches") or (
        c.integer("init_pos_emb_height", c.maybe("pos_emb_height"))
        * c.integer("init_pos_emb_width", c.maybe("pos_emb_width"))
    )
    made = vit(
        ViT(
            at="vision_tower",
            hidden=hidden,
            inner=inner,
            layers=c.layers(
                "vt_num_hidden_layers" if c.has("vt_num_hidden_layers") else "num_hidden_layers"
            ),
            patch=square(c),
            positions=rows,
        )
    )
    if c.flag("vision_use_head"):
        made += _pooling(hidden, inner)
    return Tower(tensors=made, width=hidden)


def _pooling(hidden: int, inner: int) -> Tensors:
    at = "vision_tower.head"
    return vision(
        (
            *vector(f"{at}.probe", 1, 1, hidden),
            *dense(f"{at}.attention.in_proj", 3 * hidden, hidden, bias=True),
            *dense(f"{at}.attention.out_proj", hidden, hidden, bias=True),
            *norm(f"{at}.layernorm", hidden, bias=True),
            *mlp(f"{at}.mlp", hidden, inner, gated=False, bias=True),
        )
    )
