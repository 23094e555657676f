"""Mixers with a state: Mamba, Mamba-2, the gated delta rule, short convolutions.

State shapes and dtypes are those that transformers 5.23 keeps: convolution states as
wide as the kernel, in the model's dtype; recurrent ones in fp32.
Sources: Mamba, arXiv:2312.00752; Mamba-2, arXiv:2405.21060; gated delta rule,
arXiv:2412.06464; Kimi Linear, arXiv:2510.26692.
"""

import msgspec

from attnbench.catalog.blocks import Tensors, linear, norm, vector
from attnbench.catalog.decoder import Block
from attnbench.spec.model import Recurrent, Role, Shard, State, StateKind

_ROLE = Role.RECURRENT
_COLUMN = Shard.COLUMN


def conv_state(channels: int, kernel: int, *, width: int | None = None) -> State:
    """The last inputs of a depthwise convolution: [channels, kernel]."""
    return State(
        name="conv",
        shape=(channels, kernel if width is None else width),
        kind=StateKind.CONV,
        kernel=kernel,
    )


def conv(name: str, channels: int, kernel: int, *, bias: bool) -> Tensors:
    """A depthwise convolution over time: weight [channels, 1, kernel]."""
    made = vector(f"{name}.weight", channels, 1, kernel, role=_ROLE, shard=_COLUMN)
    return made + vector(f"{name}.bias", channels, role=_ROLE, shard=_COLUMN) if bias else made


class Mamba(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes of a Mamba layer: `inner` channels, each with a state of `state` numbers."""

    hidden: int
    inner: int
    state: int
    rank: int
    kernel: int
    conv_bias: bool = True
    bias: bool = False
    inner_norms: bool = False


def mamba(at: str, m: Mamba) -> Block:
    """A Mamba layer; Jamba's has norms on dt, B and C besides (`inner_norms`)."""
    made = (
        *linear(f"{at}.in_proj", 2 * m.inner, m.hidden, _ROLE, _COLUMN, bias=m.bias),
        *conv(f"{at}.conv1d", m.inner, m.kernel, bias=m.conv_bias),
        *linear(f"{at}.x_proj", m.rank + 2 * m.state, m.inner, _ROLE, Shard.ROW),
        *linear(f"{at}.dt_proj", m.inner, m.rank, _ROLE, _COLUMN, bias=True),
        *vector(f"{at}.A_log", m.inner, m.state, role=_ROLE, shard=_COLUMN),
        *vector(f"{at}.D", m.inner, role=_ROLE, shard=_COLUMN),
        *linear(f"{at}.out_proj", m.hidden, m.inner, _ROLE, Shard.ROW, bias=m.bias),
    )
    if m.inner_norms:
        made += norm(f"{at}.dt_layernorm", m.rank)
        made += norm(f"{at}.b_layernorm", m.state) + norm(f"{at}.c_layernorm", m.state)
    states = (
        conv_state(m.inner, m.kernel),
        State(name="ssm", shape=(m.inner, m.state), fp32=True),
    )
    return (Recurrent(name="mamba", states=states, heads=m.inner),), made


class Mamba2(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes of a Mamba-2 layer: `heads` states of [head_dim, state], B and C in `groups`."""

    hidden: int
    heads: int
    head_dim: int
    state: int
    groups: int
    kernel: int
    inner: int
    conv_bias: bool = True
    bias: bool = False
    out_bias: bool | None = None
    gate_norm: bool = True
    engine_fp32: bool = False
    scan: int = 0


def mamba2(at: str, m: Mamba2) -> Block:
    """A Mamba-2 layer: one projection to gate, x, B, C and dt; a convolution over x, B, C."""
    channels = m.inner + 2 * m.groups * m.state
    made = (
        *linear(
            f"{at}.in_proj", m.inner + channels + m.heads, m.hidden, _ROLE, _COLUMN, bias=m.bias
        ),
        *conv(f"{at}.conv1d", channels, m.kernel, bias=m.conv_bias),
    )
    for name in ("dt_bias", "A_log", "D"):
        made += vector(f"{at}.{name}", m.heads, role=_ROLE, shard=_COLUMN)
    made += norm(f"{at}.norm", m.inner, weight=m.gate_norm)
    bias = m.bias if m.out_bias is None else m.out_bias
    made += linear(f"{at}.out_proj", m.hidden, m.inner, _ROLE, Shard.ROW, bias=bias)
    states = (
        conv_state(channels, m.kernel),
        State(
            name="ssm",
            shape=(m.heads, m.head_dim, m.state),
            fp32=True,
            engine_fp32=m.engine_fp32,
        ),
    )
    return (Recurrent(name="mamba2", states=states, heads=m.heads, scan=m.scan),), made


class DeltaNet(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes of a gated delta rule layer; each value head keeps [key_dim, value_dim]."""

    hidden: int
    key_heads: int
    value_heads: int
    key_dim: int
    value_dim: int
    kernel: int
    engine_fp32: bool = False

    @property
    def channels(self) -> int:
        """Channels of the convolution: q, k and v."""
        return 2 * self.key_heads * self.key_dim + self.value_heads * self.value_dim


def delta_net(at: str, m: DeltaNet) -> Block:
    """Gated DeltaNet as Qwen3-Next has it: q, k, v, gate z, and a and b a value head."""
    values = m.value_heads * m.value_dim
    made = (
        *linear(f"{at}.in_proj_qkvz", m.channels + values, m.hidden, _ROLE, _COLUMN),
        *linear(f"{at}.in_proj_ba", 2 * m.value_heads, m.hidden, _ROLE, _COLUMN),
        *conv(f"{at}.conv1d", m.channels, m.kernel, bias=False),
        *vector(f"{at}.dt_bias", m.value_heads, role=_ROLE, shard=_COLUMN),
        *vector(f"{at}.A_log", m.value_heads, role=_ROLE, shard=_COLUMN),
        *norm(f"{at}.norm", m.value_dim),
        *linear(f"{at}.out_proj", m.hidden, values, _ROLE, Shard.ROW),
    )
    states = (
        conv_state(m.channels, m.kernel),
        State(
            name="delta",
            shape=(m.value_heads, m.key_dim, m.value_dim),
            fp32=True,
            engine_fp32=m.engine_fp32,
        ),
    )
    return (Recurrent(name="gated_delta_net", states=states, heads=m.value_heads),), made


def kimi_delta(at: str, m: DeltaNet, *, low_rank: bool = True) -> Block:
    """Kimi Delta Attention: decay a channel, its gate and the output's (through a low rank)."""
    keys, values = m.key_heads * m.key_dim, m.value_heads * m.value_dim
    rank = m.value_dim
    made = (
        *linear(f"{at}.q_proj", keys, m.hidden, _ROLE, _COLUMN),
        *linear(f"{at}.k_proj", keys, m.hidden, _ROLE, _COLUMN),
        *linear(f"{at}.v_proj", values, m.hidden, _ROLE, _COLUMN),
        *conv(f"{at}.conv1d", m.channels, m.kernel, bias=False),
        *vector(f"{at}.A_log", m.value_heads, role=_ROLE, shard=_COLUMN),
        *vector(f"{at}.dt_bias", keys, role=_ROLE, shard=_COLUMN),
        *linear(f"{at}.b_proj", m.value_heads, m.hidden, _ROLE, _COLUMN),
        *norm(f"{at}.o_norm", m.value_dim),
        *linear(f"{at}.o_proj", m.hidden, values, _ROLE, Shard.ROW),
    )
    for letter, width in (("f", keys), ("g", values)):
        if low_rank:
            made += linear(f"{at}.{letter}_a_proj", rank, m.hidden, _ROLE)
            made += linear(f"{at}.{letter}_b_proj", width, rank, _ROLE, _COLUMN)
        else:
            made += linear(f"{at}.{letter}_proj", width, m.hidden, _ROLE, _COLUMN)
    states = (
        conv_state(m.channels, m.kernel),
        State(
            name="delta",
            shape=(m.value_heads, m.key_dim, m.value_dim),
            fp32=True,
            engine_fp32=True,
        ),
    )
    return (Recurrent(name="kimi_delta", states=states, heads=m.value_heads),), made


def short_conv(at: str, hidden: int, kernel: int, *, bias: bool) -> Block:
    """LFM2's gated short convolution: in to three streams, a convolution, out."""
    made = (
        *linear(f"{at}.in_proj", 3 * hidden, hidden, _ROLE, _COLUMN, bias=bias),
        *conv(f"{at}.conv", hidden, kernel, bias=bias),
        *linear(f"{at}.out_proj", hidden, hidden, _ROLE, Shard.ROW, bias=bias),
    )
    return (Recurrent(name="conv", states=(conv_state(hidden, kernel),), heads=hidden),), made
