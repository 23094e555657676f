"""SGLang's pools: tokens of layers that keep all, tokens of windows, states; and its lines."""

from collections.abc import Sequence

import msgspec

from attnbench.calc.engine_kinds import Placed, state_bytes
from attnbench.calc.engine_kinds import Widths as Rank
from attnbench.engines import sglang
from attnbench.engines.engine_memory import PoolPart
from attnbench.engines.sglang_policy import FIXED_STATES, STATE_SHARE, WINDOW_SHARE, Policy
from attnbench.spec.dtype import Dtype
from attnbench.spec.model import Attention, Chunked, Latent, Recurrent, Sliding
from attnbench.units import GIB

_TORCH = {
    Dtype.BF16: "torch.bfloat16", Dtype.FP16: "torch.float16", Dtype.FP32: "torch.float32",
    Dtype.FP8_E4M3: "torch.float8_e4m3fn", Dtype.FP8_E5M2: "torch.float8_e5m2",
}  # fmt: skip


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes that a token takes in one pool on one GPU: its keys, its values, as budgeted."""

    keys: int = 0
    values: int = 0
    budgeted: int = 0

    @property
    def total(self) -> int:
        """Keys and values."""
        return self.keys + self.values


class Needs(msgspec.Struct, frozen=True, kw_only=True):
    """What one GPU's layers take: a token in each pool, a request's states.

    `latent`: keys and values are one vector. `window` is the longest window that has a
    pool of its own.
    """

    full: Side
    windowed: Side
    conv: int = 0
    recurrent: int = 0
    latent: bool = False
    window: int = 0

    @property
    def state(self) -> int:
        """Bytes of one request's states."""
        return self.conv + self.recurrent


class Pools(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens, window tokens and states that a GPU holds."""

    tokens: int
    window_tokens: int = 0
    states: int = 0


def needs(
    layers: Sequence[Placed], *, rules: Policy, architecture: str | None, rank: Rank, kv: Dtype
) -> Needs:
    """What the layers of one stage take on one rank.

    Windows have a pool of their own in the architectures that the release lists, and
    are kept at full length in the others.
    """
    apart = architecture in rules.windowed
    sums = {name: [0, 0, 0] for name in ("full", "windowed")}
    conv = recurrent = window = 0
    latent = False
    for mixer, indices in layers:
        if isinstance(mixer, Recurrent):
            conv += _only(mixer, rank, convolutions=True) * len(indices)
            recurrent += _only(mixer, rank, convolutions=False) * len(indices)
            continue
        placed = ((mixer, indices),)
        kept = sglang.bytes_per_token(placed, tp=rank.tp, kv=kv)
        counted, values = kept, 0
        if isinstance(mixer, Latent):
            latent = True
            if not rules.sparse_as_stored:
                counted = sglang.bytes_per_token(placed, tp=rank.tp, kv=kv, packed=False)
        elif isinstance(mixer, Attention):
            values = kept * mixer.value_dim // (mixer.key_dim + mixer.value_dim)
        side = sums["full"]
        if apart and isinstance(mixer, Sliding | Chunked):
            side = sums["windowed"]
            length = mixer.window if isinstance(mixer, Sliding) else mixer.chunk
            window = max(window, length)
        for at, size in enumerate((kept - values, values, counted)):
            side[at] += size
    full, windowed = (Side(keys=k, values=v, budgeted=b) for k, v, b in sums.values())
    return Needs(
        full=full, windowed=windowed, conv=conv, recurrent=recurrent, latent=latent, window=window
    )


def _only(mixer: Recurrent, rank: Rank, *, convolutions: bool) -> int:
    blank = {"state": 0} if convolutions else {"model": 0}
    return state_bytes(mixer, msgspec.structs.replace(rank, **blank))


def pools(need: Needs, available: int, *, page: int, rules: Policy, drafts: int = 0) -> Pools:
    """What `available` bytes of one GPU hold.

        states   available · 0.9 / 1.9 // a request's   (a fixed number before 0.5.4)
        tokens   rest // (full + 0.8 · window), in whole pages
        window   0.8 · tokens, in whole pages

    `drafts` bytes a token are a draft module's, where the release counts them.
    """
    rest, states = max(0, available), 0
    if need.state:
        states = FIXED_STATES
        if rules.state_share and need.full.total:
            states = int(rest * STATE_SHARE / (1 + STATE_SHARE)) // need.state
        elif rules.state_share:
            states = rest // need.state
        rest = max(0, rest - states * need.state)
    cell = need.full.budgeted + WINDOW_SHARE * need.windowed.budgeted
    if not need.full.budgeted:
        cell = float(need.windowed.budgeted)
    cell += drafts if rules.drafts_counted else 0
    if not cell:
        return Pools(tokens=0, states=states)
    tokens = int(rest // cell) // page * page
    window = int(tokens * WINDOW_SHARE) // page * page if need.windowed.total else 0
    return Pools(tokens=tokens, window_tokens=window, states=states)


def allocation_lines(
    need: Needs, held: Pools, *, page: int, rules: Policy, kv: Dtype
) -> tuple[str, ...]:
    """What the release prints as it allocates; its "GB" are GiB, and a page stands spare."""
    said = []
    if need.state:
        conv, recurrent = ((held.states + 1) * n / GIB for n in (need.conv, need.recurrent))
        said.append(
            f"Mamba Cache is allocated. max_mamba_cache_size: {held.states}, conv_state size: "
            f"{conv:.2f}GB, ssm_state size: {recurrent:.2f}GB"
        )
    if need.windowed.total:
        said.append(
            f"Use sliding window memory pool. full_layer_tokens={held.tokens}, "
            f"swa_layer_tokens={held.window_tokens}"
        )
    if not rules.allocation_printed:
        return tuple(said)
    dtype = f"dtype: {_TORCH.get(kv, kv)}, " if rules.dtype_printed else ""
    for side, tokens in ((need.windowed, held.window_tokens), (need.full, held.tokens)):
        if not side.total:
            continue
        keys, values = ((tokens + page) * n / GIB for n in (side.keys, side.values))
        sizes = f"K size: {keys:.2f} GB, V size: {values:.2f} GB"
        if need.latent:
            sizes = f"KV size: {keys + values:.2f} GB"
        said.append(f"KV Cache is allocated. {dtype}#tokens: {tokens}, {sizes}")
    if need.windowed.total:
        both = (held.tokens + page) * need.full.total
        both += (held.window_tokens + page) * need.windowed.total
        said.append(
            f"SWAKVPool mem usage: {both / GIB:.2f} GB, swa size: {held.window_tokens}, "
            f"full size: {held.tokens}"
        )
    return tuple(said)


def parts(need: Needs, held: Pools, page: int) -> tuple[PoolPart, ...]:
    """The pools with their bytes on one GPU, a spare page each."""
    found = []
    for name, side, tokens in (
        ("tokens", need.full, held.tokens),
        ("window tokens", need.windowed, held.window_tokens),
    ):
        if side.total:
            size = (tokens + page) * side.total
            found.append(PoolPart(name=name, holds="tokens", count=tokens, bytes=size))
    if need.state:
        size = (held.states + 1) * need.state
        found.append(PoolPart(name="states", holds="states", count=held.states, bytes=size))
    return tuple(found)
