"""Predicted time of kernels that are not one tiled attention: eager, and linear in length.

Eager attention writes its scores out and goes over them again and again, at the rate of
memory; feature maps and projections are products of tall matrices, bound by the tensor
cores or by their operands.
"""

from attnbench.calc.attention_cost import Cost
from attnbench.calc.attention_time import HBM, L2, LATENCY, TENSOR, AttentionTime, Constants
from attnbench.calc.attention_work import Chip, Work
from attnbench.calc.prefill_time import hot_part
from attnbench.spec.attention import Mode

# Passes over the scores that PyTorch's eager attention makes: product out, scale in and
# out, softmax in and out, product in; a mask is made, applied and read back besides.
# Measured: 6.0 and 10 on an A100, 6.4 and 11 on an H100 (docs/roofline.md).
SCORE_PASSES = 6
MASK_PASSES = 4
_EAGER_KERNELS = 5
_BACKWARD = 2  # passes of a backward over those of a forward
_FEATURE_KERNELS = 6


def eager_time(work: Work, chip: Chip, constants: Constants) -> AttentionTime:
    """Time of attention whose scores go to memory and back; a pattern's, those it attends."""
    heads = work.batch * work.heads
    elements = work.pairs if work.seen is not None else heads * work.seq_q * work.seq_kv
    passes = SCORE_PASSES + (MASK_PASSES if work.causal and work.seq_q > 1 else 0)
    times = {Mode.BWD: _BACKWARD, Mode.FWD_BWD: 1 + _BACKWARD}.get(work.mode, 1)
    moved = work.bytes_min + work.dtype.bytes_of(elements) * passes * times
    flops = 2 * elements * (work.head_dim + work.value_dim) * times
    return _plain(flops, moved, _EAGER_KERNELS * times, work, chip, constants, together=False)


def feature_time(cost: Cost, work: Work, chip: Chip, constants: Constants) -> AttentionTime:
    """Time of a variant with no scores: its own FLOPs and bytes at calibrated rates."""
    return _plain(
        cost.flops, cost.bytes_min, _FEATURE_KERNELS, work, chip, constants, together=True
    )


def _plain(
    flops: int,
    moved: int,
    kernels: int,
    work: Work,
    chip: Chip,
    constants: Constants,
    *,
    together: bool,
) -> AttentionTime:
    c = constants.prefill
    tensor_s = flops / (chip.peak(work.dtype) * c.tensor_efficiency[1])
    hot = hot_part(moved, chip.l2_bytes)
    memory_s = moved / chip.bytes_per_s / c.bandwidth_efficiency
    memory_s *= 1 - hot + hot / c.l2_speedup
    # A kernel after the first finds the GPU awake: a fraction of a launch is left.
    launch_s = c.launch_s * (1 + (kernels - 1) / 4)
    total_s = launch_s + (max(tensor_s, memory_s) if together else tensor_s + memory_s)
    causes = {TENSOR: tensor_s, (L2 if hot > 0.5 else HBM): memory_s, LATENCY: launch_s}
    ideal_s = max(flops / chip.peak(work.dtype), moved / chip.bytes_per_s)
    band = max(constants.prefill_band, 2.0)  # no row of these was fitted
    return AttentionTime(
        time_s=total_s,
        time_s_low=total_s / band,
        time_s_high=total_s * band,
        bound=max(causes, key=lambda name: causes[name]),
        causes_s=causes,
        ideal_s=ideal_s,
        fraction_of_peak=ideal_s / total_s,
        origin=constants.prefill_origin,
    )
