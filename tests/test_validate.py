"""`attnbench validate`: forms of corpora, figures blank and given, agreement, the document."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from attnbench import profiles
from attnbench.validation.row import Limit, compare

ROOT = Path(__file__).parent.parent
CORPORA = Path(next(iter(profiles.__path__))) / "corpora"
LOG = """
- id: one
  engine: vllm
  engine_version: 0.13.0
  model: Qwen/Qwen2.5-Coder-32B-Instruct-AWQ
  gpu: NVIDIA A100-SXM4-40GB
  tp: 1
  weight_dtype: float16 / quantization=awq_marlin
  kv_dtype: auto
  gpu_memory_utilization_default: '0.9'
  max_model_len: 4096
  max_num_batched_tokens: 2048
  something_new: 3
  reported:
    weights_gib: 18.1425
    kv_cache_gib: 15.87
    kv_tokens: {tokens}
    max_concurrency: 15.87
"""


def write_log(folder: Path, tokens: object) -> Path:
    path = folder / "logs.yaml"
    path.write_text(LOG.format(tokens=tokens))
    return path


def test_a_row_is_predicted_and_compared(attnbench: Callable[..., Any], tmp_path: Path) -> None:
    path = write_log(tmp_path, 65008)
    made = attnbench("validate", "--corpus", path, "--json").json
    assert made["schema"] == "attnbench.validate/1"
    assert made["corpus"] == str(path)
    (row,) = made["rows"]
    assert list(row)[:1] == ["id"]
    assert row["predicted"]["bytes_per_token"] == 64 * 8 * 256 * 2
    assert row["predicted"]["kv_tokens"] == 64992  # a block less: 15.87 is rounded
    assert abs(row["relative_error"]["kv_tokens"]) < 0.0003
    assert row["within"] == {
        "kv_tokens": True, "max_concurrency": True, "weights_gib": True, "kv_cache_gib": True,
    }  # fmt: skip
    assert made["summary"]["kv_tokens"]["within"] == 1


def test_a_blank_figure_is_predicted_all_the_same(
    attnbench: Callable[..., Any], tmp_path: Path
) -> None:
    made = attnbench("validate", "--corpus", write_log(tmp_path, "null"), "--json").json
    (row,) = made["rows"]
    assert row["predicted"]["kv_tokens"] == 64992
    assert row["reported"]["kv_tokens"] is None
    assert "kv_tokens" not in row["relative_error"]


def test_a_folder_of_models(attnbench: Callable[..., Any], tmp_path: Path) -> None:
    name, entry = next(iter(json.loads((CORPORA / "models.json").read_text()).items()))
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / f"{name}.json").write_text(json.dumps(entry["config"]))
    case = entry["cases"][0]
    cache = {
        "batch": case["batch"],
        "seq": case["seq_len"],
        "reference_bytes": case["reference"],
        "hf_bytes": case["transformers"],
    }
    expected = {"total_params": entry["total"], "active_params": None, "cache": {"case": cache}}
    (tmp_path / "expected.json").write_text(json.dumps({"models": {name: expected}}))
    (row,) = attnbench("validate", "--corpus", tmp_path, "--json").json["rows"]
    assert row["id"] == name
    assert all(row["within"].values())
    assert len(row["within"]) == 3
    assert row["predicted"]["active"] == entry["active"]


def test_the_shipped_corpora_agree(attnbench: Callable[..., Any]) -> None:
    made = attnbench("validate", "--json").json
    assert {row["corpus"] for row in made["rows"]} == {
        "attention_timings.csv", "engine_logs.yaml", "models.json", "serving_timings.csv",
    }  # fmt: skip
    summary = made["summary"]
    for key in ("params", "active", "cache_bytes.ideal", "cache_bytes.transformers"):
        assert summary[key]["share"] == 1, key
    assert summary["gpu_blocks"]["share"] == 1
    assert summary["kv_tokens"]["share"] >= 0.948
    assert summary["max_concurrency"]["share"] >= 0.96
    assert summary["weights_gib"]["share"] >= 0.95
    assert summary["kv_cache_gib"]["share"] >= 0.9
    for key in ("gpu_blocks", "kv_tokens", "max_concurrency"):
        assert summary[key]["stated_within"] == summary[key]["stated"] > 0
    for row in made["rows"]:
        if "kv_cache_gib" in row["low"]:
            assert row["high"]["kv_cache_gib"] - row["low"]["kv_cache_gib"] <= 6.001


def test_the_document_is_current(attnbench: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "validation.md"
    assert attnbench("validate", "--format", "markdown", "--output", path).code == 0
    assert path.read_text() == (ROOT / "docs" / "validation.md").read_text(), (
        "run: attnbench validate --format markdown --output docs/validation.md"
    )


@pytest.mark.parametrize(
    ("name", "text", "word"),
    [
        ("logs.yaml", "- id: 1\n  model: x\n  tp: many\n", "tp"),
        ("logs.yaml", "- id: 1\n  model: x\n  tp: 0\n", "tp"),
        ("logs.yaml", "- id: 1\n", "model"),
        ("logs.yaml", "just: words\n", "array"),
        ("logs.yaml", "- [", "YAML"),
        ("logs.yaml", "- {id: 1, model: gpt2, gpu_memory_utilization: lots}", "not a number"),
        ("timings.csv", "id,time_ms\n0,1\n", "engine logs"),
        ("models.json", "{}x", "JSON"),
        ("models.json", '{"a": {"config": 3}}', "corpus of models"),
    ],
)
def test_a_corpus_that_is_none(
    attnbench: Callable[..., Any], tmp_path: Path, name: str, text: str, word: str
) -> None:
    path = tmp_path / name
    path.write_text(text)
    ran = attnbench("validate", "--corpus", path)
    assert (ran.code, ran.out) == (2, "")
    assert word in ran.err


@pytest.mark.parametrize(("layers", "word"), [("{full: 3}", "sizes"), ("{ring: 3}", "ring")])
def test_a_layout_that_is_not_known_is_named(
    attnbench: Callable[..., Any], tmp_path: Path, layers: str, word: str
) -> None:
    path = tmp_path / "logs.yaml"
    path.write_text(f"- {{id: 1, model: gpt2, layers: {layers}, reported: {{kv_cache_gib: 1}}}}")
    (row,) = attnbench("validate", "--corpus", path, "--json").json["rows"]
    assert row["predicted"]["kv_tokens"] is None
    assert any(word in why for why in row["why"])


@pytest.mark.parametrize("name", ["missing", "."])
def test_a_corpus_that_is_not_there(
    attnbench: Callable[..., Any], tmp_path: Path, name: str
) -> None:
    assert attnbench("validate", "--corpus", tmp_path / name).code == 2


def test_a_limit_is_relative_or_the_printed_rounding() -> None:
    limits = {"near": Limit(relative=0.01), "rounded": Limit(), "band": Limit(band=True)}
    predicted: dict[str, float | None] = {"near": 100.5, "rounded": 10.0, "band": 5.0}
    reported: dict[str, float | None] = {"near": 100.0, "rounded": 10.4, "band": 4.0}
    errors, within = compare(
        predicted, reported, limits, {"rounded": 9.5, "band": 4.5}, {"rounded": 10.5, "band": 5.5}
    )
    assert errors == {"near": 0.005, "rounded": pytest.approx(-0.038462), "band": 0.25}
    assert within == {"near": True, "rounded": True, "band": False}
