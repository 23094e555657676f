"""What a sweep is asked to do: grids of shapes, how they are timed; presets of them."""

from pathlib import Path
from typing import Literal

import msgspec

from attnbench.catalog.yaml_file import read_yaml
from attnbench.errors import UserError, unknown_name
from attnbench.variants import load_variant
from attnbench.variants._settings import ALL, known_settings

Causal = Literal["yes", "no", "auto"]
Setting = int | float | bool | str


class Grid(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every combination of these fields. Sizes are written as on the command line.

    Instead of `batches`, `total_tokens`: as many sequences as make so many tokens.
    Instead of `heads` and `head_dims`, `models`: the attention of these profiles.
    `backends` none: all that a variant has. `kv_heads` none: as many as heads.
    `causal` auto: causal, and a variant with no causal form without, beside the
    exact variants timed the same way. In mode decode `seq_lens` is the cache's
    length, and there is one query. `params` are settings of variants, by variant: a
    value, or a list of which each is timed; `all` stands for every variant of the grid
    that has the setting.
    """

    variants: list[str]
    modes: list[str]
    seq_lens: str | int
    dtypes: list[str]
    causal: Causal
    batches: str | int | None = None
    total_tokens: str | int | None = None
    heads: str | int | None = None
    head_dims: str | int | None = None
    models: list[str] | None = None
    backends: list[str] | None = None
    kv_heads: str | int | None = None
    params: dict[str, dict[str, Setting | list[Setting]]] = {}

    def __post_init__(self) -> None:
        if (self.batches is None) == (self.total_tokens is None):
            raise ValueError("batches: give them, or total_tokens instead")
        by_hand = [x is not None for x in (self.heads, self.head_dims)]
        if any(by_hand) != all(by_hand) or any(by_hand) == (self.models is not None):
            raise ValueError("heads: give them with head_dims, or models instead")


class Timing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How points are timed.

    At least `rounds` rounds, at most `max_rounds`; a point stops between them when
    its 95% interval is within `target_ci` of its median each way, or when it has
    been timed for `point_s`. A round takes about `round_ms` of samples, one at
    least. `cache` cold: the last-level cache is flushed before each sample. `timer`
    auto: device events on a GPU, the host's clock on a CPU; a CUDA graph takes copies of
    the inputs in turn for a cold cache.
    """

    rounds: int
    max_rounds: int
    round_ms: float
    warmup_ms: float
    point_s: float
    target_ci: float
    cache: Literal["warm", "cold"]
    timer: Literal["auto", "device_events", "cuda_graph", "host_clock"] = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        if not 2 <= self.rounds <= self.max_rounds:
            raise ValueError("rounds: at least 2, and at most max_rounds")
        for name in ("round_ms", "warmup_ms", "point_s", "target_ci"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: not over 0")


class Preset(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A sweep as a file under profiles/sweeps/ states it."""

    summary: str
    grids: list[Grid]
    timing: Timing
    time_limit_s: float


def preset_names() -> tuple[str, ...]:
    """Names of the presets there are; a device's own form is not named apart."""
    return tuple(sorted({path.stem.partition(".")[0] for path in _folder().glob("*.yaml")}))


def load_preset(name: str, device_type: str) -> Preset:
    """The preset called `name`, in its form for `device_type` where it has one.

    Raises:
        UserError: there is none of that name.
    """
    for stem in (f"{name}.{device_type}", name):
        path = _folder() / f"{stem}.yaml"
        if path.is_file():
            return read_yaml(path, Preset, label=f"profiles/sweeps/{path.name}")
    raise unknown_name("preset", name, preset_names())


def _folder() -> Path:
    from attnbench.profiles import sweeps

    return Path(sweeps.__path__[0])


def override(
    preset: Preset, changes: dict[str, object], *, time_limit_s: float | None = None
) -> Preset:
    """`preset` with `changes` made to the fields of each of its grids.

    What a change takes the place of goes: batches of total_tokens, heads of models. Of
    `params` a grid is given what its variants take, and what no grid's variants do.

    Raises:
        UserError: a time limit that is not positive, or fields that do not go together.
    """
    if time_limit_s is not None and not time_limit_s > 0:
        raise UserError(f"--time-limit: {time_limit_s:g} is not over 0 seconds")
    if "batches" in changes:
        changes = {**changes, "total_tokens": None}
    if changes.keys() & {"heads", "head_dims"}:
        changes = {**changes, "models": None}
    try:
        grids = [msgspec.structs.replace(grid, **changes) for grid in preset.grids]
    except ValueError as error:
        raise UserError(f"the preset's {error}") from None
    if "params" in changes:
        grids = [msgspec.structs.replace(grid, params=_own(grid, grids)) for grid in grids]
    limit = preset.time_limit_s if time_limit_s is None else time_limit_s
    return msgspec.structs.replace(preset, grids=grids, time_limit_s=limit)


def _own(grid: Grid, grids: list[Grid]) -> dict[str, dict[str, Setting | list[Setting]]]:
    """Of the params that all `grids` were given, those of `grid`."""
    kept: dict[str, dict[str, Setting | list[Setting]]] = {}
    for target, settings in grid.params.items():
        for name, value in settings.items():
            takers = [g for g in grids if _takes(g, target, name)]
            if not takers or grid in takers:
                kept.setdefault(target, {})[name] = value
    return kept


def _takes(grid: Grid, target: str, setting: str) -> bool:
    if target != ALL:
        return target in grid.variants
    return any(setting in known_settings(load_variant(name)) for name in grid.variants)
