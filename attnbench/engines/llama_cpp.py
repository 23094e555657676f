"""llama.cpp: one cache of cells for each kind of layer, states beside it in fp32.

It prints MiB (2^20). Builds are numbered (b6150), and rules stand by the build they begin
with, where only the tags around a change were seen, by the later of them. Source:
llama.cpp, `src/llama-kv-cache*.cpp`, `src/llama-memory-recurrent.cpp`,
`src/llama-context.cpp`; ggml-org/llama.cpp#12801 (MLA keeps its latent), #13194 (windows
apart), #17046 (cells of a multiple of 256), #19067 (no values beside the latent).
"""

import enum
from collections.abc import Sequence

import msgspec

from attnbench.calc.engine_kinds import Placed
from attnbench.engines._versions import Version, pick
from attnbench.spec.dtype import Dtype
from attnbench.spec.model import Attention, Chunked, Latent, Recurrent, Sliding, StateKind
from attnbench.units import MIB

NAME = "llama.cpp"
CELL_MULTIPLE = 256
UBATCH = 512
MOST_SEQUENCES = 256

# Bytes of an element of the cache by ggml type: a block of 32 and its scale.
CACHE_BYTES = {
    "f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 34 / 32, "q5_1": 24 / 32, "q5_0": 22 / 32,
    "q4_1": 20 / 32, "q4_0": 18 / 32, "iq4_nl": 18 / 32,
}  # fmt: skip


class Latents(enum.StrEnum):
    """What an MLA layer keeps: every head's keys and values, latents twice, or once."""

    HEADS = "heads"
    TWICE = "twice"
    ONCE = "once"


class Line(enum.StrEnum):
    """The line of a cache: sizes alone, or cells, layers and sequences too."""

    SIZES = "sizes"
    CELLS = "cells"
    STREAMS = "streams"


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """The rules of one build: what MLA keeps, and the names and form of its lines.

    `windows`: layers with a window have a cache of their own, else at full length.
    """

    latents: Latents
    windows: bool
    line: Line
    cache_name: str
    weights_name: str


_LATENTS = (((0,), Latents.HEADS), ((5146,), Latents.TWICE), ((7850,), Latents.ONCE))
_WINDOWS = (((0,), False), ((5430,), True))
_LINE = (((0,), Line.SIZES), ((5600,), Line.CELLS), ((5950,), Line.STREAMS))
_CACHE_NAME = (
    ((0,), "llama_new_context_with_model"),
    ((4600,), "llama_init_from_model"),
    ((5400,), "llama_kv_cache_unified"),
    ((6700,), "llama_kv_cache"),
)
_WEIGHTS_NAME = (((0,), "llm_load_tensors"), ((4600,), "load_tensors"))


def policy(version: Version | None) -> Policy:
    """The rules of a build; of the newest where it is not known."""
    return Policy(
        latents=pick(_LATENTS, version),
        windows=pick(_WINDOWS, version),
        line=pick(_LINE, version),
        cache_name=pick(_CACHE_NAME, version),
        weights_name=pick(_WEIGHTS_NAME, version),
    )


class Cache(msgspec.Struct, frozen=True, kw_only=True):
    """One cache that llama.cpp allocates: `cells` a stream in each of the layers `indices`.

    `keys` and `values` are bytes in all layers and streams (of states: convolutions and
    recurrent ones).
    """

    name: str
    cells: int
    indices: tuple[int, ...]
    keys: int
    values: int

    @property
    def layers(self) -> int:
        """Layers that have it."""
        return len(self.indices)

    @property
    def bytes(self) -> int:
        """Bytes of all its layers and sequences."""
        return self.keys + self.values


def padded(tokens: int) -> int:
    """`tokens` rounded up to whole steps of 256 cells."""
    return -(-tokens // CELL_MULTIPLE) * CELL_MULTIPLE


def cells(mixer: Attention | Latent, *, ctx: int, ubatch: int, sequences: int = 1) -> int:
    """Cells of one stream: the context, or a window and a batch, in steps of 256.

        min(ctx, window · sequences + ubatch) rounded up to 256

    `sequences` share the stream.

    >>> from attnbench.spec.model import Sliding
    >>> gpt_oss = Sliding(heads=64, kv_heads=8, key_dim=64, value_dim=64, window=128)
    >>> cells(gpt_oss, ctx=131072, ubatch=1024)
    1280
    """
    wanted = ctx
    if isinstance(mixer, Sliding | Chunked):
        window = mixer.window if isinstance(mixer, Sliding) else mixer.chunk
        wanted = min(padded(ctx), window * sequences + ubatch)
    return padded(wanted)


def caches(
    layers: Sequence[Placed],
    *,
    ctx: int,
    ubatch: int = UBATCH,
    sequences: int = 1,
    unified: bool = False,
    element_bytes: float = 2.0,
    full_windows: bool = False,
    latents: Latents = Latents.ONCE,
) -> tuple[Cache, ...]:
    """Every cache of a model, for `sequences` of `ctx` tokens each.

        cells · streams · layers · (width of keys + width of values) · bytes

    A sequence has a stream of its own, or all share one that is as long as all together
    (`unified`). `full_windows` keeps windows at full length (`--swa-full`). States are
    fp32, one a sequence, convolutions of kernel - 1 columns.
    """
    streams = 1 if unified else sequences
    length = ctx * sequences if unified else ctx
    found: dict[tuple[str, int], tuple[list[int], float, float]] = {}
    for mixer, indices in layers:
        if isinstance(mixer, Recurrent):
            key = ("recurrent", sequences)
            first, second = (float(n * sequences) for n in _state_bytes(mixer))
        elif isinstance(mixer, Latent | Attention):
            windowed = isinstance(mixer, Sliding | Chunked) and not full_windows
            shared = sequences if unified else 1
            count = cells(mixer, ctx=length, ubatch=ubatch, sequences=shared)
            key = ("window" if windowed else "full", count if windowed else padded(length))
            widths = _widths(mixer, latents)
            first, second = (key[1] * streams * width * element_bytes for width in widths)
        else:
            continue
        at, keys, values = found.get(key, ([], 0.0, 0.0))
        n = len(indices)
        found[key] = (sorted([*at, *indices]), keys + first * n, values + second * n)
    made = (
        Cache(name=name, cells=count, indices=tuple(at), keys=int(keys), values=int(values))
        for (name, count), (at, keys, values) in found.items()
    )
    order = ("full", "window", "recurrent")
    return tuple(sorted(made, key=lambda cache: order.index(cache.name)))


def _widths(mixer: Attention | Latent, latents: Latents) -> tuple[int, int]:
    if not isinstance(mixer, Latent):
        return mixer.kv_heads * mixer.key_dim, mixer.kv_heads * mixer.value_dim
    if latents is Latents.HEADS:
        return mixer.heads * (mixer.nope_dim + mixer.rope_dim), mixer.heads * mixer.value_dim
    values = mixer.kv_rank if latents is Latents.TWICE else 0
    return mixer.kv_rank + mixer.rope_dim, values


def _state_bytes(mixer: Recurrent) -> tuple[int, int]:
    """Bytes of one sequence's convolutions and recurrent states in one layer."""
    sums = {StateKind.CONV: 0, StateKind.RECURRENT: 0}
    for state in mixer.states:
        elements = state.elements
        if state.kind is StateKind.CONV:
            elements = elements // state.shape[-1] * (state.kernel - 1)
        sums[state.kind] += elements * Dtype.FP32.bits // 8
    return sums[StateKind.CONV], sums[StateKind.RECURRENT]


def cache_line(
    rules: Policy, cache: Cache, *, kind: str, sequences: int, streams: int, layers: int
) -> str:
    """The line that the build prints of a cache; `kind` is its ggml type.

    >>> from attnbench.engines.llama_cpp import Cache, cache_line, policy
    >>> half = Cache(name="full", cells=4096, indices=(0,), keys=1 << 22, values=1 << 22)
    >>> cache_line(policy((6800,)), half, kind="f16", sequences=1, streams=1, layers=1)
    'llama_kv_cache: size =    8.00 MiB (  4096 cells,   1 layers,  1/1 seqs), \
K (f16):    4.00 MiB, V (f16):    4.00 MiB'
    """
    whole, keys, values = (n / MIB for n in (cache.bytes, cache.keys, cache.values))
    if cache.name == "recurrent":
        return (
            f"llama_memory_recurrent: size = {whole:7.2f} MiB ({cache.cells:6d} cells, "
            f"{layers:3d} layers, {sequences:2d} seqs), R (f32): {keys:7.2f} MiB, "
            f"S (f32): {values:7.2f} MiB"
        )
    parts = f"K ({kind}): {keys:7.2f} MiB, V ({kind}): {values:7.2f} MiB"
    if rules.line is Line.SIZES:
        return f"{rules.cache_name}: KV self size  = {whole:7.2f} MiB, {parts}"
    seqs = f"{sequences:2d}" + (f"/{streams}" if rules.line is Line.STREAMS else "")
    return (
        f"{rules.cache_name}: size = {whole:7.2f} MiB ({cache.cells:6d} cells, "
        f"{cache.layers:3d} layers, {seqs} seqs), {parts}"
    )
