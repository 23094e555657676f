"""Pixtral (rotary positions, gated MLP), Llama 4's and InternVL's towers."""

from attnbench.catalog.blocks import norm
from attnbench.catalog.fields import Fields
from attnbench.catalog.vision.vit import Tower, ViT, dense, patches, square, vision, vit

MODEL_TYPES = ("pixtral", "llama4_vision_model", "internvl_vision")

_PIXTRAL = {
    "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "image_size": 1024,
    "patch_size": 16,
}  # fmt: skip
_LLAMA4 = {
    "hidden_size": 768, "intermediate_size": 5632, "num_hidden_layers": 34, "image_size": 448,
    "patch_size": 14, "projector_input_dim": 4096, "projector_output_dim": 4096,
    "vision_output_dim": 7680,
}  # fmt: skip
_INTERNVL = {
    "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "image_size": 448,
    "patch_size": 14,
}  # fmt: skip


def tower(c: Fields) -> Tower:
    """Each has its own norms, biases and ends."""
    kind = c.text("model_type")
    if kind == "llama4_vision_model":
        return _llama4(c.with_defaults(_LLAMA4))
    if kind == "internvl_vision":
        return _internvl(c.with_defaults(_INTERNVL))
    c = c.with_defaults(_PIXTRAL)
    sizes = ViT(
        at="vision_tower",
        hidden=c.integer("hidden_size"),
        inner=c.integer("intermediate_size"),
        layers=c.layers(),
        patch=square(c),
        patch_bias=False,
        pre_norm=True,
        post_norm=False,
        norm_bias=False,
        qkv_bias=False,
        out_bias=False,
        mlp_bias=False,
        gated=True,
    )
    return Tower(tensors=vit(sizes), width=sizes.hidden)


def _llama4(c: Fields) -> Tower:
    sizes = ViT(
        at="vision_model",
        hidden=c.integer("hidden_size"),
        inner=c.integer("intermediate_size"),
        layers=c.layers(),
        patch=square(c),
        patch_bias=False,
        positions=patches(c) + 1,
        class_token=True,
        pre_norm=True,
    )
    into, out = c.integer("projector_input_dim"), c.integer("projector_output_dim")
    at = "vision_model.vision_adapter.mlp"
    # Patches are shuffled into fewer, wider ones: the adapter reads the MLP's width.
    adapter = dense(f"{at}.fc1", into, sizes.inner) + dense(f"{at}.fc2", out, into)
    return Tower(tensors=vit(sizes) + adapter, width=c.integer("vision_output_dim"))


def _internvl(c: Fields) -> Tower:
    sizes = ViT(
        at="vision_tower",
        hidden=c.integer("hidden_size"),
        inner=c.integer("intermediate_size"),
        layers=c.layers(),
        patch=square(c),
        positions=(patches(c) + 1) * c.flag("use_absolute_position_embeddings", True),
        class_token=True,
        post_norm=not c.flag("use_mean_pooling", True),
        norm_bias=c.text("norm_type", "layer_norm") == "layer_norm",
        qkv_bias=c.flag("attention_bias"),
        scales=2,
    )
    made = vit(sizes)
    if c.flag("use_qk_norm"):
        for letter in ("q", "k"):
            name = f"vision_tower.layers.*.self_attn.{letter}_norm"
            made += vision(norm(name, sizes.hidden), times=sizes.layers)
    return Tower(tensors=made, width=sizes.hidden)
