"""Bytes of attention's operands and results."""

from attnbench.spec.attention import AttentionShape, Mode


def result_bytes(shape: AttentionShape, mode: Mode) -> int:
    """Bytes of what one call answers.

    fwd and decode: the output [batch, heads, seq_q, head_dim]. bwd: the gradients
    of query, key and value. fwd_bwd: output and gradients.
    """
    query, key_value = _query_and_key_value(shape)
    output = query if mode is not Mode.BWD else 0
    gradients = query + key_value if mode in (Mode.BWD, Mode.FWD_BWD) else 0
    return output + gradients


def operand_bytes(shape: AttentionShape, mode: Mode) -> int:
    """Bytes of query, key, value, results, and what else a mode must be given.

    bwd is given the output and its gradient, fwd_bwd the gradient alone.
    """
    query, key_value = _query_and_key_value(shape)
    given = {Mode.BWD: 2 * query, Mode.FWD_BWD: query}.get(mode, 0)
    return query + key_value + given + result_bytes(shape, mode)


def _query_and_key_value(shape: AttentionShape) -> tuple[int, int]:
    query = shape.batch * shape.heads * shape.seq_q * shape.head_dim
    key_value = 2 * shape.batch * shape.kv_heads * shape.seq_kv * shape.head_dim
    return shape.dtype.bytes_of(query), shape.dtype.bytes_of(key_value)
