"""DeepSeek V2, V3, R1, V3.2 and the models built like them: Kimi K2, GLM-4.7-Flash, GLM-5."""

from attnbench.catalog import mla
from attnbench.catalog.blocks import MoE
from attnbench.catalog.decoder import Feed, decoder, moe_from
from attnbench.catalog.fields import Fields
from attnbench.catalog.shape import Sizes, Style
from attnbench.spec.model import ModelSpec

MODEL_TYPES = (
    "deepseek_v2", "deepseek_v3", "deepseek_v32", "kimi_k2", "glm4_moe_lite", "glm_moe_dsa",
    "youtu", "minicpm3", "mistral4",
)  # fmt: skip

_V3: dict[str, object] = {
    "vocab_size": 129280, "hidden_size": 7168, "intermediate_size": 18432,
    "moe_intermediate_size": 2048, "num_hidden_layers": 61, "num_attention_heads": 128,
    "n_shared_experts": 1, "num_experts": 256, "kv_lora_rank": 512, "q_lora_rank": 1536,
    "qk_rope_head_dim": 64, "v_head_dim": 128, "qk_nope_head_dim": 128,
    "num_experts_per_tok": 8, "first_k_dense_replace": 3, "max_position_embeddings": 4096,
    "index_head_dim": 128, "index_n_heads": 64,
}  # fmt: skip
DEFAULTS: dict[str, dict[str, object]] = {
    "deepseek_v3": _V3,
    "kimi_k2": _V3,
    "deepseek_v32": {**_V3, "max_position_embeddings": 163840},
    "deepseek_v2": {
        **_V3, "vocab_size": 102400, "hidden_size": 4096, "intermediate_size": 11008,
        "num_hidden_layers": 32, "num_attention_heads": 32, "moe_intermediate_size": 1407,
        "n_shared_experts": 2, "num_experts": 64, "first_k_dense_replace": 0,
        "num_experts_per_tok": None,
    },
    "youtu": {
        "vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 6144,
        "num_hidden_layers": 32, "num_attention_heads": 16, "kv_lora_rank": 512,
        "q_lora_rank": 1536, "qk_rope_head_dim": 64, "v_head_dim": 128, "qk_nope_head_dim": 128,
    },
    "minicpm3": {
        "vocab_size": 73448, "hidden_size": 2560, "intermediate_size": 6400,
        "num_hidden_layers": 62, "num_attention_heads": 40, "kv_lora_rank": 256,
        "q_lora_rank": 768, "qk_rope_head_dim": 32, "v_head_dim": 64, "qk_nope_head_dim": 64,
    },
    "mistral4": {
        **_V3, "vocab_size": 131072, "hidden_size": 4096, "intermediate_size": 12288,
        "num_hidden_layers": 36, "num_attention_heads": 32, "num_experts": 128,
        "kv_lora_rank": 256, "q_lora_rank": 1024, "qk_nope_head_dim": 64,
        "num_experts_per_tok": 4, "first_k_dense_replace": 0,
        "max_position_embeddings": 1048576,
    },
    "glm4_moe_lite": {
        **_V3, "vocab_size": 154880, "hidden_size": 2048, "intermediate_size": 10240,
        "moe_intermediate_size": 1536, "num_hidden_layers": 47, "num_attention_heads": 20,
        "num_experts": 64, "q_lora_rank": 768, "v_head_dim": 256, "qk_nope_head_dim": 192,
        "num_experts_per_tok": 4, "first_k_dense_replace": 1, "max_position_embeddings": 202752,
    },
    "glm_moe_dsa": {
        **_V3, "vocab_size": 154880, "hidden_size": 6144, "intermediate_size": 12288,
        "num_hidden_layers": 78, "num_attention_heads": 64, "q_lora_rank": 2048,
        "v_head_dim": 256, "qk_nope_head_dim": 192, "index_n_heads": 32,
        "max_position_embeddings": 202752,
    },
}  # fmt: skip
_DENSE = ("youtu", "minicpm3")
_INDEXED = ("deepseek_v32", "glm_moe_dsa")


def build(c: Fields) -> ModelSpec:
    """Latent attention; the first layers dense, then experts; V3.2 and GLM-5 index keys too."""
    kind = c.text("model_type")
    c = c.with_defaults(DEFAULTS[kind])
    s = mla.sizes(c)
    style = Style(tied=kind in _DENSE)
    kinds = _indexers(c, s.layers) if kind in _INDEXED else ("none",) * s.layers
    return decoder(
        c,
        s,
        style,
        kinds=kinds,
        block=lambda index: mla.block(c, s, style, index=index == "full"),
        feeds=None if kind in _DENSE else feeds(c, s),
    )


def _indexers(c: Fields, layers: int) -> tuple[str, ...]:
    # GLM-5.x: a layer of type "shared" uses the choice of the one before it.
    return c.texts("indexer_types", length=layers) or ("full",) * layers


def feeds(c: Fields, s: Sizes) -> tuple[Feed, ...]:
    """Dense for the first `first_k_dense_replace` layers, or as `mlp_layer_types` says."""
    inner = c.integer("moe_intermediate_size")
    shared = c.maybe("n_shared_experts", low=0) or c.maybe("num_shared_experts", low=0) or 0
    moe = MoE(
        total=c.integer("num_experts"),
        per_token=c.integer("num_experts_per_tok"),
        inner=inner,
        shared=inner * shared,
    )
    listed = c.texts("mlp_layer_types", length=s.layers)
    first = c.integer("first_k_dense_replace", 0, low=0)
    step = c.integer("moe_layer_freq", 1)
    if listed is not None:
        sparse = [kind == "sparse" for kind in listed]
    else:
        sparse = [i >= first and i % step == 0 for i in range(s.layers)]
    return moe_from(c, sparse, moe, s.inner)
