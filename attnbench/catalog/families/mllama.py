"""Llama 3.2 Vision: Llama with layers that attend to an image instead of to the text."""

import msgspec

from attnbench.catalog.assemble import quantization, weight_dtype
from attnbench.catalog.blocks import Tensors, vector
from attnbench.catalog.decoder import FULL, Block, attend, attention, decoder
from attnbench.catalog.fields import Fields
from attnbench.catalog.shape import Sizes, Style
from attnbench.catalog.vision.vit import ViT, dense, layer, patches, square, vision, vit
from attnbench.spec.model import Cross, ModelSpec, Role

MODEL_TYPES = ("mllama", "mllama_text_model")

DEFAULTS = {
    "vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336,
    "num_hidden_layers": 40, "num_attention_heads": 32, "num_key_value_heads": 8,
    "max_position_embeddings": 131072, "cross_attention_layers": [3, 8, 13, 18, 23, 28, 33, 38],
}  # fmt: skip
_VISION = {
    "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32,
    "num_global_layers": 8, "image_size": 448, "patch_size": 14, "max_num_tiles": 4,
    "vision_output_dim": 7680,
}  # fmt: skip
_NO_IMAGE = "without an image; pass --encoder-len for the image's tokens (1,601 a tile)"
_CROSS = "cross_attention"
_EXTRA_ROWS = 8  # of the input embedding, for the image tokens


def build(c: Fields) -> ModelSpec:
    """The cross-attention layers hold an image's K and V, and nothing for text alone."""
    text = c.child("text_config") or c
    spec = _text(text.also(model_type="mllama"))
    fields = c.child("vision_config")
    made: Tensors = ()
    notes: tuple[str, ...] = (
        "without an image; pass --encoder-len for the image's tokens (1,601 a tile)",
    )
    if fields is None:
        notes += ("no vision_config is given: the vision tower is not counted",)
    else:
        made = _tower(fields.with_defaults(_VISION), spec.hidden_size)
    return msgspec.structs.replace(
        spec,
        outside=spec.outside + made,
        weight_dtype=spec.weight_dtype or weight_dtype(c),
        quantization=spec.quantization or quantization(c),
        architecture=next(iter(c.texts("architectures") or ()), None),
        warnings=notes,
    )


def _text(c: Fields) -> ModelSpec:
    c = c.with_defaults(DEFAULTS)
    s = Sizes.read(c)
    style = Style()
    crossing = set(c.integers("cross_attention_layers"))

    def block(kind: str) -> Block:
        if kind == FULL:
            return attend(c, s, style, kind)
        mixer = Cross(
            heads=s.heads, kv_heads=s.kv_heads, key_dim=s.head_dim, value_dim=s.head_dim, length=0
        )
        made = attention(s, Style(qk_norm="head"), mixer, "cross_attn")
        for name in ("cross_attn_attn_gate", "cross_attn_mlp_gate"):
            made += vector(f"model.layers.*.{name}", 1)
        return (mixer,), made

    kinds = [_CROSS if i in crossing else FULL for i in range(s.layers)]
    spec = decoder(c, s, style, kinds=kinds, block=block)
    wider = tuple(
        msgspec.structs.replace(t, shape=(s.vocab + _EXTRA_ROWS, s.hidden))
        if t.role is Role.EMBEDDING
        else t
        for t in spec.outside
    )
    return msgspec.structs.replace(spec, outside=wider)


def _tower(c: Fields, hidden: int) -> Tensors:
    width, tiles = c.integer("hidden_size"), c.integer("max_num_tiles")
    positions = patches(c) + 1
    sizes = ViT(
        at="vision_model.transformer",
        hidden=width,
        inner=c.integer("intermediate_size"),
        layers=c.layers(),
        patch=square(c),
        patch_bias=False,
        positions=positions,
        class_token=True,
        pre_norm=True,
        qkv_bias=False,
        out_bias=False,
    )
    deep = c.layers("num_global_layers")
    gates = vector("vision_model.global_transformer.layers.*.gate_attn", 1)
    gates += vector("vision_model.global_transformer.layers.*.gate_ffn", 1)
    made = vit(sizes) + vision(layer(sizes) + gates, times=deep)
    # A table of positions a tile for each of the ways to cut an image (8, and none).
    ways = len(c.get("supported_aspect_ratios") or range(8)) + 1
    tables: Tensors = ()
    for name in ("pre_tile", "post_tile"):
        tables += vector(f"vision_model.{name}.embedding.weight", ways, tiles * width)
        tables += vector(f"vision_model.{name}.gate", 1)
    tables += vector(
        "vision_model.gated_positions.tile_embedding.weight", ways, tiles * positions * width
    )
    tables += vector("vision_model.gated_positions.gate", 1)
    projector = dense("multi_modal_projector", hidden, c.integer("vision_output_dim"), bias=True)
    return made + vision(tables) + projector
