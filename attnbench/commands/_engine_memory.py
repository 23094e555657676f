"""`memory --engine`: from the plain answer to the engine's own."""

from attnbench.calc.engine_kinds import placed
from attnbench.calc.memory import Serving
from attnbench.calc.memory_answer import MemoryAnswer
from attnbench.catalog.quantization_config import own_dtype
from attnbench.engines import vllm
from attnbench.engines.cache_answer import parse_engine
from attnbench.engines.launch import Launch, state_dtype
from attnbench.engines.memory_answer import EngineMemory, Solve
from attnbench.engines.memory_answer import answer as solved
from attnbench.errors import AttnbenchError, UserError, unknown_name
from attnbench.report.engine_memory import with_engine

__all__ = ["answer", "refuse", "with_engine"]


def answer(
    plain: MemoryAnswer, engine: str, utilization: float | None, solve: str | None
) -> EngineMemory:
    """What the engine makes of the model, GPU and split of `plain`.

    Raises:
        UserError: training, no GPU, or an engine whose budget is not known.
    """
    request = plain.request
    work, gpu = request.work, request.gpu
    name, version = parse_engine(engine)
    if name != vllm.NAME:
        raise UserError(f"--engine: the budget of {name} is not known", hint="Try vllm.")
    if not isinstance(work, Serving):
        raise UserError("--engine is for --mode inference")
    if gpu is None:
        raise UserError("--engine needs --gpu: its budget is a share of a GPU's memory")
    if solve is not None and solve not in list(Solve):
        raise unknown_name("--solve", solve, [str(kind) for kind in Solve])
    model = request.model
    launch = Launch(
        layers=placed(model),
        version=vllm.version_of(version),
        tp=request.parallel.tp,
        pp=request.parallel.pp,
        kv=work.cache.dtype,
        model_dtype=own_dtype(model),
        state_dtype=state_dtype(model),
        max_model_len=work.seq_len,
        max_num_batched_tokens=work.max_num_batched_tokens,
        max_num_seqs=work.max_num_seqs,
        encoder_len=work.encoder_len or model.encoder_length or work.seq_len,
        gpu_total=gpu.memory_bytes,
        gpu_name=gpu.name,
        unified_memory=gpu.unified_memory,
        utilization=utilization,
        loader=vllm.loader(vllm.version_of(version), gpu, request.scheme, ""),
    )
    asked = None if solve is None else Solve(solve)
    return solved(launch, model, request.scheme, batch=work.batch, solve=asked)


def refuse(made: EngineMemory) -> None:
    """Raise (exit 1) where the requests asked for do not fit at once.

    Raises:
        AttnbenchError: they do not fit.
    """
    if made.fits or made.asked is not None:
        return
    need = made.pool.blocks_of_request
    message = f"one request of {made.launch.max_model_len:,} tokens takes {need:,} blocks; "
    message += f"the engine has {made.pool.blocks:,}: {made.users} fit at once"
    hint = f"The longest that one may be is {made.pool.longest:,}." if made.pool.longest else None
    raise AttnbenchError(message, hint=hint or "Try --solve gpus.")
