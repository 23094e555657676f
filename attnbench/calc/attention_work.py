"""One run of an attention kernel as its time depends on it, and the device's figures."""

import msgspec

from attnbench.calc.patterns import Full, Pattern
from attnbench.spec.attention import AttentionShape, Mode
from attnbench.spec.dtype import Dtype
from attnbench.spec.hardware import HardwareSpec


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """Queries [batch, heads, seq_q, head_dim] against a cache of seq_kv tokens.

    `value_dim` is the width of V and the result. `seen`, `read`: query-key pairs of one
    head and keys of one KV head that a sparse pattern attends; None for all. `latent`:
    V is a part of K (MLA's cache), and is not read a second time. `cached`: keys and values
    are kept, so an engine copies them into its cache.
    """

    batch: int
    heads: int
    kv_heads: int
    seq_q: int
    seq_kv: int
    head_dim: int
    value_dim: int
    causal: bool = True
    dtype: Dtype = Dtype.BF16
    kv_dtype: Dtype = Dtype.BF16
    seen: int | None = None
    read: int | None = None
    latent: bool = False
    cached: bool = True
    mode: Mode = Mode.FWD

    @property
    def query_bytes(self) -> int:
        """Bytes of queries read and results written."""
        rows = self.batch * self.heads * self.seq_q
        return self.dtype.bytes_of(rows * (self.head_dim + self.value_dim))

    @property
    def cache_bytes(self) -> int:
        """Bytes of keys and values read."""
        keys = self.seq_kv if self.read is None else self.read
        width = self.head_dim + (0 if self.latent else self.value_dim)
        return self.kv_dtype.bytes_of(self.batch * self.kv_heads * keys * width)

    @property
    def pairs(self) -> int:
        """Query-key pairs attended, over batch and heads."""
        each = self.seen
        if each is None:
            each = Full(causal=self.causal).pairs(self.seq_q, self.seq_kv)
        return self.batch * self.heads * each

    @property
    def flops(self) -> int:
        """FLOPs of the products: QKᵀ and PV, 2.5 times that backward."""
        forward = 2 * self.pairs * (self.head_dim + self.value_dim)
        return {Mode.BWD: forward * 5 // 2, Mode.FWD_BWD: forward * 7 // 2}.get(self.mode, forward)

    @property
    def bytes_min(self) -> int:
        """Bytes of each operand and result, moved once."""
        once = self.query_bytes + self.cache_bytes
        # Backward: Q, O, dO, dQ and K, V, dK, dV.
        backward = 2 * self.query_bytes + 2 * self.cache_bytes
        return {Mode.BWD: backward, Mode.FWD_BWD: once + backward}.get(self.mode, once)


def work_of(shape: AttentionShape, mode: Mode, *, pattern: Pattern | None = None) -> Work:
    """`shape` run in `mode` by an exact kernel, or by one that skips what `pattern` leaves."""
    seq_q = 1 if mode is Mode.DECODE else shape.seq_q
    return Work(
        batch=shape.batch,
        heads=shape.heads,
        kv_heads=shape.kv_heads,
        seq_q=seq_q,
        seq_kv=shape.seq_kv,
        head_dim=shape.head_dim,
        value_dim=shape.head_dim,
        causal=shape.causal,
        dtype=shape.dtype,
        kv_dtype=shape.dtype,
        seen=None if pattern is None else pattern.pairs(seq_q, shape.seq_kv),
        read=None if pattern is None else pattern.keys(seq_q, shape.seq_kv),
        mode=mode,
    )


class Chip(msgspec.Struct, frozen=True, kw_only=True):
    """A device's figures that attention's time depends on; `assumed` names the guessed."""

    sms: int
    clock_hz: float
    exp2_per_clock: int
    l2_bytes: int
    bytes_per_s: float
    flops_per_s: dict[Dtype, float]
    assumed: tuple[str, ...] = ()

    def peak(self, dtype: Dtype) -> float:
        """Dense peak with operands in `dtype`; of 16 bits where it has no path."""
        found = self.flops_per_s.get(dtype)
        if found is None:
            found = self.flops_per_s.get(Dtype.BF16) or self.flops_per_s.get(Dtype.FP16)
        return found or max(self.flops_per_s.values())


_USUAL_CLOCK_HZ = 1.9e9
_USUAL_L2_BYTES = 32 << 20
_USUAL_SMS = 64
_EXP2_A_CLOCK = 16


def chip_of(gpu: HardwareSpec) -> Chip:
    """The figures of one device of `gpu`; what no page says is set to a usual value."""
    published = gpu.published
    assumed = []
    if gpu.sm_count is None:
        assumed.append(f"{_USUAL_SMS} cores, as no page says")
    if published.boost_clock_hz is None:
        assumed.append(f"a clock of {_USUAL_CLOCK_HZ / 1e9:g} GHz, as no page says")
    if gpu.last_level_cache_bytes is None:
        assumed.append(f"a cache of {_USUAL_L2_BYTES >> 20} MiB, as no page says")
    peaks = {dtype: gpu.peak_flops_per_s(dtype) for dtype in Dtype}
    return Chip(
        sms=gpu.sm_count or _USUAL_SMS,
        clock_hz=published.boost_clock_hz or _USUAL_CLOCK_HZ,
        exp2_per_clock=published.exp2_per_clock_per_sm or _EXP2_A_CLOCK,
        l2_bytes=gpu.last_level_cache_bytes or _USUAL_L2_BYTES,
        bytes_per_s=gpu.bandwidth_bytes_per_s,
        flops_per_s={dtype: peak for dtype, peak in peaks.items() if peak},
        assumed=tuple(assumed),
    )
