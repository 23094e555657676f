"""The Python API: typed, lazy, doctested."""

import doctest
import importlib
import inspect
import json
import pkgutil
import subprocess
import sys

import msgspec
import pytest

import attnbench
from attnbench import api, calc, engines
from attnbench.calc.kv_cache import Semantics
from attnbench.errors import UserError
from attnbench.spec.dtype import Dtype

DOCTESTED = [
    "attnbench.api", "attnbench.api_plan", "attnbench.catalog", "attnbench.catalog.hardware",
    "attnbench.errors", "attnbench.units", "attnbench.spec.dtype",
    *(f"attnbench.calc.{module.name}" for module in pkgutil.iter_modules(calc.__path__)),
    *(f"attnbench.engines.{module.name}" for module in pkgutil.iter_modules(engines.__path__)),
]  # fmt: skip


@pytest.mark.parametrize("name", DOCTESTED)
def test_the_examples_in_docstrings(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize("name", ["kv_cache", "memory", "model"])
def test_the_public_functions_are_documented_and_typed(name: str) -> None:
    function = getattr(attnbench, name)
    assert function is getattr(api, name)
    assert ">>>" in function.__doc__
    assert "UserError" in function.__doc__
    signature = inspect.signature(function)
    assert all(p.annotation is not inspect.Parameter.empty for p in signature.parameters.values())
    assert signature.return_annotation is not inspect.Signature.empty


def test_importing_attnbench_loads_nothing() -> None:
    code = (
        "import sys; before = set(sys.modules); import attnbench\n"
        "print(sorted(m for m in set(sys.modules) - before if m.startswith(('attnbench.', 'msg'))))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


@pytest.mark.parametrize("call", ["memory('llama-3-8b', gpu='l4')", "kv_cache('gpt2')"])
def test_calculators_load_no_heavy_package(call: str) -> None:
    heavy = {"torch", "triton", "numpy", "pandas", "scipy", "huggingface_hub", "typer", "rich"}
    code = (
        f"import sys; from attnbench import *; {call}; print(sorted({heavy!r} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonesuch'"):
        attnbench.nonesuch  # type: ignore[attr-defined]  # noqa: B018


def test_names_and_types_are_taken_alike() -> None:
    spec = attnbench.model("llama-3-8b")
    assert attnbench.memory(spec).memory == attnbench.memory("llama-3-8b").memory
    by_name = attnbench.kv_cache(spec, kv_dtype="fp8", semantics="transformers")
    by_type = attnbench.kv_cache(spec, kv_dtype=Dtype.FP8_E4M3, semantics=Semantics.TRANSFORMERS)
    assert by_name == by_type


def test_answers_are_frozen() -> None:
    found = attnbench.memory("gpt2")
    with pytest.raises(AttributeError):
        found.fits = True  # type: ignore[misc]
    assert msgspec.to_builtins(found.memory.whole)["weights_bytes"] == 2 * 124_439_808


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seq_len": 0}, "--seq-len: 0"),
        ({"batch": -1}, "--batch: -1"),
        ({"tp": 10**16}, "--tp"),
        ({"mode": "serving"}, "--mode"),
        ({"optimizer": "adam", "mode": "training"}, "--optimizer"),
        ({"recompute": "some", "mode": "training"}, "--recompute"),
        ({"zero": 7, "mode": "training"}, "--zero: 7"),
        ({"overhead_bytes": -1}, "--overhead"),
        ({"utilization": 0}, "--utilization"),
        ({"zero": 1}, "--zero is for --mode training"),
    ],
)
def test_what_makes_no_sense_is_a_user_error(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        attnbench.memory("gpt2", **arguments)  # type: ignore[arg-type]


def test_a_wrong_semantics_offers_the_nearest() -> None:
    with pytest.raises(UserError) as caught:
        attnbench.kv_cache("gpt2", semantics="transformer")
    assert caught.value.hint == "Did you mean transformers?"


def test_plan_answers_as_the_command_does(capsys: pytest.CaptureFixture[str]) -> None:
    from attnbench import plan
    from attnbench.cli import run

    words = ["plan", "llama-3-8b", "--gpus", "h100-sxm,l40s", "--users", "16", "--json"]
    assert run([*words, "--price", "l40s=0.5"]) == 0
    told = json.loads(capsys.readouterr().out)["recommended"]
    made = plan("llama-3-8b", gpus=["h100-sxm", "l40s"], users=16, prices={"l40s": 0.5})
    best = made.recommended
    assert (best.gpu, best.gpus, best.tp, best.batch) == (
        told["gpu"], told["gpus"], told["tp"], told["batch"],
    )  # fmt: skip
    assert best.itl_s == pytest.approx(told["itl_s"], rel=1e-12)
    with pytest.raises(UserError, match="engine"):
        plan("llama-3-8b", engine="vlm")
