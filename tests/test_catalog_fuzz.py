"""No configuration, however odd, makes anything but a ModelSpec or one clear line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attnbench import profiles
from attnbench.calc.kv_cache import Rules, Semantics, kv_cache_bytes, per_gpu_bytes
from attnbench.calc.params import count
from attnbench.catalog.adapters import from_config
from attnbench.catalog.config_json import parse_json
from attnbench.errors import UserError

T = TypeVar("T")
GOLDEN = Path(__file__).parent / "golden"
CORPORA = Path(next(iter(profiles.__path__))) / "corpora"
CONFIGS: list[dict[str, Any]] = [
    entry["config"]
    for path in (CORPORA / "models.json", GOLDEN / "transformers_models.json")
    for entry in json.loads(path.read_text()).values()
]
KEYS = sorted({key for fields in CONFIGS for key in fields})
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 9),
    st.sampled_from([10**30, -1, 0, 1 << 31, 1 << 40, 3.5, float("inf"), float("nan"), 1e300]),
    st.text(max_size=5),
    st.lists(st.one_of(st.integers(-1, 3), st.text(max_size=3), st.none()), max_size=4),
    st.dictionaries(st.text(max_size=4), st.integers(), max_size=2),
)
FAST = settings(
    max_examples=300, deadline=None, suppress_health_check=list(HealthCheck), database=None
)


def change(fields: dict[str, Any], where: int, odd: Any) -> dict[str, Any]:
    """`fields` with one of its keys (by number, nested ones too) made odd; ... drops it."""
    paths = [(key,) for key in fields]
    paths += [(k, i) for k, v in fields.items() if isinstance(v, dict) for i in v]
    path = paths[where % len(paths)]
    made = {k: dict(v) if isinstance(v, dict) else v for k, v in fields.items()}
    target = made if len(path) == 1 else made[path[0]]
    if odd is ...:
        del target[path[-1]]
    else:
        target[path[-1]] = odd
    return made


def refused(make: Callable[[], T]) -> tuple[T | None, str]:
    """What `make` makes, or the line that refuses it."""
    try:
        return make(), ""
    except UserError as error:
        return None, str(error)


@FAST
@given(st.sampled_from(CONFIGS), st.integers(0, 10**6), st.one_of(st.just(...), ODD))
def test_a_changed_configuration_is_computed_or_refused(
    fields: dict[str, Any], where: int, odd: Any
) -> None:
    made = change(fields, where, odd)
    spec, said = refused(lambda: from_config(made, label="config.json", name="x"))
    if spec is None:
        assert "config.json" in said
        assert "\n" not in said
        return
    counted = count(spec)
    assert 0 <= counted.active <= counted.total
    for semantics in Semantics:
        rules = Rules(semantics=semantics)
        whole = kv_cache_bytes(spec, seq_len=100, batch=2, rules=rules).total
        assert whole == per_gpu_bytes(spec, seq_len=100, batch=2, rules=rules, tp=1, pp=1) >= 0


@FAST
@given(st.dictionaries(st.sampled_from(KEYS), ODD, max_size=12))
def test_made_up_fields_are_computed_or_refused(fields: dict[str, Any]) -> None:
    spec, said = refused(lambda: from_config(fields, label="config.json", name="x"))
    assert (spec is None) == bool(said)
    assert "\n" not in said


@FAST
@given(st.binary(max_size=60))
def test_any_bytes_are_a_mapping_or_refused(raw: bytes) -> None:
    data, said = refused(lambda: parse_json(raw, label="config.json"))
    assert isinstance(data, dict) or said
    assert "\n" not in said
