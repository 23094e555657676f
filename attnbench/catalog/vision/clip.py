"""CLIP, SigLIP and Idefics 2/3's and SmolVLM's own SigLIP."""

from attnbench.catalog.blocks import Tensors, mlp, norm, vector
from attnbench.catalog.fields import Fields
from attnbench.catalog.vision.vit import Tower, ViT, dense, patches, square, vision, vit

MODEL_TYPES = (
    "clip_vision_model", "siglip_vision_model", "idefics2", "idefics2_vision", "idefics3",
    "idefics3_vision", "smolvlm_vision",
)  # fmt: skip

_CLIP = {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "image_size": 224,
    "patch_size": 32,
}  # fmt: skip
_SIGLIP = {**_CLIP, "patch_size": 16}
_IDEFICS = {**_CLIP, "hidden_size": 1152, "num_attention_heads": 16}


def tower(c: Fields) -> Tower:
    """CLIP has a class token and a norm before; SigLIP may have a pooling head."""
    kind = c.text("model_type")
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
