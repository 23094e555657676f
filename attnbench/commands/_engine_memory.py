"""`memory --engine`: from the plain answer to the engine's own."""

from typing import Any

from attnbench.calc.engine_kinds import placed
from attnbench.calc.engine_weights import weights_on_rank
from attnbench.calc.memory import Serving
from attnbench.calc.memory_answer import MemoryAnswer, Request
from attnbench.calc.parallel import Parallel
from attnbench.catalog import load_model
from attnbench.catalog.quantization_config import own_dtype, scheme_of
from attnbench.engines import llama_cpp, sglang, vllm
from attnbench.engines._versions import parse_version
from attnbench.engines.cache_ask import drafter_of, ggml_type, mode_of, parse_engine
from attnbench.engines.engine_memory import EngineMemory, Solve, Start
from attnbench.engines.engine_memory import answer as solved
from attnbench.engines.launch import Launch, state_dtype
from attnbench.engines.llama_start import LlamaStart
from attnbench.engines.options import DS_MLA, Options, check
from attnbench.engines.sglang_start import SglangStart
from attnbench.engines.vllm_start import VllmStart
from attnbench.errors import AttnbenchError, UserError, unknown_name
from attnbench.report.engine_memory import with_engine
from attnbench.spec.hardware import HardwareSpec
from attnbench.spec.model import Latent
from attnbench.units import MIB

__all__ = ["answer", "refuse", "with_engine"]


def answer(plain: MemoryAnswer, engine: str, options: Options, solve: str | None) -> EngineMemory:
    """What the engine makes of the model, GPU and split of `plain`.

    Raises:
        UserError: training, no GPU, or an option that the engine does not have.
    """
    request = plain.request
    name, version = parse_engine(engine, what="--engine")
    if not isinstance(request.work, Serving):
        raise UserError("--engine is for --mode inference")
    if request.gpu is None:
        raise UserError("--engine needs --gpu: its budget is a share of a GPU's memory")
    if solve is not None and solve not in list(Solve):
        raise unknown_name("--solve", solve, [str(kind) for kind in Solve])
    check(name, options)
    start = _STARTS[name](request, request.work, request.gpu, version, options)
    return solved(start, request.work.batch, None if solve is None else Solve(solve))


def _vllm(
    request: Request, work: Serving, gpu: HardwareSpec, version: str | None, options: Options
) -> Start:
    model, tp = request.model, request.parallel.tp
    if options.ds_mla and not any(isinstance(m, Latent) for m, _ in placed(model)):
        raise UserError(f"--kv-dtype {DS_MLA}: {model.name} has no MLA layer")
    if options.dcp > 1 and tp % options.dcp:
        raise UserError(f"--dcp: {options.dcp} does not divide --tp {tp}")
    launch = Launch(
        layers=placed(model),
        version=vllm.version_of(version),
        since=vllm.has_since(model.model_type),
        tp=tp,
        pp=request.parallel.pp,
        dcp=options.dcp,
        kv=work.cache.dtype,
        ds_mla=options.ds_mla,
        model_dtype=own_dtype(model),
        state_dtype=state_dtype(model),
        block=options.page_size or vllm.BLOCK,
        max_model_len=work.seq_len,
        max_num_batched_tokens=work.max_num_batched_tokens,
        max_num_seqs=work.max_num_seqs,
        speculative=options.speculative,
        drafts=options.drafts,
        drafter=drafter_of(options),
        drafter_bytes=_drafter_bytes(request, options),
        state_mode=mode_of(options),
        encoder_len=work.encoder_len or model.encoder_length or work.seq_len,
        gpu_total=gpu.memory_bytes,
        gpu_name=gpu.name,
        gpu_vendor=gpu.vendor,
        unified_memory=gpu.unified_memory,
        utilization=options.utilization,
        loader=vllm.loader(vllm.version_of(version), gpu, request.scheme, ""),
    )
    return VllmStart(launch=launch, model=model, scheme=request.scheme)


def _sglang(
    request: Request, work: Serving, gpu: HardwareSpec, version: str | None, options: Options
) -> Start:
    model = request.model
    printed = gpu.measured.driver_memory_bytes if gpu.measured else None
    return SglangStart(
        model=model,
        scheme=request.scheme,
        total=gpu.memory_bytes,
        gpu_mib=(printed or gpu.memory_bytes) / MIB,
        version=parse_version(version),
        tp=request.parallel.tp,
        pp=request.parallel.pp,
        kv=work.cache.dtype,
        model_dtype=own_dtype(model),
        state_dtype=state_dtype(model),
        length=work.seq_len,
        utilization=options.utilization,
        page_size=options.page_size,
        chunk=work.max_num_batched_tokens,
        running=work.max_num_seqs,
        drafts=options.drafts,
        drafter=drafter_of(options),
        drafter_bytes=_drafter_bytes(request, options),
        drafted=bool(options.drafts or options.speculative or options.draft_model),
        loader=vllm.loader(None, gpu, request.scheme, ""),
    )


def _llama(
    request: Request, work: Serving, gpu: HardwareSpec, version: str | None, options: Options
) -> Start:
    if request.parallel.tp > 1:
        raise UserError("--tp: llama.cpp deals layers to GPUs", hint="Say --pp instead.")
    return LlamaStart(
        model=request.model,
        scheme=request.scheme,
        total=gpu.memory_bytes,
        version=parse_version(version),
        cards=request.parallel.pp,
        kind=ggml_type(work.cache.dtype),
        length=work.seq_len,
        utilization=options.utilization,
        ubatch=work.max_num_batched_tokens or llama_cpp.UBATCH,
        unified=options.unified,
        offloaded=options.gpu_layers,
    )


_STARTS: dict[str, Any] = {vllm.NAME: _vllm, sglang.NAME: _sglang, llama_cpp.NAME: _llama}


def _drafter_bytes(request: Request, options: Options) -> int:
    """Weights of the draft model on one GPU: it is split as the model is, on the last stage."""
    if options.draft_model is None:
        return 0
    drafter = load_model(options.draft_model)
    ranks = Parallel(tp=request.parallel.tp)
    return weights_on_rank(drafter, scheme_of(drafter), ranks)


def refuse(made: EngineMemory) -> None:
    """Raise (exit 1) where the requests asked for do not fit at once.

    Raises:
        AttnbenchError: they do not fit.
    """
    if made.fits or made.asked is not None:
        return
    if made.cache.middle <= 0:
        message = f"{made.engine}: no memory is left for the cache beside the weights"
    else:
        message = f"one request of {made.length:,} tokens takes {made.blocks_of_request:,} "
        message += f"{made.unit}; {made.engine} has {made.blocks:,}: {made.users} fit at once"
    hint = f"The longest that one may be is {made.longest:,}." if made.longest else None
    raise AttnbenchError(message, hint=hint or "Try --solve gpus.")
