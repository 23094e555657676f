"""SGLang: what each release does, as tables keyed by the release a rule begins with.

Read from the wheels 0.4.1, 0.4.6, 0.4.7, 0.4.8, 0.4.10, 0.5.2 to 0.5.6, 0.5.8 to 0.5.11,
0.5.13, 0.5.15, 0.5.17, 0.5.20 and 0.5.23: `srt/server_args.py` (from 0.5.20
`srt/arg_groups/memory_hook.py`) for the static part, `srt/model_executor/model_runner*.py`
and `pool_configurator.py` for the pools, `srt/configs/model_config.py` for windows.
Sizes it compares a GPU's memory with are MiB, as nvidia-smi prints them.
"""

import enum

import msgspec

from attnbench.engines._versions import Version, pick

PAGE, SPARSE_PAGE = 1, 64
WINDOW_SHARE = 0.8  # swa_full_tokens_ratio: the window pool's tokens to the full pool's
STATE_SHARE = 0.9  # mamba_full_memory_ratio: bytes of states to bytes of tokens
FIXED_STATES = 512
PREFILL_TOKENS = 16384


class Fraction(enum.StrEnum):
    """How mem_fraction_static follows where it is not given."""

    BY_RANKS = "by_ranks"
    BY_RANKS_AND_GPU = "by_ranks_and_gpu"
    RESERVED = "reserved"
    STEPS = "steps"


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """The rules of one release.

    `draft_mib` is reserved besides for a module that drafts. `prefill_graphs`: graphs of
    prefill steps are captured, and counted. `windowed`: architectures whose windows have a
    pool of their own. `states`: models with states are served. `state_share`: these get a
    share of the memory, else a fixed number; `state_copies` of them are counted a request.
    `sparse_as_stored`: a sparse MLA token is budgeted at the 656 bytes it takes.
    `drafts_counted`: a draft module's cache is part of the static part. `halved`: at most
    one request a two tokens. `allocation_printed`, `dtype_printed`, `chunk_printed`,
    `memory_printed` are parts of its lines.
    """

    fraction: Fraction
    draft_mib: int
    prefill_graphs: bool
    windowed: frozenset[str]
    states: bool
    state_share: bool
    state_copies: int
    sparse_as_stored: bool
    drafts_counted: bool
    halved: bool
    allocation_printed: bool
    dtype_printed: bool
    chunk_printed: bool
    memory_printed: bool


_FRACTION = (
    ((0,), Fraction.BY_RANKS),
    ((0, 4, 6), Fraction.BY_RANKS_AND_GPU),
    ((0, 4, 8), Fraction.RESERVED),
    ((0, 5, 3), Fraction.STEPS),
)
_DRAFT_MIB = (((0,), 0), ((0, 4, 8), 2048), ((0, 5, 10), 4096), ((0, 5, 15), 0))
_PREFILL_GRAPHS = (((0,), False), ((0, 5, 10), True))
_LISTED = frozenset(
    {
        "Llama4ForConditionalGeneration", "GptOssForCausalLM",
        "MiMoV2FlashForCausalLM", "Step3p5ForCausalLM",
    }
)  # fmt: skip
_GEMMA_4 = frozenset({"Gemma4ForCausalLM", "Gemma4ForConditionalGeneration"})
_WINDOWED: tuple[tuple[Version, frozenset[str]], ...] = (
    ((0,), frozenset()),  # gpt-oss and Gemma 2, 3: switched off by name, Llama 4 by default
    ((0, 5, 8), _LISTED),
    ((0, 5, 11), _LISTED | _GEMMA_4),
)
_STATES = (((0,), False), ((0, 5, 2), True))
_STATE_SHARE = (((0,), False), ((0, 5, 4), True))
_STATE_COPIES = (((0,), 1), ((0, 5, 4), 3))
_SPARSE_AS_STORED = (((0,), False), ((0, 5, 17), True))
_DRAFTS_COUNTED = (((0,), False), ((0, 5, 20), True))
_HALVED = (((0,), False), ((0, 5, 10), True))
_ALLOCATION_PRINTED = (((0,), False), ((0, 4, 3), True))
_DTYPE_PRINTED = (((0,), False), ((0, 5, 13), True))
_CHUNK_PRINTED = (((0,), False), ((0, 4, 6), True))
_MEMORY_PRINTED = (((0,), False), ((0, 5, 2), True))


def policy(version: Version | None) -> Policy:
    """The rules of `version`; of the newest release where it is not known."""
    return Policy(
        fraction=pick(_FRACTION, version),
        draft_mib=pick(_DRAFT_MIB, version),
        prefill_graphs=pick(_PREFILL_GRAPHS, version),
        windowed=pick(_WINDOWED, version),
        states=pick(_STATES, version),
        state_share=pick(_STATE_SHARE, version),
        state_copies=pick(_STATE_COPIES, version),
        sparse_as_stored=pick(_SPARSE_AS_STORED, version),
        drafts_counted=pick(_DRAFTS_COUNTED, version),
        halved=pick(_HALVED, version),
        allocation_printed=pick(_ALLOCATION_PRINTED, version),
        dtype_printed=pick(_DTYPE_PRINTED, version),
        chunk_printed=pick(_CHUNK_PRINTED, version),
        memory_printed=pick(_MEMORY_PRINTED, version),
    )


class Steps(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of a prefill step, and the largest batch that CUDA graphs are captured for."""

    chunk: int
    graph_batch: int


# By memory: under so many MiB, a step's tokens and the graphs' batch on few and on many ranks.
_Row = tuple[float, int, int, int]
_ANY = float("inf")
_STEPS: tuple[tuple[Version, tuple[_Row, ...]], ...] = (
    ((0,), ((25_000, 2048, 8, 80), (_ANY, 8192, 160, 160))),
    (
        (0, 4, 8),
        (
            (35 * 1024, 2048, 8, 80),
            (90 * 1024, 8192, 160, 160),
            (160 * 1024, 8192, 256, 256),
            (_ANY, 16384, 512, 512),
        ),
    ),
    *(
        (
            since,
            (
                (20 * 1024, 2048, 8, 8),
                (35 * 1024, chunk, few, many),
                (60 * 1024, 4096, 32, 160),
                (160 * 1024, 8192, 256, 512),
                (_ANY, 16384, 512, 512),
            ),
        )
        for since, chunk, few, many in (
            ((0, 5, 3), 2048, 16, 80),
            ((0, 5, 5), 2048, 24, 80),
            ((0, 5, 20), 4096, 48, 160),
        )
    ),
)
_MANY_RANKS = 4


def steps(version: Version | None, gpu_mib: float, tp: int) -> Steps:
    """Default steps on a GPU of `gpu_mib` MiB among `tp` tensor-parallel ranks.

    >>> steps((0, 5, 9), 81559, 1)
    Steps(chunk=8192, graph_batch=256)
    """
    row = next(row for row in pick(_STEPS, version) if gpu_mib < row[0])
    return Steps(chunk=row[1], graph_batch=row[3] if tp >= _MANY_RANKS else row[2])


_BY_RANKS = ((16, 0.79), (8, 0.81), (4, 0.85), (2, 0.87), (1, 0.88))
# Under so many MiB: GiB reserved, and GiB more a rank.
_RESERVED = ((35 * 1024, 2.8, 0.1), (90 * 1024, 9.5, 0.5), (160 * 1024, 12.0, 0.5), (_ANY, 32.0, 0))
_LARGE_MIB, _LARGE_LEAST = 60 * 1024, 10 * 1024
_PREFILL_SIZES = (
    *range(4, 33, 4), *range(48, 257, 16), *range(288, 513, 32), *range(576, 1025, 64),
    *range(1280, 4097, 256), *range(4608, 16385, 512),
)  # fmt: skip


def static_fraction(
    version: Version | None,
    *,
    gpu_mib: float,
    tp: int,
    pp: int,
    chunk: int,
    graph_batch: int,
    latent: bool,
    drafted: bool,
    vision: int,
) -> float:
    """mem_fraction_static where it is not given: the share of weights and pools.

    From 0.5.3 on

        1 - (512 + 1.5 · chunk + 2 · graph_batch + 128 · tp · pp + prefill graphs) / gpu_mib

    of which at least 10 GiB where the GPU has over 60. `vision` parameters lower it: to
    0.95, and by 0.1 for each ViT-L more (24 layers of 1024), between 0.8 and 1.05 of that.

    >>> static_fraction((0, 5, 9), gpu_mib=81559, tp=1, pp=1, chunk=8192, graph_batch=256,
    ...                 latent=False, drafted=False, vision=0)
    0.835
    """
    rules, ranks = policy(version), tp * pp
    if rules.fraction in (Fraction.BY_RANKS, Fraction.BY_RANKS_AND_GPU):
        if rules.fraction is Fraction.BY_RANKS:
            ranks = tp
        share = next(share for least, share in _BY_RANKS if ranks >= least)
        if rules.fraction is Fraction.BY_RANKS_AND_GPU and gpu_mib > 81920:
            share = _BY_RANKS[-1][1]
            if gpu_mib > 96 * 1024:
                grown = share + 48 * 1024 * (1 - share) / gpu_mib
                share = min(grown, (gpu_mib - 18 * 1024) / gpu_mib)
        return share
    if rules.fraction is Fraction.RESERVED:
        _, flat, each = next(row for row in _RESERVED if gpu_mib < row[0])
        reserved = (flat + each * ranks) * 1024
    else:
        reserved = 512 + 1.5 * max(chunk, 2048) + 2 * graph_batch + 128 * ranks
        if rules.prefill_graphs:
            captured = sum(size <= chunk for size in _PREFILL_SIZES)
            reserved += 1536 if latent else 8 * captured
        if gpu_mib > _LARGE_MIB:
            reserved = max(reserved, _LARGE_LEAST)
    if drafted:
        reserved += rules.draft_mib
    share = round((gpu_mib - reserved) / gpu_mib, 3)
    return share * _beside_vision(vision) if vision else share


_VIT_L = 12 * 24 * 1024**2


def _beside_vision(parameters: int) -> float:
    return 0.95 * max(0.8, min(1.05, 1.0 - 0.1 * (parameters / _VIT_L - 1.0)))


def max_requests(version: Version | None, tokens: int, length: int) -> int:
    """Requests that may run at once by default.

    min(max(int(tokens / length · 512), 2048), 4096)
    """
    most = min(max(int(tokens / length * 512), 2048), 4096)
    return min(most, tokens // 2) if policy(version).halved else most
