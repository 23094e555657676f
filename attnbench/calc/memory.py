"""Memory of a model: what serving it holds, or training it, in all and on the fullest GPU.

    total = weights + cache + activations + gradients + optimizer + overhead

Whole-model figures count each number once (one replica; activations and overhead once
for each of its GPUs); the GPU's are those of the fullest rank of the fullest stage,
with what is copied from rank to rank.
"""

from typing import NamedTuple

import msgspec

from attnbench.calc import parallel as split
from attnbench.calc.activations import Recompute, forward_peak, saved_by_stage
from attnbench.calc.kv_cache import Rules, kv_cache_bytes, layer_bytes
from attnbench.calc.parallel import Parallel
from attnbench.calc.params import Params, count
from attnbench.calc.quantization import Scheme, plain_scheme
from attnbench.calc.stages import held_by, stage_ranges
from attnbench.calc.training import Lora, Optimizer, adapters, left_by_zero, state_bytes
from attnbench.spec.dtype import Dtype
from attnbench.spec.model import Layer, ModelSpec
from attnbench.units import MIB

CONTEXT_BYTES = 256 * MIB
COLLECTIVES_BYTES = 512 * MIB
DEFAULT_BATCHED_TOKENS = 8192


class Serving(msgspec.Struct, frozen=True, kw_only=True):
    """What is served: `batch` sequences of `seq_len` tokens on each replica.

    One step runs at most `max_num_batched_tokens` tokens and samples for at most
    `max_num_seqs` sequences; None: all of the batch, of the tokens at most 8,192.
    """

    seq_len: int
    batch: int
    cache: Rules
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    encoder_len: int | None = None

    @property
    def step_tokens(self) -> int:
        """Tokens of the largest step."""
        return self.max_num_batched_tokens or min(self.seq_len * self.batch, DEFAULT_BATCHED_TOKENS)


class Training(msgspec.Struct, frozen=True, kw_only=True):
    """How a model is trained: micro-batches of `batch` sequences of `seq_len` tokens.

    `tokens` of the whole run, None for as many as suit the model; `mfu` a stated share.
    """

    seq_len: int
    batch: int
    optimizer: Optimizer = Optimizer.ADAMW
    zero: int = 0
    recompute: Recompute = Recompute.NONE
    master_weights: bool = True
    sequence_parallel: bool = False
    lora: Lora | None = None
    tokens: int | None = None
    mfu: float = 0.4


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes by what they hold."""

    weights_bytes: int = 0
    kv_cache_bytes: int = 0
    activation_bytes: int = 0
    gradient_bytes: int = 0
    optimizer_bytes: int = 0
    overhead_bytes: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return sum(getattr(self, name) for name in self.__struct_fields__)


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """The answer: parameters, the whole model's parts, and those of the fullest GPU.

    `trainable` parameters get gradients (training). `stage` is the fullest GPU's.
    """

    params: Params
    whole: Parts
    per_gpu: Parts
    stage: int
    gpus: int
    trainable: int = 0

    @property
    def total_bytes(self) -> int:
        """Bytes of one replica, each number once."""
        return self.whole.total

    @property
    def per_gpu_bytes(self) -> int:
        """Bytes on the fullest GPU."""
        return self.per_gpu.total


class _Stage(NamedTuple):
    """A pipeline stage: its number, the kinds of layer it holds and how many of each."""

    number: int
    encoder: list[tuple[Layer, int]]
    decoder: list[tuple[Layer, int]]
    last: bool

    @property
    def layers(self) -> list[tuple[Layer, int]]:
        return self.encoder + self.decoder


def overhead_per_gpu(parallel: Parallel) -> int:
    """Bytes a GPU that are nobody's tensor: 256 MiB, and 512 MiB more among several GPUs.

    An assumption: a context, loaded kernels and allocator slack; buffers of collectives.
    vLLM's logs print 0.02 to 0.15 GiB outside torch on one GPU, 0.3 to 0.6 on two to four.
    """
    return CONTEXT_BYTES + (COLLECTIVES_BYTES if parallel.gpus > 1 else 0)


def weights_bytes(model: ModelSpec, scheme: Scheme) -> int:
    """Bytes of the weights as `scheme` stores them, scales included, each tensor once.

    Unit: bytes.
    """
    whole = Parallel()
    return sum(scheme.bytes_of(p.tensor, p.indices) for p in split.pieces(model, whole, 0))


def serving(
    model: ModelSpec, scheme: Scheme, work: Serving, parallel: Parallel, overhead: int
) -> Memory:
    """Memory of inference. `overhead` bytes stand on each GPU besides.

    Raises:
        UserError: heads, layers or experts do not go round.
    """
    split.check(model, parallel)
    stored, summed = model.stored_bytes, weights_bytes(model, scheme)
    size = max(scheme.dtype.bits // 8, 2)

    def on_rank(stage: _Stage) -> Parts:
        weights = _on_rank(model, scheme, parallel, stage.number)
        cache = sum(
            layer_bytes(
                model, layer, work.seq_len, work.cache, work.encoder_len, tp=parallel.tp
            ).total
            * copies
            for layer, copies in stage.decoder
        )
        activations = forward_peak(
            model,
            [layer for layer, _ in stage.layers],
            tokens=work.step_tokens,
            sequences=work.max_num_seqs or work.batch,
            tp=parallel.tp,
            outermost=stage.last,
            size=size,
        )
        if stored is not None:  # the file's own count, dealt out as the sum is
            weights = -(-weights * stored // summed)
        return Parts(
            weights_bytes=weights,
            kv_cache_bytes=cache * work.batch,
            activation_bytes=activations,
            overhead_bytes=overhead,
        )

    ranks = [on_rank(stage) for stage in _stages(model, parallel.pp)]
    cache = kv_cache_bytes(
        model,
        seq_len=work.seq_len,
        batch=work.batch,
        rules=work.cache,
        encoder_len=work.encoder_len,
    )
    whole = Parts(
        weights_bytes=summed if stored is None else stored,
        kv_cache_bytes=cache.total,
        activation_bytes=parallel.tp * sum(rank.activation_bytes for rank in ranks),
        overhead_bytes=overhead * parallel.tp * parallel.pp,
    )
    return _memory(model, whole, ranks, parallel)


def training(
    model: ModelSpec, scheme: Scheme, work: Training, parallel: Parallel, overhead: int
) -> Memory:
    """Memory of training: 16-bit weights have fp32 master copies, gradients the weights' dtype.

    With Ψ trainable parameters in mixed precision under AdamW: 2Ψ weights, 2Ψ gradients,
    12Ψ optimizer (master, two moments). ZeRO divides optimizer, gradients and weights by
    the data-parallel ranks from stage 1, 2 and 3 on. With adapters the model's own
    weights are frozen, and the adapters are what is trained, in 16 bits.

    Source: Rajbhandari et al. 2020, arXiv:1910.02054, section 3.

    Raises:
        UserError: heads, layers or experts do not go round, or adapters find no layer.
    """
    split.check(model, parallel)
    lora = work.lora
    trained = adapters(model, lora) if lora else model
    states = plain_scheme(Dtype.BF16, Dtype.BF16) if lora else scheme
    wide = states.dtype.bits >= 32
    master = 4 if work.master_weights and not wide else 0
    size = 4 if wide else 2

    def state(piece: split.Piece) -> int:
        copies = len(piece.indices)
        per_layer = state_bytes(piece.tensor, work.optimizer) + master * piece.tensor.elements
        return per_layer * copies

    def on_rank(stage: _Stage) -> Parts:
        weights = _on_rank(model, scheme, parallel, stage.number, work.zero)
        gradients = optimizer = 0
        for piece in split.pieces(trained, parallel, stage.number):
            held = piece.share(states.bytes_of(piece.tensor, piece.indices))
            if lora:
                weights += left_by_zero(held, work.zero, 3, piece.copies)
            gradients += left_by_zero(held, work.zero, 2, piece.copies)
            optimizer += left_by_zero(piece.share(state(piece)), work.zero, 1, piece.copies)
        activations = saved_by_stage(
            model,
            stage.layers,
            seq_len=work.seq_len,
            batch=work.batch,
            parallel=parallel,
            recompute=work.recompute,
            in_flight=parallel.pp - stage.number,
            outermost=stage.last,
            size=size,
            sequence_parallel=work.sequence_parallel,
        )
        return Parts(
            weights_bytes=weights,
            gradient_bytes=gradients,
            optimizer_bytes=optimizer,
            activation_bytes=activations,
            overhead_bytes=overhead,
        )

    ranks = [on_rank(stage) for stage in _stages(model, parallel.pp)]
    alone = list(split.pieces(trained, Parallel(), 0))
    trainable = weights_bytes(trained, states)
    whole = Parts(
        weights_bytes=weights_bytes(model, scheme) + (trainable if lora else 0),
        gradient_bytes=trainable,
        optimizer_bytes=sum(state(piece) for piece in alone),
        activation_bytes=parallel.tp * sum(rank.activation_bytes for rank in ranks),
        overhead_bytes=overhead * parallel.tp * parallel.pp,
    )
    parameters = sum(piece.tensor.elements * len(piece.indices) for piece in alone)
    return _memory(model, whole, ranks, parallel, parameters)


def _on_rank(
    model: ModelSpec, scheme: Scheme, parallel: Parallel, stage: int, zero: int = 0
) -> int:
    """Bytes of weights on the fullest rank of `stage`."""
    return sum(
        left_by_zero(
            piece.share(scheme.bytes_of(piece.tensor, piece.indices)), zero, 3, piece.copies
        )
        for piece in split.pieces(model, parallel, stage)
    )


def _stages(model: ModelSpec, pp: int) -> list[_Stage]:
    def held(layers: tuple[Layer, ...]) -> list[list[tuple[Layer, int]]]:
        ranges = stage_ranges(sum(layer.count for layer in layers), pp)
        counts = [[(a, len(held_by(stage, a.indices))) for a in layers] for stage in ranges]
        return [[(layer, n) for layer, n in stage if n] for stage in counts]

    both = zip(held(model.encoder), held(model.layers), strict=True)
    return [_Stage(i, encoder, decoder, i == pp - 1) for i, (encoder, decoder) in enumerate(both)]


def _memory(
    model: ModelSpec, whole: Parts, ranks: list[Parts], parallel: Parallel, trainable: int = 0
) -> Memory:
    stage = max(range(len(ranks)), key=lambda number: ranks[number].total)
    return Memory(
        params=count(model),
        whole=whole,
        per_gpu=ranks[stage],
        stage=stage,
        gpus=parallel.gpus,
        trainable=trainable,
    )
