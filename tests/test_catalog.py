"""What a MODEL argument may be, and what a bad one says."""

import json
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import attnbench.catalog as catalog_package
from attnbench.calc.kv_cache import Rules, kv_cache_bytes
from attnbench.calc.params import count
from attnbench.catalog import load_model
from attnbench.catalog.adapters import _listed, family, from_config, model_types
from attnbench.errors import UserError
from attnbench.spec.model import ModelSpec

LLAMA: dict[str, Any] = {
    "model_type": "llama", "vocab_size": 1000, "hidden_size": 64, "intermediate_size": 128,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
}  # fmt: skip
CATALOG = Path(catalog_package.__file__).parent


def spec(**changes: Any) -> ModelSpec:
    fields = {key: value for key, value in {**LLAMA, **changes}.items() if value is not ...}
    return from_config(fields, label="config.json", name="test")


def write_config(folder: Path, **changes: Any) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps({**LLAMA, **changes}))
    return path


def write_safetensors(path: Path, sizes: dict[str, int]) -> None:
    header, offset = {}, 0
    for name, size in sizes.items():
        header[name] = {"dtype": "U8", "shape": [size], "data_offsets": [offset, offset + size]}
        offset += size
    raw = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(offset))


def test_a_path_may_be_a_file_or_its_folder(tmp_path: Path) -> None:
    path = write_config(tmp_path)
    assert load_model(str(path)).layers == load_model(str(tmp_path)).layers
    assert load_model(str(path)).name == tmp_path.name


def test_a_safetensors_file_gives_exact_bytes(tmp_path: Path) -> None:
    write_config(tmp_path)
    write_safetensors(tmp_path / "model.safetensors", {"a": 10, "b": 32})
    assert load_model(str(tmp_path / "model.safetensors")).stored_bytes == 42
    assert load_model(str(tmp_path)).stored_bytes == 42


def test_an_index_gives_the_sum_of_its_files(tmp_path: Path) -> None:
    write_config(tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    names = {"a": "1.safetensors", "b": "2.safetensors"}
    index.write_text(json.dumps({"metadata": {"total_size": 99}, "weight_map": names}))
    assert load_model(str(index)).stored_bytes == 99
    for name in names.values():
        write_safetensors(tmp_path / name, {name: 7})
    assert load_model(str(tmp_path)).stored_bytes == 14


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "a/b.safetensors", ".."])
def test_an_index_may_not_name_files_elsewhere(tmp_path: Path, name: str) -> None:
    write_config(tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(UserError, match="no file beside the index"):
        load_model(str(index))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"1234567",
        struct.pack("<Q", 1 << 60) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 9) + b"{" * 9,
        struct.pack("<Q", 34) + b'{"a":{"data_offsets":[5,"hello"]}}',
    ],
)
def test_a_damaged_safetensors_file_is_refused(tmp_path: Path, raw: bytes) -> None:
    write_config(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(raw)
    with pytest.raises(UserError, match=r"model\.safetensors"):
        load_model(str(path))


def test_a_gguf_file_is_read_by_its_metadata(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    gguf = pytest.importorskip("gguf")
    path = tmp_path / "tiny.gguf"
    writer = gguf.GGUFWriter(path, "qwen3")
    writer.add_name("tiny")
    writer.add_block_count(2)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(128)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_key_length(16)
    writer.add_tensor("token_embd.weight", numpy.zeros((100, 64), dtype=numpy.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = load_model(str(path))
    assert (found.vocab_size, found.stored_bytes, found.tied_embeddings) == (100, 12800, True)
    assert kv_cache_bytes(found, seq_len=10, batch=1, rules=Rules()).total == 2 * 2 * 2 * 16 * 20
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="no readable GGUF"):
        load_model(str(path))


def test_a_hub_id_that_is_not_cached_says_so_offline(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="not in the local cache"):
        load_model("org/no-such-model")


def test_a_cached_hub_id_is_read_without_the_network(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import huggingface_hub

    path = write_config(tmp_path)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: str(path))
    assert load_model("org/model").num_layers == 2
    assert load_model("org/model").name == "org/model"


def test_an_unknown_type_with_enough_fields_is_computed_with_a_warning() -> None:
    found = spec(model_type="novel")
    assert "general rule" in found.warnings[0]
    assert "'novel'" in found.warnings[0]
    assert count(found).total == count(spec()).total


def test_an_unknown_type_with_too_few_fields_names_all_that_are_missing() -> None:
    with pytest.raises(UserError, match="missing num_hidden_layers, vocab_size") as caught:
        spec(model_type="novel", num_hidden_layers=..., vocab_size=...)
    assert caught.value.exit_code == 2


def test_a_known_type_without_its_core_sizes_is_refused() -> None:
    with pytest.raises(UserError, match="missing hidden_size"):
        from_config({"model_type": "llama"}, label="config.json", name="x")


def test_a_nested_text_config_may_lean_on_its_classs_defaults() -> None:
    fields = {"model_type": "llava", "text_config": {"model_type": "llama", "vocab_size": 32064}}
    found = from_config(fields, label="config.json", name="llava")
    assert (found.num_layers, found.vocab_size) == (32, 32064)
    assert "vision tower is not counted" in found.warnings[0]


def test_an_unknown_type_with_states_is_refused() -> None:
    with pytest.raises(UserError, match="mamba_d_state"):
        spec(model_type="novel", mamba_d_state=16)
    with pytest.raises(UserError, match="'mamba' layers"):
        spec(model_type="novel", layer_types=["mamba", "attention"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_hidden_layers": 10**30}, r"num_hidden_layers: .* is not between 1 and 10000"),
        ({"num_hidden_layers": 0}, "num_hidden_layers"),
        ({"num_hidden_layers": -3}, "num_hidden_layers: -3"),
        ({"hidden_size": "64"}, "hidden_size: '64' is not a whole number"),
        ({"hidden_size": 64.5}, "hidden_size"),
        ({"hidden_size": True}, "hidden_size: True"),
        ({"hidden_size": [64]}, "hidden_size"),
        ({"vocab_size": {}}, "vocab_size"),
        ({"num_key_value_heads": 3}, "num_key_value_heads: 3 does not divide"),
        ({"num_attention_heads": 5, "num_key_value_heads": 5}, "does not divide hidden_size 64"),
        ({"attention_bias": "yes"}, "attention_bias"),
        ({"torch_dtype": "bf17"}, "torch_dtype"),
        ({"architectures": "Llama"}, "architectures"),
        ({"quantization_config": 8}, "quantization_config"),
        ({"model_type": 3}, "model_type"),
        (
            {"model_type": "gemma2", "layer_types": ["full_attention"] * 3},
            "layer_types: has 3 items, and there are 2 layers",
        ),
        ({"model_type": "gemma2", "layer_types": ["mystery"] * 2}, "layer_types: 'mystery'"),
        ({"model_type": "mistral", "sliding_window": -1}, "sliding_window"),
        (
            {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 5},
            "5 of only 4 experts",
        ),
        ({"model_type": "gemma3", "text_config": 7}, "text_config"),
        (
            {"model_type": "qwen3_moe", "mlp_only_layers": [0] * 100_001},
            "mlp_only_layers: has 100001 items",
        ),
    ],
)
def test_a_bad_field_is_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        spec(**changes)
    assert "config.json: " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "empty"),
        (b"{", "not valid JSON"),
        (b'{"a": 1,}', "not valid JSON"),
        (b"[1]", "not a mapping"),
        (b"\xff\xfe\x00", "not valid JSON"),
        (b'{"a":' * 50 + b"1" + b"}" * 50, "nested deeper"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested deeper"),
        (b'{"hidden_size": ' + b"9" * 10_000 + b"}", "not valid JSON"),
        (b" " * ((16 << 20) + 1), "over 16 MiB"),
    ],
)
def test_a_broken_file_is_one_line_and_exit_2(
    attnbench: Callable[..., Any], tmp_path: Path, raw: bytes, said: str
) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(raw)
    ran = attnbench("kv-cache", path)
    assert ran.code == 2
    assert said in ran.err
    assert ran.err.count("\n") <= 2
    assert str(path) in ran.err


def test_every_family_names_its_types_where_the_scan_finds_them() -> None:
    import importlib

    for folder in ("families", "vision"):
        for path in (CATALOG / folder).glob("[a-z]*.py"):
            module = importlib.import_module(f"attnbench.catalog.{folder}.{path.stem}")
            listed = dict(_listed(CATALOG / folder)).get(path.stem)
            stated = getattr(module, "MODEL_TYPES", None)
            assert (frozenset(stated) if stated else None) == listed
            if stated and folder == "families":
                assert all(family(name) is module for name in stated)
    assert len(model_types()) == len(set(model_types()))


_TESTS = re.compile(r"model_type\s*(==|!=|\bin\b|\bnot in\b)|(==|!=)\s*\S*model_type\b")


def test_no_model_type_is_tested_outside_the_catalog() -> None:
    package = CATALOG.parent
    files = [path for path in package.rglob("*.py") if CATALOG not in path.parents]
    found = [str(path) for path in files if _TESTS.search(path.read_text())]
    assert not found
    assert _TESTS.search('if spec.model_type == "llama":')
    assert _TESTS.search('if model.model_type in ("a", "b"):')


# Published parameter counts of models whose code is not in transformers.
REMOTE = {
    "Qwen-7B": (
        7_721_324_544,
        {
            "model_type": "qwen", "vocab_size": 151936, "hidden_size": 4096,
            "intermediate_size": 22016, "num_hidden_layers": 32, "num_attention_heads": 32,
            "kv_channels": 128, "no_bias": True, "tie_word_embeddings": False,
        },
    ),
    "chatglm3-6b": (
        6_243_584_000,
        {
            "model_type": "chatglm", "padded_vocab_size": 65024, "hidden_size": 4096,
            "ffn_hidden_size": 13696, "num_layers": 28, "num_attention_heads": 32,
            "kv_channels": 128, "multi_query_attention": True, "multi_query_group_num": 2,
            "add_qkv_bias": True, "add_bias_linear": False, "tie_word_embeddings": False,
        },
    ),
    "Baichuan2-7B": (
        7_505_973_248,
        {
            "model_type": "baichuan", "vocab_size": 125696, "hidden_size": 4096,
            "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
        },
    ),
    "internlm2-7b": (
        7_737_708_544,
        {
            "model_type": "internlm2", "vocab_size": 92544, "hidden_size": 4096,
            "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
            "num_key_value_heads": 8, "bias": False,
        },
    ),
    "MiniCPM-2B": (
        2_724_880_896,
        {
            "model_type": "minicpm", "vocab_size": 122753, "hidden_size": 2304,
            "intermediate_size": 5760, "num_hidden_layers": 40, "num_attention_heads": 36,
        },
    ),
    "deepseek-moe-16b": (
        16_375_728_128,
        {
            "model_type": "deepseek", "vocab_size": 102400, "hidden_size": 2048,
            "intermediate_size": 10944, "moe_intermediate_size": 1408, "num_hidden_layers": 28,
            "num_attention_heads": 16, "n_routed_experts": 64, "n_shared_experts": 2,
            "num_experts_per_tok": 6, "first_k_dense_replace": 1, "moe_layer_freq": 1,
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REMOTE)
def test_parameters_of_a_model_that_brings_its_own_code(name: str) -> None:
    expected, fields = REMOTE[name]
    found = from_config(fields, label="config.json", name=name)
    assert count(found).total == expected
    assert found.warnings == ()
