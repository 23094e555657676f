"""Start-up logs as rows: a YAML file in the form of `engine_logs.yaml`."""

from pathlib import Path
from typing import Any

import msgspec

from attnbench.catalog.yaml_file import read_yaml
from attnbench.errors import UserError
from attnbench.spec.dtype import Dtype
from attnbench.spec.model import Full, Latent, Mixer, Recurrent, Sliding, State, StateKind

Word = str | float | int | bool | None


class RowLayers(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Counts of layers by kind and their sizes.

    kv: KV heads, hd: head_dim, win: window; gkv, ghd: those of full layers where they
    differ; lat: latent and rope width, idx: an indexer's bytes a token; lk, lv: key and
    value heads of a gated delta net, dk, dv their widths, conv its kernel, ssm the bytes
    of an element of its state.
    """

    full: int = 0
    swa: int = 0
    mla: int = 0
    gdn: int = 0
    kv: int = 0
    hd: int = 0
    win: int = 0
    gkv: int = 0
    ghd: int = 0
    lat: int = 0
    idx: int = 0
    lk: int = 0
    lv: int = 0
    dk: int = 0
    dv: int = 0
    conv: int = 0
    ssm: int = 0


class Reported(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine printed, GiB (2^30) a GPU; None where the log does not say."""

    weights_gib: float | None = None
    kv_cache_gib: float | None = None
    kv_cache_gib_all_ranks: tuple[float, ...] = ()
    gpu_blocks: int | None = None
    block_size: int | None = None
    kv_tokens: int | None = None
    max_concurrency: float | None = None
    concurrency_for_tokens: int | None = None
    activation_peak_gib: float | None = None
    non_torch_gib: float | None = None
    cudagraph_gib: float | None = None


class LogRow(msgspec.Struct, frozen=True, kw_only=True):
    """One start of an engine: what it was given, and what it printed."""

    id: str | int
    model: str
    engine: str = "vllm"
    engine_version: Word = None
    source_url: str = ""
    gpu: str | None = None
    gpu_total_gib: float | None = None
    n_gpus: int | None = None
    tp: int = 1
    pp: int = 1
    dcp: int = 1
    weight_dtype: str | None = None
    kv_dtype: str | None = None
    gpu_memory_utilization: Word = None
    gpu_memory_utilization_default: Word = None
    max_model_len: int | None = None
    max_num_batched_tokens: int | None = None
    max_num_seqs: int | None = None
    num_speculative_tokens: int | None = None
    speculative: Word = None
    enforce_eager: Word = None
    layers: dict[str, Any] | None = None
    layers_from: str = ""
    note: str = ""
    reported: Reported = Reported()

    @property
    def layout(self) -> RowLayers | None:
        """The model's layout, where the row has it.

        Raises:
            UserError: a kind of layer or a size that is not known.
        """
        if self.layers is None:
            return None
        try:
            return msgspec.convert(self.layers, RowLayers)
        except msgspec.ValidationError as error:
            raise UserError(f"layers: {error}") from None

    @property
    def utilization(self) -> float | None:
        """The share of memory asked for; the stated default where no flag was given."""
        for value in (self.gpu_memory_utilization, self.gpu_memory_utilization_default):
            if value is not None and not isinstance(value, bool):
                return number(value, f"{self.id}: gpu_memory_utilization")
        return None

    @property
    def flags_stated(self) -> bool:
        """Whether what the log said of the start is in the row: a log cut short says `null`."""
        return self.weight_dtype != "null" or self.gpu_memory_utilization is not None

    @property
    def eager(self) -> bool:
        """Whether CUDA graphs were off."""
        return str(self.enforce_eager).lower() == "true"

    @property
    def drafts(self) -> bool:
        """Whether a module that drafts tokens was loaded beside the model."""
        return str(self.speculative).lower() == "true" or bool(self.num_speculative_tokens)


def number(value: Word, what: str) -> float:
    """`value` as a number; some logs quote theirs.

    Raises:
        UserError: it is none.
    """
    try:
        found = float(value) if value is not None else float("nan")
    except ValueError:
        found = float("nan")
    if not abs(found) < float("inf"):
        raise UserError(f"{what}: {value!r} is not a number")
    return found


def read_rows(path: Path) -> tuple[LogRow, ...]:
    """The rows of the file at `path`.

    Raises:
        UserError: it is missing, not YAML, or not in that form.
    """
    rows = read_yaml(path, tuple[LogRow, ...])
    for row in rows:
        sizes: dict[str, Any] = {"tp": row.tp, "pp": row.pp, "dcp": row.dcp}
        for key, size in sizes.items():
            if not 1 <= size <= 1 << 16:
                raise UserError(f"{path}: row {row.id}: {key}: {size} is not a number of ranks")
    return rows


def placed_layers(rows: RowLayers) -> tuple[tuple[Mixer, tuple[int, ...]], ...]:
    """The mixers of a row's layout, each with the layers that have it, spread evenly.

    The order of layers is not in the row; it matters to pipeline stages alone.

    Raises:
        UserError: a count without the sizes it needs.
    """
    found: list[tuple[Mixer, int]] = []
    if rows.full:
        heads, dim = rows.gkv or rows.kv, rows.ghd or rows.hd
        found.append((Full(heads=heads, kv_heads=heads, key_dim=dim, value_dim=dim), rows.full))
    if rows.swa:
        found.append(
            (
                Sliding(
                    heads=rows.kv,
                    kv_heads=rows.kv,
                    key_dim=rows.hd,
                    value_dim=rows.hd,
                    window=rows.win,
                ),
                rows.swa,
            )
        )
    if rows.mla:
        # The two widths are cached side by side: only their sum matters here.
        index = rows.idx * 128 // 132
        found.append(
            (
                Latent(
                    heads=1,
                    kv_rank=rows.lat,
                    rope_dim=0,
                    nope_dim=0,
                    value_dim=0,
                    index_dim=index,
                ),
                rows.mla,
            )
        )
    if rows.gdn:
        found.append((_delta(rows), rows.gdn))
    for mixer, _ in found:
        sizes = [getattr(mixer, key, 1) for key in ("kv_heads", "key_dim", "window", "kv_rank")]
        if min(sizes) < 1:
            raise UserError(f"layers: {type(mixer).__name__.lower()} layers without their sizes")
    return _spread(found)


def _delta(rows: RowLayers) -> Recurrent:
    channels = 2 * rows.lk * rows.dk + rows.lv * rows.dv
    states = (
        State(name="conv", shape=(channels, rows.conv), kind=StateKind.CONV, kernel=rows.conv or 1),
        State(name="delta", shape=(rows.lv, rows.dk, rows.dv), fp32=rows.ssm == 4),
    )
    return Recurrent(name="gated_delta_net", states=states, heads=rows.lv)


def state_dtype(rows: RowLayers) -> Dtype:
    """The dtype of recurrent states in a row's layout."""
    return Dtype.FP32 if rows.ssm == 4 else Dtype.BF16


def _spread(found: list[tuple[Mixer, int]]) -> tuple[tuple[Mixer, tuple[int, ...]], ...]:
    total = sum(count for _, count in found)
    slots = sorted(
        ((place + 0.5) * total / count, which)
        for which, (_, count) in enumerate(found)
        for place in range(count)
    )
    order = [which for _, which in slots]
    return tuple(
        (mixer, tuple(i for i, at in enumerate(order) if at == which))
        for which, (mixer, _) in enumerate(found)
    )
