"""The model profiles: the contract's names, their sources, `models`, `models show|add`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from attnbench.calc.params import count
from attnbench.catalog import load_model, profiles
from attnbench.errors import UserError

CONTRACT = [
    "bookstore-bot", "gpt2", "llama-2-7b", "llama-2-70b", "llama-3-8b", "llama-3-70b",
    "llama-3.1-405b", "mistral-7b", "mixtral-8x7b", "qwen2.5-7b", "qwen3-32b", "gemma-2-9b",
    "deepseek-v3", "gpt-oss-120b",
]  # fmt: skip
# Parameters as the model pages state them, tied embeddings once.
PUBLISHED = {
    "mistral-7b": 7_248_023_552,
    "mistral-7b-v0.1": 7_241_732_096,
    "llama-3.3-70b": 70_553_706_496,
    "qwen3-0.6b": 596_049_920,
    "qwen3-4b": 4_022_468_096,
    "qwen3-8b": 8_190_735_360,
    "qwen3-14b": 14_768_307_200,
    "qwen3-32b": 32_762_123_264,
}


def test_the_contracts_names_are_there_and_sixty_models() -> None:
    assert set(CONTRACT) <= set(profiles.names())
    assert len(profiles.names()) >= 60


@pytest.mark.parametrize("name", profiles.names())
def test_a_profile_has_a_source_and_loads_by_its_own_rule(name: str) -> None:
    spec = load_model(name)
    assert spec.name == name
    assert spec.source.strip()
    assert not any("general rule" in warning for warning in spec.warnings)
    assert spec.num_layers > 0


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_the_published_ones(name: str) -> None:
    assert count(load_model(name)).total == PUBLISHED[name]


def test_the_teaching_example_says_that_it_is_one() -> None:
    spec = load_model("bookstore-bot")
    assert "teaching example" in spec.source
    assert 0.5e9 < count(spec).total < 2e9


def test_a_profile_without_a_source_or_with_unknown_keys_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("source: ''\nconfig: {model_type: llama}\n")
    with pytest.raises(UserError, match="source: is empty"):
        profiles.read(path)
    path.write_text("config: {model_type: llama}\n")
    with pytest.raises(UserError, match="source"):
        profiles.read(path)
    path.write_text("source: here\nconfg: {}\nconfig: {}\n")
    with pytest.raises(UserError, match="confg"):
        profiles.read(path)


def test_models_lists_every_profile(attnbench: Callable[..., Any]) -> None:
    found = attnbench("models", "--json").json
    assert found["schema"] == "attnbench.models/1"
    rows = {row["name"]: row for row in found["models"]}
    assert set(rows) == set(profiles.names())
    llama = rows["llama-3-8b"]
    assert (llama["params"], llama["layers"], llama["kv_heads"]) == (8_030_261_248, 32, [8])
    assert llama["kv_bytes_per_token"] == 131_072


def test_show_prints_a_model_with_its_source(attnbench: Callable[..., Any]) -> None:
    ran = attnbench("models", "show", "deepseek-v3")
    assert ran.code == 0
    assert "huggingface.co/deepseek-ai/DeepSeek-V3" in ran.out
    assert "latent 512 + rope 64" in ran.out
    found = attnbench("models", "show", "deepseek-v3", "--json").json
    assert found["params_by_role"]["routed_expert"] == 653_908_770_816
    assert sum(found["params_by_role"].values()) == found["params"] == 671_026_404_352


def test_add_makes_a_profile_of_ones_own(
    attnbench: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    folder = tmp_path / "tiny"
    folder.mkdir()
    fields = {
        "model_type": "llama", "vocab_size": 1000, "hidden_size": 64, "intermediate_size": 128,
        "num_hidden_layers": 2, "num_attention_heads": 4, "rope_theta": 1e6,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(fields))
    assert attnbench("models", "add", folder).code == 0
    assert load_model("tiny").num_layers == 2
    assert "tiny" in profiles.names()
    assert attnbench("kv-cache", "tiny", "--json").json["total_bytes"] == 2 * 2 * 64 * 2 * 4096
    taken = attnbench("models", "add", folder, "--name", "llama-3-8b")
    assert taken.code == 2
    assert "shipped profile" in taken.err
    assert attnbench("models", "add", folder, "--name", "../evil").code == 2
    (folder / "config.json").write_text("{}")
    assert attnbench("models", "add", folder, "--name", "broken").code == 2
    assert "broken" not in profiles.names()


def test_show_of_an_unknown_name_offers_the_nearest(attnbench: Callable[..., Any]) -> None:
    ran = attnbench("models", "show", "qwen3-23b")
    assert ran.code == 2
    assert "qwen3-32b" in ran.err
