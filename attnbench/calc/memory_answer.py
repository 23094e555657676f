"""Everything that `memory` answers: the parts, whether they fit, and what that rests on."""

from collections.abc import Iterator

import msgspec

from attnbench.calc.activations import Recompute
from attnbench.calc.memory import Memory, Serving, Training, overhead_per_gpu, serving, training
from attnbench.calc.parallel import Parallel
from attnbench.calc.quantization import Scheme, plain_scheme
from attnbench.calc.training import Optimizer
from attnbench.calc.training_cost import TrainingCost, training_cost
from attnbench.errors import AttnbenchError
from attnbench.spec.dtype import Dtype
from attnbench.spec.hardware import HardwareSpec
from attnbench.spec.model import ModelSpec, Recurrent, Role
from attnbench.units import format_gb, format_gib

_TRIED_DTYPES = (Dtype.FP8_E4M3, Dtype.INT8, Dtype.INT4)


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One question: a model, how its weights are stored, what is run, on what.

    `overhead` None takes the stated assumption. `weight_note` says what chose the dtype.
    """

    model: ModelSpec
    scheme: Scheme
    work: Serving | Training
    parallel: Parallel = Parallel()
    gpu: HardwareSpec | None = None
    utilization: float = 0.9
    overhead: int | None = None
    weight_note: str = ""

    @property
    def as_stored(self) -> bool:
        """Whether the weights count as the file they were read from holds them."""
        return self.model.stored_bytes is not None and isinstance(self.work, Serving)

    @property
    def weights_in(self) -> str:
        """The weights' format in a few words."""
        return "the file's formats" if self.as_stored else self.scheme.name

    @property
    def budget_bytes(self) -> int | None:
        """Bytes of one GPU that may be used, or None where no GPU is named."""
        return None if self.gpu is None else int(self.gpu.memory_bytes * self.utilization)


class MemoryAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a request; `fits` None where no GPU is named, `cost` that of training."""

    request: Request
    memory: Memory
    fits: bool | None
    cost: TrainingCost | None
    assumptions: tuple[str, ...]


def evaluate(request: Request) -> Memory:
    """The memory that `request` needs.

    Raises:
        UserError: the split does not go round, or adapters find no layer.
    """
    overhead = request.overhead
    if overhead is None:
        overhead = overhead_per_gpu(request.parallel)
    if isinstance(request.work, Serving):
        return serving(request.model, request.scheme, request.work, request.parallel, overhead)
    return training(request.model, request.scheme, request.work, request.parallel, overhead)


def answer(request: Request) -> MemoryAnswer:
    """The memory that `request` needs, whether it fits, and what the figures rest on.

    Raises:
        UserError: the split does not go round, or adapters find no layer.
    """
    memory = evaluate(request)
    budget = request.budget_bytes
    return MemoryAnswer(
        request=request,
        memory=memory,
        fits=None if budget is None else memory.per_gpu_bytes <= budget,
        cost=_cost(request, memory) if isinstance(request.work, Training) else None,
        assumptions=tuple(_assumptions(request)),
    )


def _cost(request: Request, memory: Memory) -> TrainingCost:
    work = request.work
    assert isinstance(work, Training)
    # Frozen weights may be stored in fewer bits; they are multiplied in 16.
    dtype = request.scheme.dtype if request.scheme.dtype.bits >= 16 else Dtype.BF16
    return training_cost(
        request.model,
        seq_len=work.seq_len,
        tokens=work.tokens,
        gpus=memory.gpus,
        peak_flops_per_s=None if request.gpu is None else request.gpu.peak_flops_per_s(dtype),
        mfu=work.mfu,
        adapters=memory.trainable if work.lora else None,
    )


def refusal(found: MemoryAnswer) -> AttnbenchError | None:
    """The error (exit 1) that says by how much it does not fit and what would; else None."""
    request = found.request
    if found.fits is not False or request.gpu is None:
        return None
    per_gpu = found.memory.per_gpu
    budget = request.budget_bytes or 0
    alone = per_gpu.weights_bytes > budget
    need = per_gpu.weights_bytes if alone else per_gpu.total
    each = " on each GPU" if request.parallel.gpus > 1 else ""
    message = (
        f"{request.model.name} in {request.weights_in} needs {_gb(need)}{each}"
        f"{' for weights alone' if alone else ''}; {request.gpu.name} has "
        f"{_gb(request.gpu.memory_bytes)}, of which {_gb(budget)} at "
        f"--utilization {request.utilization:g}"
    )
    ways = [way for way, changed in _ways_out(request) if _fits(changed)]
    return AttnbenchError(message, hint=f"Try {' or '.join(ways[:3])}." if ways else None)


def _gb(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:,.1f} GB"


def _fits(request: Request) -> bool:
    return evaluate(request).per_gpu_bytes <= (request.budget_bytes or 0)


def _ways_out(request: Request) -> Iterator[tuple[str, Request]]:
    """Changes of one thing each that might make it fit: the smallest tp, a dtype, a setting."""
    work, parallel = request.work, request.parallel
    heads, tp = max(request.model.heads, 1), parallel.tp * 2
    while tp <= 64 and heads % tp == 0:
        wider = msgspec.structs.replace(request, parallel=_with_tp(parallel, tp))
        if _fits(wider):
            yield f"--tp {tp}", wider
            break
        tp *= 2
    if isinstance(work, Serving):
        for dtype in _TRIED_DTYPES:
            narrower = msgspec.structs.replace(
                request,
                scheme=plain_scheme(dtype, request.scheme.dtype),
                model=msgspec.structs.replace(request.model, stored_bytes=None, stored_parts=None),
            )
            if _fits(narrower):
                yield f"--weight-dtype {dtype}", narrower
                break
        return
    steps = list(Recompute)
    for recompute in steps[steps.index(work.recompute) + 1 :]:
        changed = msgspec.structs.replace(work, recompute=recompute)
        yield f"--recompute {recompute}", msgspec.structs.replace(request, work=changed)
    if parallel.dp > 1:
        for zero in range(work.zero + 1, 4):
            changed = msgspec.structs.replace(work, zero=zero)
            yield f"--zero {zero}", msgspec.structs.replace(request, work=changed)
    if work.optimizer is Optimizer.ADAMW:
        changed = msgspec.structs.replace(work, optimizer=Optimizer.ADAMW_8BIT)
        yield "--optimizer adamw-8bit", msgspec.structs.replace(request, work=changed)


def _with_tp(parallel: Parallel, tp: int) -> Parallel:
    """`parallel` over `tp` ranks; experts that were dealt to all of them still are."""
    ep = tp if parallel.ep == parallel.tp > 1 else parallel.ep
    return msgspec.structs.replace(parallel, tp=tp, ep=ep)


def _assumptions(request: Request) -> Iterator[str]:
    parallel = request.parallel
    if request.as_stored:
        yield "weights: the bytes that the file holds"
    else:
        yield f"weights: {request.scheme.note or f'every tensor in {request.scheme.name}'}"
        if request.weight_note:
            yield request.weight_note
    yield from (
        _of_serving(request.work) if isinstance(request.work, Serving) else _of_training(request)
    )
    yield from _left_out(request.model)
    overhead = request.overhead
    if overhead is None:
        yield (
            f"overhead: {format_gib(overhead_per_gpu(parallel))} a GPU, an assumption: context, "
            "kernels, allocator slack" + (", collectives" if parallel.gpus > 1 else "")
        )
    else:
        yield f"overhead: {format_gib(overhead)} a GPU, as asked"
    if parallel.gpus > 1:
        yield (
            "whole model: one replica, each number once, activations and overhead on each of its "
            "GPUs; fullest GPU: with what is copied from rank to rank"
        )
    if request.gpu is not None:
        yield (
            f"{request.gpu.name}: {format_gb(request.gpu.memory_bytes)} "
            f"({request.gpu.memory_meaning}), of which {request.utilization:g} may be used"
        )


def _left_out(model: ModelSpec) -> Iterator[str]:
    """What the activations' formula does not see of some architectures."""
    if any(tensor.role is Role.VISION for tensor, _ in model.parameters()):
        yield "vision or audio tower: its weights are counted, its activations are not"
    if any(isinstance(m, Recurrent) for layer in model.layers for m in layer.mixers):
        yield "recurrent layers: activations of their projections; a scan's own buffers are not"


def _of_serving(work: Serving) -> Iterator[str]:
    yield (
        f"cache: {work.batch} x {work.seq_len:,} tokens in {work.cache.dtype}, "
        f"{work.cache.semantics} semantics, no page padding"
    )
    yield (
        f"activations: one forward pass over {work.step_tokens:,} tokens and the logits of "
        f"{work.max_num_seqs or work.batch:,} sequences; attention keeps no scores "
        "(FlashAttention); an engine's sampler and CUDA graphs take more"
    )


def _of_training(request: Request) -> Iterator[str]:
    work = request.work
    assert isinstance(work, Training)
    wide = request.scheme.dtype.bits >= 32 and request.scheme.layout is None
    if wide:
        yield "fp32 training: gradients in fp32, no master copy"
    else:
        kept = "fp32 master weights" if work.master_weights else "no master weights"
        yield f"mixed precision: gradients in 16 bits, {kept} (among optimizer bytes)"
    yield f"optimizer: {work.optimizer}, ZeRO stage {work.zero} over dp {request.parallel.dp}"
    yield (
        f"activations: micro-batches of {work.batch} x {work.seq_len:,} tokens, --recompute "
        f"{work.recompute}, after Korthikanti et al. 2022 with its dropout masks"
    )
    if work.recompute == "none":
        yield "the attention core keeps its scores; FlashAttention does not: --recompute selective"
    if request.parallel.pp > 1:
        yield "pipeline: 1F1B, so stage i of p holds p - i micro-batches"
    if work.lora is not None:
        yield (
            f"adapters: rank {work.lora.rank} beside {', '.join(work.lora.targets)}; "
            "the model's own weights frozen"
        )
    yield "not counted: fragmentation, gradients of activations, ZeRO's gathering buffers"
    why = "as asked" if work.tokens else "20 for each active parameter (Hoffmann et al. 2022)"
    yield f"training cost: tokens {why}; 6ND FLOPs and attention's, nothing recomputed"
    if request.gpu is not None:
        yield f"days: {work.mfu:g} of the dense peak is used (MFU), a stated share: --mfu"
