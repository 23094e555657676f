"""A sweep's configuration, and the points and groups that it makes."""

from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Literal

import msgspec

from attnbench.calc.operands import held_bytes
from attnbench.catalog.yaml_file import read_yaml
from attnbench.errors import NothingToDoError, UserError, unknown_name
from attnbench.spec.attention import AttentionShape, Mode
from attnbench.spec.dtype import Dtype, parse_dtype
from attnbench.units import parse_lengths
from attnbench.variants import load_variant
from attnbench.variants._protocol import Backend, Params, Variant
from attnbench.variants._settings import settings_by_variant
from attnbench.variants._support import DTYPES
from attnbench.variants._user import BACKEND, UserVariant

Causal = Literal["yes", "no", "auto"]
Setting = int | float | bool | str


class Grid(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every combination of these fields. Sizes are written as on the command line.

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
    batches: str | int
    heads: str | int
    head_dims: str | int
    dtypes: list[str]
    causal: Causal
    backends: list[str] | None = None
    kv_heads: str | int | None = None
    params: dict[str, dict[str, Setting | list[Setting]]] = {}


class Timing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How points are timed.

    At least `rounds` rounds, at most `max_rounds`; a point stops between them when
    its 95% interval is within `target_ci` of its median each way, or when it has
    been timed for `point_s`. A round takes about `round_ms` of samples, one at
    least. `cache` cold: the last-level cache is flushed before each sample.
    """

    rounds: int
    max_rounds: int
    round_ms: float
    warmup_ms: float
    point_s: float
    target_ci: float
    cache: Literal["warm", "cold"]
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


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One variant and backend at one shape and mode, its settings resolved.

    `user` is where the variant comes from if it is a user's own.
    """

    variant: str
    backend: str
    mode: Mode
    shape: AttentionShape
    params: Params
    user: UserVariant | None = None

    @property
    def key(self) -> tuple[str | int | bool, ...]:
        """The identifying fields, in the order of `ResultRow.key`."""
        s = self.shape
        return (
            self.variant, self.backend, self.mode.value, s.dtype.value, s.batch, s.heads,
            s.kv_heads, s.seq_q, s.seq_kv, s.head_dim, s.causal, params_text(self.params),
        )  # fmt: skip

    @property
    def label(self) -> str:
        """How the point is named to people: its variant, backend and shape."""
        return f"{self.variant}/{self.backend} {self.mode} {self.shape.label}"

    def implementation(self) -> tuple[Variant, Backend]:
        """The variant and the backend that the point names."""
        variant = self.user.variant() if self.user else load_variant(self.variant)
        return variant, next(b for b in variant.backends if b.name == self.backend)


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """All points of one mode and shape: the unit that is timed interleaved."""

    mode: Mode
    shape: AttentionShape
    points: tuple[Point, ...]

    @property
    def label(self) -> str:
        """How the group is named to people."""
        return f"{self.mode} {self.shape.label}"


def params_text(params: Params) -> str:
    """A variant's settings as the compact JSON of column `params`."""
    return msgspec.json.encode(dict(params), order="sorted").decode()


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


def make_groups(preset: Preset, users: Sequence[UserVariant] = ()) -> tuple[Group, ...]:
    """The groups of `preset`, with `users` in each, smallest problem first, no point twice.

    Raises:
        UserError: an unknown variant, backend, mode or dtype, or an impossible shape.
        NothingToDoError: the grids make no point.
    """
    points: dict[tuple[str | int | bool, ...], Point] = {}
    for grid in preset.grids:
        for point in _points(grid, users):
            points.setdefault(point.key, point)
    if not points:
        raise NothingToDoError("no variant asked for has a mode asked for; nothing to time")
    grouped: dict[tuple[Mode, AttentionShape], list[Point]] = {}
    for point in points.values():
        grouped.setdefault((point.mode, point.shape), []).append(point)
    groups = [Group(mode=m, shape=s, points=tuple(p)) for (m, s), p in grouped.items()]
    return tuple(sorted(groups, key=lambda g: g.shape.seq_q * g.shape.seq_kv * g.shape.batch))


def _points(grid: Grid, users: Sequence[UserVariant]) -> Iterator[Point]:
    variants = [load_variant(name) for name in grid.variants]
    modes = [_mode(name) for name in grid.modes]
    _check_backends(grid, variants)
    own = {user.name: user for user in users}
    variants += [user.variant() for user in users]
    settings = settings_by_variant(grid.params, variants)
    uncausal = [v for v in variants if True not in v.causal_forms and grid.causal == "auto"]
    for mode, shape in product(modes, list(_shapes(grid))):
        for variant in variants:
            if mode not in variant.modes:
                continue
            wanted = {grid.causal != "no"}
            if variant in uncausal:
                wanted = {False}
            elif uncausal and variant.exact and mode is not Mode.DECODE:
                wanted.add(False)
            for causal in sorted(wanted, reverse=True):
                for_mode = msgspec.structs.replace(
                    shape, causal=causal, seq_q=1 if mode is Mode.DECODE else shape.seq_q
                )
                chosen = None if grid.backends is None else {*grid.backends, BACKEND}
                backends = (b for b in variant.backends if chosen is None or b.name in chosen)
                for given, backend in product(settings[variant.name], backends):
                    yield Point(
                        variant=variant.name, backend=backend.name, mode=mode,
                        shape=for_mode, params=variant.resolve(for_mode, given),
                        user=own.get(variant.name),
                    )  # fmt: skip


def _shapes(grid: Grid) -> Iterator[AttentionShape]:
    heads_list = parse_lengths(str(grid.heads), what="heads")
    for dtype, batch, heads, head_dim, length in product(
        [_dtype(name) for name in grid.dtypes],
        parse_lengths(str(grid.batches), what="batches"),
        heads_list,
        parse_lengths(str(grid.head_dims), what="head_dims"),
        parse_lengths(str(grid.seq_lens), what="seq_lens"),
    ):
        kv_list = parse_lengths(str(grid.kv_heads or heads), what="kv_heads")
        for kv_heads in kv_list:
            yield AttentionShape(
                batch=batch, heads=heads, kv_heads=kv_heads, seq_q=length, seq_kv=length,
                head_dim=head_dim, causal=grid.causal != "no", dtype=dtype,
            )  # fmt: skip


def _dtype(name: str) -> Dtype:
    dtype = parse_dtype(name)
    if dtype not in DTYPES:
        raise UserError(f"dtype: attention is timed in {', '.join(DTYPES)}, not in {dtype}")
    return dtype


def _mode(name: str) -> Mode:
    try:
        return Mode(name)
    except ValueError:
        raise unknown_name("mode", name, list(Mode)) from None


def _check_backends(grid: Grid, variants: list[Variant]) -> None:
    there_are = {backend.name for variant in variants for backend in variant.backends}
    for name in grid.backends or ():
        if name not in there_are | {"eager", "sdpa", "flex", "triton"}:
            raise unknown_name("backend", name, there_are)


def predicted_bytes(point: Point) -> int:
    """The most memory that `point` is predicted to hold: operands, results, workspace."""
    _, backend = point.implementation()
    workspace = backend.workspace_bytes(point.shape, point.mode, point.params)
    return held_bytes(point.shape, point.mode) + workspace


def override(
    preset: Preset, changes: dict[str, object], *, time_limit_s: float | None = None
) -> Preset:
    """`preset` with `changes` made to the fields of each of its grids.

    Raises:
        UserError: a time limit that is not positive.
    """
    if time_limit_s is not None and not time_limit_s > 0:
        raise UserError(f"--time-limit: {time_limit_s:g} is not over 0 seconds")
    grids = [msgspec.structs.replace(grid, **changes) for grid in preset.grids]
    limit = preset.time_limit_s if time_limit_s is None else time_limit_s
    return msgspec.structs.replace(preset, grids=grids, time_limit_s=limit)
