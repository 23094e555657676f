"""A start of SGLang: its static part, the pools in it, and the lines it prints of them.

    pools = mem_fraction_static · (free memory before loading) - weights

Activations and CUDA graphs live outside the static part.
"""

from collections.abc import Iterator

import msgspec

from attnbench.calc.engine_budget import STATED_GIB, Band, activation_peak
from attnbench.calc.engine_kinds import Placed, Widths, placed
from attnbench.calc.engine_weights import PLAIN, Loader, weights_on_rank
from attnbench.calc.parallel import Parallel
from attnbench.calc.quantization import Scheme
from attnbench.calc.stages import held_by, stage_ranges
from attnbench.engines import sglang
from attnbench.engines._versions import Version
from attnbench.engines.engine_memory import EngineMemory, PoolPart
from attnbench.engines.sglang_policy import (
    PREFILL_TOKENS,
    SPARSE_PAGE,
    Policy,
    Steps,
    max_requests,
    policy,
    static_fraction,
    steps,
)
from attnbench.engines.sglang_pool import Needs, Pools, allocation_lines, needs, parts, pools
from attnbench.errors import UserError
from attnbench.spec.dtype import Dtype
from attnbench.spec.model import Cross, Full, Latent, ModelSpec, Recurrent, Role
from attnbench.units import GIB, MIB

# A context and libraries before weights are loaded, and what loading leaves behind.
_CONTEXT = Band(low=0.4 * GIB, middle=0.7 * GIB, high=1.2 * GIB)
_CONTEXT_SEVERAL = Band(low=0.8 * GIB, middle=1.4 * GIB, high=2.5 * GIB)
_SAMPLED_BYTES = Band(low=4, middle=8, high=14)  # logits in fp32, probabilities, their sort
_GRAPH_BYTES = Band(low=1 * MIB, middle=2 * MIB, high=6 * MIB)  # a captured sequence; it says 2

_NO_MEMORY = "RuntimeError: Not enough memory. Please try to increase --mem-fraction-static."


class SglangStart(msgspec.Struct, frozen=True, kw_only=True):
    """One start of SGLang; None is the default.

    `total` is the memory that a program is told of, `gpu_mib` what nvidia-smi prints.
    `length` is its --context-length, `utilization` its --mem-fraction-static, `chunk` its
    --chunked-prefill-size, `running` its --max-running-requests. `drafts` are layers of a
    module that drafts, `drafter` those of a draft model, whose weights are `drafter_bytes`.
    """

    model: ModelSpec
    scheme: Scheme
    total: int
    gpu_mib: float
    version: Version | None = None
    tp: int = 1
    pp: int = 1
    kv: Dtype = Dtype.BF16
    model_dtype: Dtype = Dtype.BF16
    state_dtype: Dtype = Dtype.FP32
    length: int = 4096
    utilization: float | None = None
    page_size: int | None = None
    chunk: int | None = None
    running: int | None = None
    drafts: int = 0
    drafter: tuple[Placed, ...] = ()
    drafter_bytes: int = 0
    drafted: bool = False
    loader: Loader = PLAIN

    @property
    def limit(self) -> int | None:
        """The longest context that the model states."""
        return self.model.max_position

    @property
    def gpus(self) -> int:
        """GPUs of the replica."""
        return self.tp * self.pp

    @property
    def rules(self) -> Policy:
        """The rules of this release."""
        return policy(self.version)

    @property
    def steps(self) -> Steps:
        """Tokens of a prefill step, and the largest batch of CUDA graphs."""
        found = steps(self.version, self.gpu_mib, self.tp)
        return found if self.chunk is None else msgspec.structs.replace(found, chunk=self.chunk)

    @property
    def page(self) -> int:
        """Tokens of a page: 64 with a sparse indexer, else 1."""
        sparse = any(isinstance(m, Latent) and m.index_dim for m, _ in self._layers)
        return self.page_size or (SPARSE_PAGE if sparse else sglang.PAGE)

    @property
    def fraction(self) -> float:
        """mem_fraction_static, given or by default."""
        if self.utilization is not None:
            return self.utilization
        seen = (t.elements * n for t, n in self.model.parameters() if t.role is Role.VISION)
        return static_fraction(
            self.version,
            gpu_mib=self.gpu_mib,
            tp=self.tp,
            pp=self.pp,
            chunk=self.steps.chunk,
            graph_batch=self.steps.graph_batch,
            latent=any(isinstance(m, Latent) for m, _ in self._layers),
            drafted=self.drafted,
            vision=sum(seen),
        )

    def of_length(self, tokens: int) -> "SglangStart":
        """The same start with this context length."""
        return msgspec.structs.replace(self, length=tokens)

    def at(self, utilization: float) -> "SglangStart":
        """The same start with this mem_fraction_static."""
        return msgspec.structs.replace(self, utilization=utilization)

    def widened(self) -> Iterator["SglangStart"]:
        """The same start over 1, 2, 4 .. tensor-parallel ranks."""
        tp = 1
        while True:
            yield msgspec.structs.replace(self, tp=tp)
            tp *= 2

    def made(self, batch: int) -> EngineMemory:
        """The static part of one GPU, and the pools on the stage that decides.

        Raises:
            UserError: the split does not suit the model, or the release cannot serve it.
        """
        if not self.rules.states and any(isinstance(m, Recurrent) for m, _ in self._layers):
            raise UserError(f"{self.model.name} has states: SGLang serves such from 0.5.2 on")
        share, parallel = self.fraction, Parallel(tp=self.tp, pp=self.pp)
        weights = weights_on_rank(
            self.model, self.scheme, parallel, drafts=self.drafts, loader=self.loader
        )
        weights += self.drafter_bytes
        context = (_CONTEXT_SEVERAL if self.gpus > 1 else _CONTEXT).times(share)
        requested = int(self.total * share)
        width = next(gib for least, gib in STATED_GIB if self.gpus >= least) * GIB
        middle = requested - weights - context.middle
        cache = Band(low=middle - width, middle=middle, high=middle + width)
        need, held = self._pools(cache.middle)
        page, length = self.page, self.length
        users, pages = self._users(need, held), -(-length // page)
        running = self.running or max_requests(self.version, held.tokens, length)
        if need.state:
            running = min(running, held.states // self.rules.state_copies)
        activation, graphs = self._beside(parallel)
        left = self.total - requested - activation.middle - graphs.middle
        pooled = parts(need, held, page)
        return EngineMemory(
            engine=sglang.NAME,
            length=length,
            total=self.total,
            utilization=share,
            requested=requested,
            weights=weights,
            activation=activation,
            non_torch=context,
            graphs=graphs,
            cache=cache,
            block=page,
            unit="pages",
            blocks=held.tokens // page,
            blocks_low=self._pools(cache.low)[1].tokens // page,
            blocks_high=self._pools(cache.high)[1].tokens // page,
            users=min(users, running),
            tokens=held.tokens,
            concurrency=held.tokens / (pages * page),
            blocks_of_request=pages,
            longest=min(length, held.tokens),
            pinned=1,
            pools=pooled,
            outside=True,
            lines=(
                *allocation_lines(need, held, page=page, rules=self.rules, kv=self.kv),
                self._summary(held, running, weights, pooled, graphs),
            )
            if held.tokens
            else (_NO_MEMORY,),
            said=self._said(need, left),
        )

    @property
    def _layers(self) -> tuple[Placed, ...]:
        return tuple((m, at) for m, at in placed(self.model) if not isinstance(m, Cross))

    def _pools(self, available: float) -> tuple[Needs, Pools]:
        """The pools of the stage that holds the fewest tokens: all stages take its number."""
        rank = Widths(
            kv=self.kv.bits / 8,
            model=self.model_dtype.bits // 8,
            state=self.state_dtype.bits // 8,
            tp=self.tp,
        )
        found = []
        for stage in stage_ranges(self.model.num_layers, self.pp):
            layers = tuple((mixer, held_by(stage, at)) for mixer, at in self._layers)
            need = needs(
                layers,
                rules=self.rules,
                architecture=self.model.architecture,
                rank=rank,
                kv=self.kv,
            )
            held = pools(
                need, int(available), page=self.page, rules=self.rules, drafts=self._draft_bytes()
            )
            found.append((need, held))
        keeping = [pair for pair in found if pair[0].full.total or pair[0].windowed.total]
        if not keeping:
            raise UserError(f"SGLang's pool holds tokens, and no layer of {self.model.name} does")
        return min(keeping, key=lambda pair: pair[1].tokens)

    def _draft_bytes(self) -> int:
        """Bytes a token of a draft model, and of draft layers like the last that keeps all."""
        like = [m for m, _ in self._layers if isinstance(m, Full | Latent)]
        alone = tuple((m, tuple(range(self.drafts))) for m in like[-1:])
        return sglang.bytes_per_token((*alone, *self.drafter), tp=self.tp, kv=self.kv)

    def _users(self, need: Needs, held: Pools) -> int:
        """Requests of `length` that the pools hold at once: the least of each pool's."""
        page, found = self.page, []
        if need.full.total:
            found.append(held.tokens // (-(-self.length // page) * page))
        if need.windowed.total:
            most = min(self.length, need.window + self.steps.chunk)
            found.append(held.window_tokens // (-(-most // page) * page))
        if need.state:
            found.append(held.states // self.rules.state_copies)
        return min(found, default=0)

    def _beside(self, parallel: Parallel) -> tuple[Band, Band]:
        activation = activation_peak(
            self.model,
            tokens=self.steps.chunk,
            sequences=self.steps.graph_batch,
            sampler_bytes=_SAMPLED_BYTES,
            parallel=parallel,
        )
        return activation, _GRAPH_BYTES.times(self.steps.graph_batch)

    def _summary(
        self,
        held: Pools,
        running: int,
        weights: int,
        pooled: tuple[PoolPart, ...],
        graphs: Band,
    ) -> str:
        chunk = f"chunked_prefill_size={self.steps.chunk}, " if self.rules.chunk_printed else ""
        context = _CONTEXT_SEVERAL if self.gpus > 1 else _CONTEXT
        free = self.total - context.middle - weights - sum(p.bytes for p in pooled) - graphs.middle
        if self._draft_bytes() and not self.rules.drafts_counted:
            free -= held.tokens * self._draft_bytes()
        memory = f", available_gpu_mem={max(free, 0) / GIB:.2f} GB"
        return (
            f"max_total_num_tokens={held.tokens}, {chunk}max_prefill_tokens={PREFILL_TOKENS}, "
            f"max_running_requests={running}, context_len={self.length}"
            + (memory if self.rules.memory_printed else "")
        )

    def _said(self, need: Needs, left: float) -> tuple[str, ...]:
        said = [
            f"SGLang: mem_fraction_static {self.fraction:.3f} of the memory that is free before "
            "weights are loaded; activations and CUDA graphs live outside it.",
            f"Prefill steps of {self.steps.chunk:,} tokens, graphs for up to "
            f"{self.steps.graph_batch} sequences; --seq-len is its --context-length.",
        ]
        if need.windowed.total:
            said.append(
                "Windows have a pool of their own: 0.8 of the tokens (swa_full_tokens_ratio)"
            )
        if need.state:
            said.append(
                f"States take 0.9 of the bytes of tokens; a request needs "
                f"{self.rules.state_copies} of them (prefix cache)."
                if self.rules.state_share
                else "A fixed number of states: max_mamba_cache_size 512."
            )
        if self._draft_bytes() and not self.rules.drafts_counted:
            said.append("The draft module's cache stands outside the static part.")
        if left < 0:
            said.append(
                f"The rest is {-left / GIB:.2f} GiB short of activations and graphs: "
                "it may run out; lower --utilization."
            )
        return tuple(said)
