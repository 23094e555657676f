"""A start of vLLM: what `memory --engine vllm` answers with."""

from collections.abc import Iterator

import msgspec

from attnbench.calc.engine_pages import blocks_needed
from attnbench.calc.quantization import Scheme
from attnbench.engines import vllm
from attnbench.engines.engine_memory import EngineMemory
from attnbench.engines.launch import Launch, Pool, budget_of, pool
from attnbench.engines.vllm_refusal import refusal
from attnbench.errors import UserError
from attnbench.spec.model import ModelSpec


class VllmStart(msgspec.Struct, frozen=True, kw_only=True):
    """A launch of vLLM of a model whose weights stand in `scheme`."""

    launch: Launch
    model: ModelSpec
    scheme: Scheme

    @property
    def limit(self) -> int | None:
        """The longest context that the model states."""
        return self.model.max_position

    @property
    def gpus(self) -> int:
        """GPUs of the replica."""
        return self.launch.tp * self.launch.pp

    def of_length(self, tokens: int) -> "VllmStart":
        """The same start with this max_model_len."""
        return self._with(max_model_len=tokens)

    def at(self, utilization: float) -> "VllmStart":
        """The same start with this gpu_memory_utilization."""
        return self._with(utilization=utilization)

    def widened(self) -> Iterator["VllmStart"]:
        """The same start over 1, 2, 4 .. tensor-parallel ranks, context-parallel ones less."""
        tp = 1
        while True:
            yield self._with(tp=tp, dcp=min(self.launch.dcp, tp))
            tp *= 2

    def made(self, batch: int) -> EngineMemory:
        """The budget of one GPU, and the pool on the rank and stage that decide.

        Raises:
            UserError: no GPU is named, or the split does not suit the model.
        """
        launch = self.launch
        terms = budget_of(launch, self.model, self.scheme)
        if terms is None or launch.max_model_len is None:
            raise UserError("--engine needs --gpu: its budget is a share of a GPU's memory")
        found, low, high = (
            pool(launch, max(0, int(size)))
            for size in (terms.cache.middle, terms.cache.low, terms.cache.high)
        )
        return EngineMemory(
            engine=vllm.NAME,
            length=launch.max_model_len,
            total=terms.total,
            utilization=terms.utilization,
            requested=terms.requested,
            weights=terms.weights,
            activation=terms.activation,
            non_torch=terms.non_torch,
            graphs=terms.graphs,
            cache=terms.cache,
            block=found.plan.block,
            blocks=found.blocks,
            blocks_low=low.blocks,
            blocks_high=high.blocks,
            users=_users(found),
            lines=self._lines(found, terms.cache.middle),
            tokens=found.tokens,
            concurrency=found.concurrency,
            blocks_of_request=found.blocks_of_request,
            longest=found.longest,
            pinned=blocks_needed(found.plan, 1, launch.load),
            groups=len(found.plan.groups),
            padding=found.plan.padding,
        )

    def _lines(self, found: Pool, available: float) -> tuple[str, ...]:
        """What the release prints: its sizes, or why it does not start."""
        blocks, length = found.blocks_of_request, self.launch.max_model_len
        if blocks is None or length is None or found.blocks >= blocks:
            return found.lines
        said = refusal(
            self.launch.version,
            length=length,
            needed=blocks * max(found.plan.block_bytes),
            available=available,
            longest=found.longest,
        )
        return (said,)

    def _with(self, **values: object) -> "VllmStart":
        return msgspec.structs.replace(self, launch=msgspec.structs.replace(self.launch, **values))


def _users(made: Pool) -> int:
    return made.blocks // made.blocks_of_request if made.blocks_of_request else 0
