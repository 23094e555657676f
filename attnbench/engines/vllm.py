"""vLLM: what each release does, as tables keyed by the release a rule begins with.

Read from the wheels 0.8.5, 0.9.0 to 0.9.2, 0.10.0, 0.11.2, 0.12.0, 0.13.0, 0.14.1, 0.15.1, 0.16.0,
0.17.1, 0.18.1, 0.19.1, 0.20.0 to 0.20.2, 0.21.0, 0.22.1, 0.24.0, 0.25.1, 0.26.0 to 0.30.0
and 0.33.0: `v1/core/kv_cache_utils.py` (groups, the printed line), `v1/kv_cache_interface.py`
(pages, blocks of a request), `v1/worker/gpu_worker.py` (budget), `v1/sample/ops` (sampler),
`config/cache.py` and `engine/arg_utils.py` (defaults).
"""

import enum
import math

import msgspec

from attnbench.calc.engine_budget import Band
from attnbench.calc.engine_pages import StateMode
from attnbench.calc.engine_weights import Loader, Pad
from attnbench.calc.quantization import Scheme
from attnbench.engines._versions import Version, pick
from attnbench.engines.vllm_releases import has_since, version_of, version_of_page
from attnbench.spec.hardware import HardwareSpec
from attnbench.units import GIB

__all__ = ["has_since", "version_of", "version_of_page"]  # read through this module

NAME = "vllm"
BLOCK = 16


class TokensLine(enum.StrEnum):
    """What "GPU KV cache size: N tokens" counts."""

    BLOCKS = "blocks"
    PER_GROUP = "per_group"
    CONCURRENCY = "concurrency"


MEANING = {
    TokensLine.BLOCKS: "num_blocks x 16",
    TokensLine.PER_GROUP: "num_blocks // groups x block, which understates hybrids",
    TokensLine.CONCURRENCY: "int(max_concurrency x max_model_len), which changes with the latter",
}


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """The rules of one release.

    `pad_below`: kinds of layer whose counts differ by less share a group size (1: never).
    `groups`: windows are kept apart from full attention. `graphs_in_budget`: the cache
    gives way to an estimate of CUDA graphs. `state_mode` of a hybrid by default.
    `in_flight`: windows count every batch in flight. `merged_line`: size and concurrency
    are printed in one line. `blocks_line`: "# GPU blocks" is printed in place of tokens.
    """

    utilization: float
    groups: bool
    pad_below: float
    tokens_line: TokensLine
    blocks_line: bool
    merged_line: bool
    graphs_in_budget: bool
    in_flight: bool
    state_mode: StateMode
    non_torch: Band
    v0: bool


_UTILIZATION = (((0,), 0.90), ((0, 20, 0), 0.92))
_GROUPS = (((0,), False), ((0, 9, 1), True))
_PAD_BELOW = (((0,), 1.0), ((0, 12), 1.25), ((0, 18), 1.5))
_TOKENS_LINE = (
    ((0,), TokensLine.BLOCKS),
    ((0, 9, 1), TokensLine.PER_GROUP),
    ((0, 20, 1), TokensLine.CONCURRENCY),
)
_BLOCKS_LINE = (((0,), True), ((0, 8), False))
_MERGED_LINE = (((0,), False), ((0, 28), True))
_GRAPHS_IN_BUDGET = (((0,), False), ((0, 20, 0), True))
_IN_FLIGHT = (((0,), False), ((0, 26), True))
_STATE_MODE = (((0,), StateMode.NONE), ((0, 28), StateMode.ALIGN))
_V0 = (((0,), True), ((0, 8), False))

# The sampler's dummy run keeps 16-bit logits, fp32 ones, and what sorting them takes:
# 38.4 to 39.6 bytes measured through 0.15. From 0.17 a Triton kernel masks in place, from
# 0.21 FlashInfer samples, by default; 6.3 bytes measured in 0.26 (two copies of logits).
_SAMPLER_BYTES = (
    ((0,), Band(low=2, middle=10, high=16)),
    ((0, 8), Band(low=31, middle=39, high=39.6)),
    ((0, 17), Band(low=6, middle=14, high=22)),
    ((0, 21), Band(low=6, middle=10, high=16)),
)

# A plan must not run out: where the release is not known, the largest peak is taken of
# those that have the model.
_SORTING: Version = (0, 10)

# Outside torch on one GPU: contexts and libraries. Old profilers counted more under it.
_NON_TORCH = (
    ((0,), Band(low=0.02 * GIB, middle=0.3 * GIB, high=0.6 * GIB)),
    ((0, 8), Band(low=0.02 * GIB, middle=0.08 * GIB, high=0.15 * GIB)),
)
# HIP maps a kernel's code when it is first run: 0.6 to 3.7 GiB in start-up logs of one
# machine, by release and attention kernel, on one GPU and on two.
_NON_TORCH_AMD = Band(low=0.5 * GIB, middle=1.2 * GIB, high=3.7 * GIB)
_NON_TORCH_SEVERAL = (
    (8, Band(low=0.6 * GIB, middle=2.0 * GIB, high=3.6 * GIB)),
    (2, Band(low=0.3 * GIB, middle=0.5 * GIB, high=0.6 * GIB)),
)

# Python, CUDA's libraries and what loading leaves in the host's memory, where that is shared.
_HOST = Band(low=1.0 * GIB, middle=2.0 * GIB, high=3.0 * GIB)


def policy(version: Version | None) -> Policy:
    """The rules of `version`; of the newest release where it is not known."""
    return Policy(
        utilization=pick(_UTILIZATION, version),
        groups=pick(_GROUPS, version),
        pad_below=pick(_PAD_BELOW, version),
        tokens_line=pick(_TOKENS_LINE, version),
        blocks_line=pick(_BLOCKS_LINE, version),
        merged_line=pick(_MERGED_LINE, version),
        graphs_in_budget=pick(_GRAPHS_IN_BUDGET, version),
        in_flight=pick(_IN_FLIGHT, version),
        state_mode=pick(_STATE_MODE, version),
        non_torch=pick(_NON_TORCH, version),
        v0=pick(_V0, version),
    )


class Defaults(msgspec.Struct, frozen=True, kw_only=True):
    """What `vllm serve` runs with where no flag says otherwise."""

    max_num_batched_tokens: int
    max_num_seqs: int


# By a GPU's memory: at least so much of it, tokens of a step, sequences. A100s take the
# least from 0.9 on, GB10 from 0.31 on.
_SMALL = (0, 2048, 256)
_LARGE = (70 * GIB, 8192, 1024)
_DEFAULTS = (
    ((0,), (_LARGE, _SMALL)),
    ((0, 28), ((160 * GIB, 16384, 1024), _LARGE, _SMALL)),
)
_NOT_LARGE = (((0,), ()), ((0, 9), ("a100",)), ((0, 31), ("a100", "gb10")))
_V0_CHUNKED = 32768


def defaults(
    version: Version | None, total_bytes: int | None, gpu_name: str, max_model_len: int | None
) -> Defaults:
    """Defaults of the server by GPU: large ones other than A100 take more.

    V0 runs a whole prompt in one step, and chunks it where max_model_len is over 32k.

    Source: vLLM, `get_batch_defaults` (0.8.5: `_set_default_args_v1`).
    """
    if policy(version).v0:
        length = max_model_len or 0
        whole = 2048 if length > _V0_CHUNKED else max(2048, length)
        return Defaults(max_num_batched_tokens=whole, max_num_seqs=256)
    small = any(name in gpu_name.lower() for name in pick(_NOT_LARGE, version))
    memory = 0 if small else total_bytes or 0
    tokens, sequences = next(
        (tokens, sequences)
        for least, tokens, sequences in pick(_DEFAULTS, version)
        if memory >= least
    )
    return Defaults(max_num_batched_tokens=tokens, max_num_seqs=sequences)


# On AMD's GPUs the loading figure is what the device has in use (through 0.20), else what
# torch has allocated; of that, 0.07 to 0.08 GiB are code that HIP loads.
_DEVICE_USED = (((0,), True), ((0, 22), False))
_HIP_CODE = int(0.075 * GIB)


def loader(version: Version | None, gpu: HardwareSpec | None, scheme: Scheme, words: str) -> Loader:
    """How the release loads weights stored as `scheme` on `gpu`, and what its figure counts.

    Without Marlin, which AMD's GPUs do not have, packed experts are transposed as they are
    loaded, a layer at a time. `words` of a log may name the kernel.

    Source: vLLM, `platforms/rocm.py` (`get_current_memory_usage`), `compressed_tensors_moe.py`.
    """
    pad = _mxfp4_pad(gpu, words) if "mxfp4" in scheme.name else None
    if gpu is None or gpu.vendor != "amd" or not pick(_DEVICE_USED, version):
        return Loader(pad=pad)
    packed = scheme.layout is not None and scheme.layout.bits < 8
    return Loader(pad=pad, device_used=True, mapped_bytes=_HIP_CODE, transposed=packed)


def _mxfp4_pad(gpu: HardwareSpec | None, words: str) -> Pad:
    """What the MXFP4 kernels round experts up to: Marlin both sizes, Hopper's hidden alone.

    Source: vLLM, `layers/quantization/mxfp4.py`.
    """
    target = gpu.target if gpu is not None else None
    if "marlin" in words.lower() or (target or "sm_90") < "sm_90":
        return Pad(hidden=256, inner=128)
    return Pad(hidden=256)


def sampler_bytes(version: Version | None, since: Version | None = None) -> Band:
    """Bytes a sequence and vocabulary entry at the peak of the sampler's profiling run."""
    return pick(_SAMPLER_BYTES, max(since or _SORTING, _SORTING) if version is None else version)


def non_torch(version: Version | None, gpus: int, *, unified: bool, vendor: str = "") -> Band:
    """Bytes outside torch on a GPU: several have buffers of collectives besides.

    Where memory is the CPU's too, the server's own processes take of it while they load.
    """
    if vendor == "amd":
        return _NON_TORCH_AMD
    alone = policy(version).non_torch
    band = next((band for least, band in _NON_TORCH_SEVERAL if gpus >= least), alone)
    return band + _HOST if unified else band


_STATE_ALIGN = 16
# With MLA an attention block is a whole number of the kernels' blocks.
_LATENT_ALIGN = (((0,), 64), ((0, 29), 128))
_SCAN = 2048  # of a scan whose configuration does not say


def state_align(version: Version | None, *, latent: bool, mode: StateMode, scan: int) -> int:
    """What the attention block of a hybrid is a multiple of.

    Where a state is kept a block (mode all), also of the tokens that a `scan` reads at once.

    Source: vLLM, `HybridAttentionMambaModelConfig`, from 0.18 on `_align_hybrid_block_size`.
    """
    align = pick(_LATENT_ALIGN, version) if latent else _STATE_ALIGN
    return math.lcm(align, scan or _SCAN) if mode is StateMode.ALL else align


def batches_in_flight(version: Version | None, pp: int) -> int:
    """Batches whose tokens a window keeps: 1, or pp, or two with asynchronous scheduling."""
    if not policy(version).in_flight:
        return 1
    return 2 if pp <= 1 else pp


def lines(
    version: Version | None,
    *,
    tokens: int | None,
    blocks: int,
    concurrency: float | None,
    max_model_len: int | None,
) -> tuple[str, ...]:
    """The lines that this release prints for such a pool."""
    rules = policy(version)
    if rules.blocks_line:
        said = [f"# GPU blocks: {blocks}"]
    else:
        said = [f"GPU KV cache size: {tokens:,} tokens"] if tokens is not None else []
    if concurrency is not None and max_model_len is not None:
        length = f"{max_model_len}" if rules.v0 else f"{max_model_len:,}"
        said.append(f"Maximum concurrency for {length} tokens per request: {concurrency:.2f}x")
    return (", ".join(said),) if rules.merged_line else tuple(said)
