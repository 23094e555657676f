"""The points and groups that a preset makes."""

from collections.abc import Iterator, Sequence
from itertools import product

import msgspec

from attnbench.calc.operands import held_bytes
from attnbench.catalog import load_model
from attnbench.errors import NothingToDoError, UserError, unknown_name
from attnbench.measure.preset import Grid, Preset
from attnbench.spec.attention import AttentionShape, Mode
from attnbench.spec.dtype import Dtype, parse_dtype
from attnbench.spec.model import attention_shape
from attnbench.units import parse_length, parse_lengths
from attnbench.variants import load_variant
from attnbench.variants._protocol import Backend, Params, Variant
from attnbench.variants._settings import settings_by_variant
from attnbench.variants._support import DTYPES
from attnbench.variants._user import BACKEND, UserVariant


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
    for dtype, (heads, kv_heads, head_dim), length in product(
        [_dtype(name) for name in grid.dtypes],
        list(_head_counts(grid)),
        parse_lengths(str(grid.seq_lens), what="seq_lens"),
    ):
        for batch in _batches(grid, length):
            yield AttentionShape(
                batch=batch, heads=heads, kv_heads=kv_heads, seq_q=length, seq_kv=length,
                head_dim=head_dim, causal=grid.causal != "no", dtype=dtype,
            )  # fmt: skip


def _head_counts(grid: Grid) -> Iterator[tuple[int, int, int]]:
    """Query heads, KV heads and head_dim, every combination or every model's."""
    if grid.models is not None:
        for name in grid.models:
            attention = attention_shape(load_model(name))
            yield attention.heads, attention.kv_heads, attention.key_dim
        return
    for heads, head_dim in product(
        parse_lengths(str(grid.heads), what="heads"),
        parse_lengths(str(grid.head_dims), what="head_dims"),
    ):
        for kv_heads in parse_lengths(str(grid.kv_heads or heads), what="kv_heads"):
            yield heads, kv_heads, head_dim


def _batches(grid: Grid, length: int) -> tuple[int, ...]:
    if grid.batches is not None:
        return parse_lengths(str(grid.batches), what="batches")
    tokens = parse_length(str(grid.total_tokens), what="total_tokens")
    if tokens < length:
        raise UserError(f"total_tokens: {tokens:,} are fewer than a sequence of {length:,}")
    return (tokens // length,)


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
