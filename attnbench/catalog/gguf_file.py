"""GGUF files: the metadata as a configuration's fields, the bytes as stored.

Only the header is read (the `gguf` package maps the file, and needs numpy).
Source: github.com/ggml-org/ggml, docs/gguf.md.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from attnbench.catalog.adapters import from_config
from attnbench.errors import UserError, missing_extra
from attnbench.spec.model import ModelSpec

# llama.cpp's architectures by the model type whose adapter reads their fields.
_TYPES: Final = {
    "llama": "llama", "qwen2": "qwen2", "qwen2moe": "qwen2_moe", "qwen3": "qwen3",
    "qwen3moe": "qwen3_moe", "gemma": "gemma", "gemma2": "gemma2", "gemma3": "gemma3_text",
    "phi2": "phi", "phi3": "phi3", "starcoder2": "starcoder2", "stablelm": "stablelm",
    "command-r": "cohere", "cohere2": "cohere2", "olmo": "olmo", "olmo2": "olmo2",
    "olmoe": "olmoe", "gpt2": "gpt2", "gptneox": "gpt_neox", "falcon": "falcon",
    "bloom": "bloom", "mpt": "mpt", "deepseek2": "deepseek_v3", "glm4": "glm4",
    "glm4moe": "glm4_moe", "granite": "granite", "granitemoe": "granitemoe",
    "gpt-oss": "gpt_oss", "smollm3": "smollm3", "seed_oss": "seed_oss", "nemotron": "nemotron",
    "minimax-m2": "minimax_m2", "ernie4_5": "ernie4_5",
}  # fmt: skip
_FIELDS: Final = {
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.sliding_window": "sliding_window",
    "context_length": "max_position_embeddings",
    "vocab_size": "vocab_size",
    "expert_count": "num_experts",
    "expert_used_count": "num_experts_per_tok",
    "expert_feed_forward_length": "moe_intermediate_size",
    "expert_shared_feed_forward_length": "shared_expert_intermediate_size",
    "expert_shared_count": "n_shared_experts",
    "leading_dense_block_count": "first_k_dense_replace",
    "attention.q_lora_rank": "q_lora_rank",
    "attention.kv_lora_rank": "kv_lora_rank",
    "attention.value_length_mla": "v_head_dim",
    "rope.dimension_count": "qk_rope_head_dim",
}


def read(path: Path) -> ModelSpec:
    """The model in the GGUF file at `path`, with the bytes its tensors take there.

    Raises:
        UserError: it is no GGUF file, or its metadata do not suffice.
        MachineError: the `gguf` package is not installed.
    """
    try:
        from gguf import GGUFReader
    except ImportError:
        raise missing_extra("gguf", "gguf") from None
    try:
        reader = GGUFReader(path)
        values = {name: _value(field) for name, field in reader.fields.items() if _small(field)}
        tensors = {t.name: (tuple(int(n) for n in t.shape), int(t.n_bytes)) for t in reader.tensors}
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
    except Exception as error:  # the package raises whatever a damaged file makes it trip over
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: no readable GGUF file: {first}") from None
    fields = _config(path, values, tensors)
    name = values.get("general.name")
    spec = from_config(fields, label=str(path), name=name if isinstance(name, str) else path.stem)
    note = f"read from GGUF as {fields['model_type']}: parameters follow from its metadata"
    return msgspec.structs.replace(
        spec,
        stored_bytes=sum(size for _, size in tensors.values()),
        stored_parts=_parts(tensors),
        warnings=(*spec.warnings, note),
    )


def _parts(tensors: Mapping[str, tuple[tuple[int, ...], int]]) -> dict[str, int]:
    """Bytes by layer (`blk.0`), and by tensor outside the layers."""
    parts: dict[str, int] = {}
    for name, (_, size) in tensors.items():
        words = name.split(".")
        part = ".".join(words[:2]) if words[0] == "blk" else words[0]
        parts[part] = parts.get(part, 0) + size
    return parts


def _config(
    path: Path, values: Mapping[str, Any], tensors: Mapping[str, tuple[tuple[int, ...], int]]
) -> dict[str, Any]:
    architecture = values.get("general.architecture")
    if not isinstance(architecture, str):
        raise UserError(f"{path}: general.architecture: missing")
    fields: dict[str, Any] = {"model_type": _TYPES.get(architecture, architecture)}
    for key, name in _FIELDS.items():
        value = values.get(f"{architecture}.{key}")
        if value is not None:
            fields[name] = value
    embedding = tensors.get("token_embd.weight")
    if embedding is not None:
        fields["vocab_size"] = embedding[0][-1]
    fields["tie_word_embeddings"] = "output.weight" not in tensors
    heads = fields.get("num_key_value_heads")
    if isinstance(heads, list):
        if len(set(heads)) != 1:
            raise UserError(f"{path}: attention.head_count_kv: differs from layer to layer")
        fields["num_key_value_heads"] = heads[0]
    if "kv_lora_rank" in fields:
        _latent(fields, values, architecture)
    if any(name.endswith("attn_q.bias") for name in tensors):
        fields["attention_bias"] = True
    return fields


def _latent(fields: dict[str, Any], values: Mapping[str, Any], architecture: str) -> None:
    # MLA: key_length is the cached width; key_length_mla that of a head's key.
    key = values.get(f"{architecture}.attention.key_length_mla")
    rope = fields.get("qk_rope_head_dim")
    if isinstance(key, int) and isinstance(rope, int):
        fields["qk_nope_head_dim"] = key - rope
    inner, count = fields.get("moe_intermediate_size"), fields.get("n_shared_experts")
    if inner is None or count is None:
        fields.setdefault("n_shared_experts", 0)
    fields.pop("head_dim", None)
    fields.setdefault("q_lora_rank", None)


def _small(field: Any) -> bool:
    """Whether a field is one value or a short list: vocabularies are not wanted here."""
    return len(field.data) <= 1024


def _value(field: Any) -> Any:
    contents: Callable[[], Any] = field.contents
    value = contents()
    return value.item() if hasattr(value, "item") else value
