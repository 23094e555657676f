"""Bytes that stand in memory for attention's operands and results."""

from attnbench.calc.attention_cost import operand_bytes
from attnbench.spec.attention import AttentionShape, Mode


def held_bytes(shape: AttentionShape, mode: Mode) -> int:
    """Bytes of query, key, value and results, and of what else a mode is given.

    A backward holds the output, its gradient and three gradients beside them,
    whether the forward before it is timed or not.
    """
    return operand_bytes(shape, Mode.BWD if mode is Mode.FWD_BWD else mode)


def result_bytes(shape: AttentionShape, mode: Mode) -> int:
    """Bytes of what one call answers.

    fwd and decode: the output [batch, heads, seq_q, head_dim]. bwd: the gradients
    of query, key and value. fwd_bwd: output and gradients.
    """
    query = shape.batch * shape.heads * shape.seq_q * shape.head_dim
    key_value = 2 * shape.batch * shape.kv_heads * shape.seq_kv * shape.head_dim
    output = query if mode is not Mode.BWD else 0
    gradients = query + key_value if mode in (Mode.BWD, Mode.FWD_BWD) else 0
    return shape.dtype.bytes_of(output + gradients)
