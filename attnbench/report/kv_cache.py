"""What `kv-cache` shows: a row a kind of layer, the totals, what MHA and MQA would hold."""

import msgspec

from attnbench.calc.kv_answer import KvAnswer
from attnbench.report.document import Column, Document, Table
from attnbench.units import format_gb, format_gib

_LAYERS = (
    Column(key="kind", heading="layers"),
    Column(key="count", heading="count", right=True),
    Column(key="kv_heads", heading="KV heads", right=True),
    Column(key="head_dim", heading="head dim", right=True),
    Column(key="window", heading="window", right=True),
    Column(key="tokens", heading="tokens held", show=lambda n: f"{n:,}", right=True),
    Column(key="bytes", heading="GiB (2^30)", show=format_gib, right=True),
)
_TOTALS = (
    Column(key="what", heading=""),
    Column(key="bytes", heading="bytes", show=lambda n: f"{n:,}", right=True),
    Column(key="gib", heading="GiB (2^30)", show=format_gib, right=True),
    Column(key="gb", heading="GB (10^9)", show=format_gb, right=True),
)


def document(answer: KvAnswer) -> Document:
    """The answer as the contract's JSON object and two tables."""
    data = msgspec.to_builtins(answer)
    for row in data["layers"]:  # JSON has a key only where it says something
        for key in [k for k, v in row.items() if v is None and k not in ("kv_heads", "head_dim")]:
            del row[key]
    rows = [[getattr(row, column.key) for column in _LAYERS] for row in answer.layers]
    title = (
        f"{answer.model}: {answer.batch} x {answer.seq_len:,} tokens, {answer.kv_dtype}, "
        f"{answer.semantics} semantics"
    )
    totals = [[what, n, n, n] for what, n in _totals(answer)]
    return Document(
        schema="attnbench.kv-cache/1",
        data=data,
        tables=(
            Table(columns=_LAYERS, rows=rows, title=title),
            Table(columns=_TOTALS, rows=totals),
        ),
        warnings=answer.warnings,
        assumptions=answer.assumptions,
    )


def _totals(answer: KvAnswer) -> list[tuple[str, int]]:
    shown = [("total", answer.total_bytes)]
    parts = (
        ("  keys and values", answer.kv_bytes),
        ("  recurrent state", answer.state_bytes),
        ("  cross-attention", answer.cross_attention_bytes),
    )
    if sum(n > 0 for _, n in parts) > 1:
        shown += [(what, n) for what, n in parts if n]
    if answer.tp * answer.pp > 1:
        shown.append((f"fullest GPU (tp {answer.tp}, pp {answer.pp})", answer.per_gpu_bytes))
    if answer.steady_bytes is not None and answer.admission_bytes is not None:
        shown.append(("held while decoding (steady)", answer.steady_bytes))
        shown.append(("asked to be free (admission)", answer.admission_bytes))
    if answer.ideal_bytes != answer.total_bytes or answer.steady_bytes is not None:
        shown.append(("ideal", answer.ideal_bytes))
    shown.append(("one more token", answer.bytes_per_token))
    shown.append(("were all heads KV heads (MHA)", answer.compare.mha))
    shown.append(("were there one KV head (MQA)", answer.compare.mqa))
    return shown
