"""The shape of one attention problem, and the mode it is run in."""

import enum

import msgspec

from attnbench.errors import UserError
from attnbench.spec.dtype import Dtype


class Mode(enum.StrEnum):
    """What of attention is run: forward, backward, both, or one decoding step."""

    FWD = "fwd"
    BWD = "bwd"
    FWD_BWD = "fwd_bwd"
    DECODE = "decode"


class AttentionShape(msgspec.Struct, frozen=True, kw_only=True):
    """Query [batch, heads, seq_q, head_dim]; key, value [batch, kv_heads, seq_kv, head_dim].

    Causal is aligned bottom-right: row i sees columns j <= i + seq_kv - seq_q.
    Query head h reads KV head h // (heads // kv_heads).

    Raises:
        UserError: a size under 1, or kv_heads that do not divide heads.
    """

    batch: int
    heads: int
    kv_heads: int
    seq_q: int
    seq_kv: int
    head_dim: int
    causal: bool
    dtype: Dtype

    def __post_init__(self) -> None:
        for name in ("batch", "heads", "kv_heads", "seq_q", "seq_kv", "head_dim"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}: {getattr(self, name)} is under 1")
        if self.heads % self.kv_heads:
            raise UserError(
                f"kv_heads: {self.kv_heads} does not divide heads: {self.heads}",
                hint="Every KV head serves heads / kv_heads query heads.",
            )

    @property
    def group(self) -> int:
        """Query heads that share one KV head."""
        return self.heads // self.kv_heads

    @property
    def offset(self) -> int:
        """Position of query row 0 among the keys: seq_kv - seq_q."""
        return self.seq_kv - self.seq_q

    @property
    def label(self) -> str:
        """The shape on one line: 'fp32 B1 H8/2 N4096 D64 causal'."""
        heads = f"H{self.heads}" + (f"/{self.kv_heads}" if self.kv_heads != self.heads else "")
        length = f"N{self.seq_kv}" if self.seq_q == self.seq_kv else f"N{self.seq_q}x{self.seq_kv}"
        causal = " causal" if self.causal else ""
        return f"{self.dtype} B{self.batch} {heads} {length} D{self.head_dim}{causal}"
