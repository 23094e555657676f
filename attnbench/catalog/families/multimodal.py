"""Models that see: a language model in `text_config`, a vision tower, a projector between."""

import functools
import importlib
from collections.abc import Callable
from pathlib import Path

import msgspec

from attnbench.catalog import adapters
from attnbench.catalog.assemble import quantization, weight_dtype
from attnbench.catalog.blocks import Tensors, norm, vector
from attnbench.catalog.fields import Fields
from attnbench.catalog.vision.vit import Tower, dense, vision
from attnbench.spec.model import ModelSpec

MODEL_TYPES = (
    "gemma3", "llama4", "mistral3", "llava", "llava_next", "llava_onevision", "paligemma",
    "internvl", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe",
    "idefics3", "smolvlm", "kimi_k25", "glm4v", "glm4v_moe", "glm46v", "cohere2_vision",
    "lfm2_vl", "gemma4", "gemma3n",
)  # fmt: skip

_AT = "multi_modal_projector"
Projector = Callable[[Fields, int, Tower], Tensors]


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """The model types inside where the file names none, the projector, the tie default."""

    text: str
    vision: str
    projector: Projector
    tied: bool = False


def _two_layers(c: Fields, hidden: int, tower: Tower) -> Tensors:
    bias = c.flag("multimodal_projector_bias", True)
    made = dense(f"{_AT}.linear_1", hidden, tower.width, bias=bias)
    return made + dense(f"{_AT}.linear_2", hidden, hidden, bias=bias)


def _newline(c: Fields, hidden: int, tower: Tower) -> Tensors:
    return _two_layers(c, hidden, tower) + vision(vector("image_newline", hidden))


def _gemma(c: Fields, hidden: int, tower: Tower) -> Tensors:
    made = vector(f"{_AT}.mm_input_projection_weight", tower.width, hidden)
    return vision(made + norm(f"{_AT}.mm_soft_emb_norm", tower.width))


def _one_layer(c: Fields, hidden: int, tower: Tower) -> Tensors:
    return dense(f"{_AT}.linear_1", hidden, tower.width)


def _paligemma(c: Fields, hidden: int, tower: Tower) -> Tensors:
    return dense(f"{_AT}.linear", hidden, tower.width, bias=True)


def _mistral(c: Fields, hidden: int, tower: Tower) -> Tensors:
    merged = tower.width * c.integer("spatial_merge_size", 2) ** 2
    bias = c.flag("multimodal_projector_bias")
    return (
        *vision(norm(f"{_AT}.norm", tower.width)),
        *dense(f"{_AT}.patch_merger.merging_layer", tower.width, merged),
        *dense(f"{_AT}.linear_1", hidden, tower.width, bias=bias),
        *dense(f"{_AT}.linear_2", hidden, hidden, bias=bias),
    )


def _internvl(c: Fields, hidden: int, tower: Tower) -> Tensors:
    wide = int(tower.width / c.number("downsample_ratio", 0.5) ** 2)
    return (
        *vision(norm(f"{_AT}.layer_norm", wide, bias=True)),
        *dense(f"{_AT}.linear_1", hidden, wide, bias=True),
        *dense(f"{_AT}.linear_2", hidden, hidden, bias=True),
    )


def _idefics(c: Fields, hidden: int, tower: Tower) -> Tensors:
    wide = tower.width * c.integer("scale_factor", 2) ** 2
    return dense("connector.modality_projection.proj", hidden, wide)


def _kimi(c: Fields, hidden: int, tower: Tower) -> Tensors:
    merged = 4 * tower.width  # 2 x 2 patches
    made = vision(norm("mm_projector.pre_norm", tower.width, bias=True))
    made += dense("mm_projector.in_proj", merged, merged, bias=True)
    return made + dense("mm_projector.out_proj", hidden, merged, bias=True)


def _cohere(c: Fields, hidden: int, tower: Tower) -> Tensors:
    merged = tower.width * c.integer("downsample_factor", 2) ** 2
    inner = c.integer("alignment_intermediate_size", 36864)
    made = dense(f"{_AT}.linear_1", inner, merged, bias=True)
    # The gate takes one half.
    return made + dense(f"{_AT}.linear_2", hidden, inner // 2, bias=True)


def _lfm(c: Fields, hidden: int, tower: Tower) -> Tensors:
    merged = tower.width * c.integer("downsample_factor", 2) ** 2
    inner, bias = c.integer("projector_hidden_size", 2560), c.flag("projector_bias", True)
    made: Tensors = ()
    if c.flag("projector_use_layernorm", True):
        made = vision(norm(f"{_AT}.layer_norm", merged, bias=True))
    made += dense(f"{_AT}.linear_1", inner, merged, bias=bias)
    return made + dense(f"{_AT}.linear_2", hidden, inner, bias=bias)


def _embed(c: Fields, hidden: int, tower: Tower) -> Tensors:
    return dense("embed_vision.embedding_projection", hidden, tower.width)


def _none(c: Fields, hidden: int, tower: Tower) -> Tensors:
    return ()


_KINDS = {
    "gemma3": Kind(text="gemma3_text", vision="siglip_vision_model", projector=_gemma, tied=True),
    "llama4": Kind(text="llama4_text", vision="llama4_vision_model", projector=_one_layer),
    "mistral3": Kind(text="mistral", vision="pixtral", projector=_mistral, tied=True),
    "llava": Kind(text="llama", vision="clip_vision_model", projector=_two_layers),
    "llava_next": Kind(text="llama", vision="clip_vision_model", projector=_newline),
    "llava_onevision": Kind(text="qwen2", vision="siglip_vision_model", projector=_newline),
    "paligemma": Kind(text="gemma", vision="siglip_vision_model", projector=_paligemma, tied=True),
    "internvl": Kind(text="qwen2", vision="internvl_vision", projector=_internvl, tied=True),
    "qwen2_vl": Kind(text="qwen2_vl_text", vision="qwen2_vl_vision", projector=_none),
    "qwen2_5_vl": Kind(text="qwen2_5_vl_text", vision="qwen2_5_vl_vision", projector=_none),
    "qwen3_vl": Kind(text="qwen3_vl_text", vision="qwen3_vl_vision", projector=_none),
    "qwen3_vl_moe": Kind(text="qwen3_vl_moe_text", vision="qwen3_vl_moe_vision", projector=_none),
    "qwen3_5": Kind(text="qwen3_5_text", vision="qwen3_5_vision", projector=_none),
    "qwen3_5_moe": Kind(text="qwen3_5_moe_text", vision="qwen3_5_moe_vision", projector=_none),
    "kimi_k25": Kind(text="deepseek_v3", vision="kimi_k25_vision", projector=_kimi, tied=True),
    "glm4v": Kind(text="glm4v_text", vision="glm4v_vision", projector=_none),
    "glm46v": Kind(text="glm4v_text", vision="glm4v_vision", projector=_none),
    "glm4v_moe": Kind(text="glm4v_moe_text", vision="glm4v_moe_vision", projector=_none),
    "cohere2_vision": Kind(
        text="cohere2", vision="siglip_vision_model", projector=_cohere, tied=True
    ),
    "lfm2_vl": Kind(text="lfm2", vision="siglip2_vision_model", projector=_lfm, tied=True),
    "gemma4": Kind(text="gemma4_text", vision="gemma4_vision", projector=_embed, tied=True),
    "gemma3n": Kind(text="gemma3n_text", vision="gemma3n_vision", projector=_none, tied=True),
    "idefics3": Kind(text="llama", vision="idefics3_vision", projector=_idefics),
    "smolvlm": Kind(text="llama", vision="smolvlm_vision", projector=_idefics),
}

# These cut a picture into as many patches as it has; the others scale it to one size.
_ANY_SIZE = frozenset(
    {
        "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe",
        "kimi_k25", "glm4v", "glm46v", "glm4v_moe",
    }
)  # fmt: skip


def build(c: Fields) -> ModelSpec:
    """The language model's spec with the tower and projector among its outside tensors."""
    name = c.text("model_type")
    kind = _KINDS[name]
    text = _text(c, kind, name)
    tied = _tied(c, text, kind)
    spec = adapters.build(text.also(tie_word_embeddings=tied))
    tower, notes = _tower(c, kind)
    made: Tensors = ()
    if tower is not None:
        made = tower.tensors + kind.projector(c, spec.hidden_size, tower)
    return msgspec.structs.replace(
        spec,
        model_type=name,
        architecture=next(iter(c.texts("architectures") or ()), None),
        outside=spec.outside + made,
        pictures_of_any_size=name in _ANY_SIZE,
        weight_dtype=spec.weight_dtype or weight_dtype(c),
        quantization=spec.quantization or quantization(c),
        warnings=spec.warnings + notes,
    )


def _text(c: Fields, kind: Kind, name: str) -> Fields:
    # Qwen 2 and 2.5 VL were published flat, the language model's fields at the top.
    child = c.child("text_config")
    text = c if child is None else child
    stated = text.text("model_type")
    inside = stated if stated not in ("", name) else kind.text
    return text.also(model_type=inside)


def _tied(c: Fields, text: Fields, kind: Kind) -> bool:
    # The outer word decides; older files have it in `text_config` alone.
    for fields in (c, text):
        if fields.has("tie_word_embeddings"):
            return fields.flag("tie_word_embeddings")
    return kind.tied


def _tower(c: Fields, kind: Kind) -> tuple[Tower | None, tuple[str, ...]]:
    fields = c.child("vision_config")
    if fields is None:
        return None, ("no vision_config is given: the vision tower is not counted",)
    stated = fields.text("model_type")
    # Older files name the whole model's type there.
    known = stated if _module(stated) else kind.vision
    if _module(known) is None:
        return None, (f"the vision tower {known!r} is not counted",)
    if stated and not _module(stated) and stated != c.text("model_type"):
        return None, (f"the vision tower {stated!r} is unknown and not counted",)
    module = _module(known)
    tower: Tower = importlib.import_module(f"attnbench.catalog.vision.{module}").tower(
        fields.also(model_type=known)
    )
    return tower, ()


@functools.cache
def _module(model_type: str) -> str | None:
    return adapters.module_of(Path(__file__).parent.parent / "vision", model_type)
