"""The catalog against published models: corpora/models.json, golden/transformers_models.json.

The first holds 104 published configurations with parameters counted and cache bytes
measured on the real transformers 5.23 models at full size; the second the classes'
own default configurations, one a model type, and some with their flags turned,
measured the same way. golden/published_models.json are configurations with the
parameter counts that the models' pages state.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from attnbench import profiles
from attnbench.calc.kv_cache import Rules, Semantics, kv_cache_bytes
from attnbench.calc.params import count
from attnbench.catalog.adapters import from_config
from attnbench.spec.model import ModelSpec

GOLDEN = Path(__file__).parent / "golden"
CORPORA = Path(next(iter(profiles.__path__))) / "corpora"
CORPUS: dict[str, Any] = json.loads((CORPORA / "models.json").read_text())
CLASSES: dict[str, Any] = json.loads((GOLDEN / "transformers_models.json").read_text())
PUBLISHED: dict[str, Any] = json.loads((GOLDEN / "published_models.json").read_text())
IDEAL, TRANSFORMERS = Rules(), Rules(semantics=Semantics.TRANSFORMERS)


def spec_of(name: str, golden: dict[str, Any]) -> ModelSpec:
    return from_config(golden["config"], label=f"{name}.json", name=name)


def held(spec: ModelSpec, case: dict[str, int], rules: Rules) -> int:
    return kv_cache_bytes(spec, seq_len=case["seq_len"], batch=case["batch"], rules=rules).total


@pytest.mark.parametrize("name", CORPUS)
def test_parameters_of_a_published_model(name: str) -> None:
    expected = CORPUS[name]
    counted = count(spec_of(name, expected))
    assert counted.total == expected["total"]
    assert counted.active == expected["active"]
    assert counted.embedding == expected["embedding"]
    assert counted.routed_experts == expected["routed"]
    assert counted.text == expected["text"]


@pytest.mark.parametrize("name", CORPUS)
def test_cache_of_a_published_model(name: str) -> None:
    spec = spec_of(name, CORPUS[name])
    for case in CORPUS[name]["cases"]:
        assert held(spec, case, IDEAL) == case["reference"]
        assert held(spec, case, IDEAL) in case["acceptable"]
        assert held(spec, case, TRANSFORMERS) == case["transformers"]


@pytest.mark.parametrize("name", [name for name in CORPUS if "edges" in CORPUS[name]])
def test_cache_at_the_edge_of_a_window(name: str) -> None:
    spec = spec_of(name, CORPUS[name])
    for case in CORPUS[name]["edges"]:
        assert held(spec, case, TRANSFORMERS) == case["transformers"]


@pytest.mark.parametrize("name", CORPUS)
def test_a_published_model_needs_no_general_rule(name: str) -> None:
    assert spec_of(name, CORPUS[name]).warnings == ()


@pytest.mark.parametrize("name", CLASSES)
def test_parameters_and_cache_of_a_transformers_class(name: str) -> None:
    spec = spec_of(name, CLASSES[name])
    assert count(spec).total == CLASSES[name]["total"]
    for batch, seq_len, expected in CLASSES[name]["cases"]:
        assert held(spec, {"batch": batch, "seq_len": seq_len}, TRANSFORMERS) == expected


@pytest.mark.parametrize("name", CORPUS)
def test_layers_are_numbered_once_each(name: str) -> None:
    spec = spec_of(name, CORPUS[name])
    numbers = sorted(i for layer in spec.layers for i in layer.indices)
    assert numbers == list(range(spec.num_layers))


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_those_on_the_models_page(name: str) -> None:
    assert count(spec_of(name, PUBLISHED[name])).total == PUBLISHED[name]["total"]
