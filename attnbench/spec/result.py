"""The one definition of a result row: CSV header, JSON keys and documentation.

A field's metadata holds its `doc`. A point's key is the first twelve fields less
`device`. Figures are None, written empty (CSV) or null (JSON), where the point
did not end `ok`.
"""

import dataclasses
import enum
from typing import Any

from attnbench.spec.attention import AttentionShape
from attnbench.spec.dtype import Dtype


class Status(enum.StrEnum):
    """How a point ended."""

    OK = "ok"
    OOM = "oom"
    UNSUPPORTED = "unsupported"
    TIMEOUT = "timeout"
    ERROR = "error"
    INCORRECT = "incorrect"
    IMPOSSIBLE = "impossible"
    INTERPRETED = "interpreted"
    SKIPPED = "skipped"


def _column(doc: str, default: Any = dataclasses.MISSING) -> Any:
    if default is dataclasses.MISSING:
        return dataclasses.field(metadata={"doc": doc})
    return dataclasses.field(default=default, metadata={"doc": doc})


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResultRow:
    """One point of a sweep: what was run, how it ended, and what was measured."""

    variant: str = _column("attention variant, as `attnbench variants` lists it")
    backend: str = _column("implementation that ran it: eager, sdpa.<torch's>, flex, triton")
    mode: str = _column("fwd, bwd, fwd_bwd or decode")
    device: str = _column("device name as the driver gives it, or the CPU's model name")
    dtype: str = _column("dtype of query, key and value")
    batch: int = _column("sequences")
    heads: int = _column("query heads")
    kv_heads: int = _column("key and value heads")
    seq_q: int = _column("query tokens")
    seq_kv: int = _column("key tokens")
    head_dim: int = _column("width of a head")
    causal: bool = _column("bottom-right aligned causal mask")
    params: str = _column("the variant's own settings, compact JSON")
    status: str = _column(
        "ok, oom, unsupported, timeout, error, incorrect, impossible, interpreted or skipped"
    )
    time_ms: float | None = _column("median over rounds of the rounds' medians, ms", None)
    time_ms_p20: float | None = _column("20th percentile of all samples, ms", None)
    time_ms_p80: float | None = _column("80th percentile of all samples, ms", None)
    time_ms_ci_low: float | None = _column("lower end of the median's 95% interval, ms", None)
    time_ms_ci_high: float | None = _column("upper end of the median's 95% interval, ms", None)
    rounds: int | None = _column("rounds timed", None)
    samples: int | None = _column("samples kept, all rounds", None)
    timer: str | None = _column("timer that ran: host_clock, device_events", None)
    cache_regime: str | None = _column(
        "cold: nothing of it is in the last-level cache; warm; streaming: over twice the cache",
        None,
    )
    setup_ms: float | None = _column("masks, block lists, features, compilation, ms", None)
    first_call_ms: float | None = _column("the first call, ms", None)
    pairs: int | None = _column("batch * heads * query-key pairs attended, exact", None)
    density: float | None = _column("pairs / (batch * heads * seq_q * seq_kv)", None)
    flops: int | None = _column("floating-point operations that the mathematics needs", None)
    achieved_flops_per_s: float | None = _column("flops / time", None)
    bytes_min: int | None = _column("bytes of each operand read once and output written once", None)
    achieved_bytes_per_s: float | None = _column("bytes_min / time", None)
    peak_memory_bytes: int | None = _column("high-water mark: inputs, output and workspace", None)
    workspace_bytes: int | None = _column("peak less inputs and outputs", None)
    rel_error: float | None = _column("norm of error over norm, against exact float64", None)
    kernel_error: float | None = _column("the same, against the variant's own float64", None)
    grad_error: float | None = _column("the same, of the gradients against float64 autograd", None)
    speedup_vs_naive: float | None = _column("naive's time over this, same run and shape", None)
    roofline_ms: float | None = _column("time that the calibrated roofline predicts, ms", None)
    roofline_fraction: float | None = _column("roofline_ms / time_ms", None)
    recipe: str | None = _column("digest of the code and settings timed", None)
    note: str = _column("the reason where status is not ok; else remarks", "")

    @property
    def key(self) -> tuple[str | int | bool, ...]:
        """What makes the point itself: every identifying field but the device."""
        return tuple(getattr(self, name) for name in KEY_COLUMNS)

    @property
    def shape(self) -> AttentionShape:
        """The attention problem that was run."""
        return AttentionShape(
            batch=self.batch, heads=self.heads, kv_heads=self.kv_heads, seq_q=self.seq_q,
            seq_kv=self.seq_kv, head_dim=self.head_dim, causal=self.causal,
            dtype=Dtype(self.dtype),
        )  # fmt: skip

    @property
    def label(self) -> str:
        """How the point is named to people: 'naive/eager fwd fp32 B1 H8/2 N4096 D64 causal'.

        Two points that differ in their settings alone have the same label.
        """
        return f"{self.variant}/{self.backend} {self.mode} {self.shape.label}"


COLUMNS: tuple[str, ...] = tuple(f.name for f in dataclasses.fields(ResultRow))
COLUMN_DOCS: dict[str, str] = {f.name: f.metadata["doc"] for f in dataclasses.fields(ResultRow)}
KEY_COLUMNS: tuple[str, ...] = tuple(
    name for name in COLUMNS[: COLUMNS.index("status")] if name != "device"
)
