"""What an engine was started with, and what follows for its cache."""

import msgspec

from attnbench.calc.engine_budget import (
    GRAPHS,
    GRAPHS_SEVERAL,
    Budget,
    activation_peak,
    budget,
    exactly,
    sparse_workspace,
)
from attnbench.calc.engine_kinds import Placed, Widths, kinds
from attnbench.calc.engine_pages import Load, Plan, StateMode, blocks_needed, longest, plan
from attnbench.calc.engine_weights import PLAIN, Loader, weights_on_rank
from attnbench.calc.parallel import Parallel
from attnbench.calc.quantization import Scheme
from attnbench.calc.stages import stage_ranges
from attnbench.catalog.quantization_config import own_dtype
from attnbench.engines import vllm
from attnbench.engines._versions import Version
from attnbench.errors import UserError
from attnbench.spec.dtype import Dtype
from attnbench.spec.model import Full, Latent, ModelSpec, Recurrent


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """One start of vLLM: the model's layers, the split, the flags; None is the default.

    `layers` are the mixers that keep a cache. `kv` is the cache's dtype, `ds_mla` its
    fp8_ds_mla format, `model_dtype` that of convolution states, `state_dtype` of recurrent
    ones. `drafts` are layers of a multi-token-prediction module or a drafter, which keep a
    cache like the full layers; `drafter` those of a draft model with a layout of its own,
    whose weights are `drafter_bytes`. `since` is the first release that has the model, for
    a release that is not known.
    """

    layers: tuple[Placed, ...]
    version: Version | None = None
    since: Version | None = None
    tp: int = 1
    pp: int = 1
    dcp: int = 1
    kv: Dtype = Dtype.BF16
    ds_mla: bool = False
    model_dtype: Dtype = Dtype.BF16
    state_dtype: Dtype = Dtype.BF16
    block: int = vllm.BLOCK
    max_model_len: int | None = None
    max_num_batched_tokens: int | None = None
    max_num_seqs: int | None = None
    speculative: int = 0
    drafts: int = 0
    drafter: tuple[Placed, ...] = ()
    drafter_bytes: int = 0
    state_mode: StateMode | None = None
    encoder_len: int = 0
    gpu_total: int | None = None
    gpu_name: str = ""
    gpu_vendor: str = ""
    unified_memory: bool = False
    utilization: float | None = None
    eager: bool = False
    loader: Loader = PLAIN

    @property
    def policy(self) -> vllm.Policy:
        """The rules of this release."""
        return vllm.policy(self.version)

    @property
    def defaults(self) -> vllm.Defaults:
        """What stands for the flags that are not given."""
        return vllm.defaults(self.version, self.gpu_total, self.gpu_name, self.max_model_len)

    @property
    def step_tokens(self) -> int:
        """Tokens of one step."""
        return self.max_num_batched_tokens or self.defaults.max_num_batched_tokens

    @property
    def load(self) -> Load:
        """What decides the blocks of a request."""
        return Load(
            step_tokens=self.step_tokens * vllm.batches_in_flight(self.version, self.pp),
            dcp=self.dcp,
            speculative=self.speculative,
            mode=self.state_mode or self.policy.state_mode,
            encoder_len=self.encoder_len,
        )


def state_dtype(model: ModelSpec) -> Dtype:
    """The dtype of recurrent states: fp32 where the configuration or family says so."""
    states = (
        state
        for layer in model.layers
        for mixer in layer.mixers
        if isinstance(mixer, Recurrent)
        for state in mixer.states
    )
    return Dtype.FP32 if any(state.engine_fp32 for state in states) else own_dtype(model)


class Pool(msgspec.Struct, frozen=True, kw_only=True):
    """The cache of one start: blocks on the rank and stage that decide, and what they hold.

    `tokens` is the figure that this release prints; None where it needs a
    max_model_len that is not known.
    """

    plan: Plan
    blocks: int
    tokens: int | None
    concurrency: float | None
    blocks_of_request: int | None
    longest: int | None
    lines: tuple[str, ...]


def layout(launch: Launch) -> Plan:
    """The groups and block sizes of the model's cache.

    Raises:
        UserError: no layer keeps a cache, or a split that the engine refuses.
    """
    if not launch.layers:
        raise UserError("no layer of the model keeps a cache")
    sparse = any(isinstance(m, Latent) and m.index_dim for m, _ in launch.layers)
    widths = Widths(
        kv=launch.kv.bits / 8,
        model=launch.model_dtype.bits // 8,
        state=launch.state_dtype.bits // 8,
        tp=launch.tp,
        block=launch.block,
        speculative=launch.speculative,
        windowed=launch.policy.groups,
        ds_mla=launch.ds_mla or (sparse and launch.kv.bits == 8),
    )
    layers = _with_drafts(launch)
    count = 1 + max(i for _, indices in layers for i in indices)
    return plan(
        kinds(layers, widths),
        stage_ranges(count, launch.pp),
        pad_below=launch.policy.pad_below,
        align=vllm.state_align(
            launch.version,
            latent=any(isinstance(m, Latent) for m, _ in layers),
            mode=launch.load.mode,
            scan=max((m.scan for m, _ in layers if isinstance(m, Recurrent)), default=0),
        ),
    )


def _with_drafts(launch: Launch) -> tuple[Placed, ...]:
    """The layers, with those that draft behind the last: on the last pipeline stage."""
    layers, last = launch.layers, 1 + max(i for _, indices in launch.layers for i in indices)
    if launch.drafts:  # like the widest full layer
        added = tuple(range(last, last + launch.drafts))
        at = next((n for n, (m, _) in enumerate(layers) if isinstance(m, Full | Latent)), 0)
        mixer, indices = layers[at]
        layers = (*layers[:at], (mixer, (*indices, *added)), *layers[at + 1 :])
        last += launch.drafts
    known = {mixer: indices for mixer, indices in layers}
    for mixer, indices in launch.drafter:
        known[mixer] = (*known.get(mixer, ()), *(last + i for i in indices))
    return tuple(known.items())


def bytes_per_token(launch: Launch) -> int:
    """Bytes that a token takes on one GPU in all layers that keep keys, windows not yet full."""
    planned = layout(launch)
    if planned.uniform:
        return max(planned.block_bytes) // planned.block
    return sum(
        group.kind.page_bytes // group.kind.block * len(group.indices)
        for group in planned.groups
        if group.kind.token_bytes
    )


def pool(launch: Launch, available: int) -> Pool:
    """What `available` bytes a GPU hold, and the lines that the engine prints of it.

    Raises:
        UserError: as for `layout`.
    """
    planned = layout(launch)
    blocks = max(0, min(available // size for size in planned.block_bytes if size))
    length = launch.max_model_len
    needed = None if length is None else blocks_needed(planned, length, launch.load)
    concurrency = blocks / needed if needed else None
    tokens = _tokens(launch, planned, blocks, concurrency)
    return Pool(
        plan=planned,
        blocks=blocks,
        tokens=tokens,
        concurrency=concurrency,
        blocks_of_request=needed,
        longest=None if length is None else longest(planned, blocks, launch.load, length),
        lines=vllm.lines(
            launch.version,
            tokens=tokens,
            blocks=blocks,
            concurrency=concurrency,
            max_model_len=length,
        ),
    )


def _tokens(launch: Launch, planned: Plan, blocks: int, concurrency: float | None) -> int | None:
    meaning = launch.policy.tokens_line
    if meaning is vllm.TokensLine.BLOCKS:
        return blocks * planned.block
    if meaning is vllm.TokensLine.CONCURRENCY and concurrency is not None:
        assert launch.max_model_len is not None
        return int(concurrency * launch.max_model_len)
    if meaning is vllm.TokensLine.CONCURRENCY and launch.version is not None:
        return None
    least = min(group.kind.block for group in planned.groups)
    return blocks // len(planned.groups) * least * launch.dcp


def weights_of(launch: Launch, model: ModelSpec, scheme: Scheme) -> int:
    """Bytes of weights on the fullest rank, as the engine lays them out.

    Raises:
        UserError: the split does not suit the model.
    """
    parallel = Parallel(tp=launch.tp, pp=launch.pp)
    own = weights_on_rank(model, scheme, parallel, drafts=launch.drafts, loader=launch.loader)
    return own + launch.drafter_bytes


def budget_of(launch: Launch, model: ModelSpec, scheme: Scheme) -> Budget | None:
    """The terms of the budget of one GPU; None where the GPU is not known.

    Raises:
        UserError: the split does not suit the model.
    """
    if launch.gpu_total is None:
        return None
    rules = launch.policy
    parallel = Parallel(tp=launch.tp, pp=launch.pp)
    several = launch.tp * launch.pp > 1
    graphs = exactly(0)
    if rules.graphs_in_budget and not launch.eager:
        graphs = GRAPHS_SEVERAL if several else GRAPHS
    return budget(
        total=launch.gpu_total,
        utilization=rules.utilization if launch.utilization is None else launch.utilization,
        weights=weights_of(launch, model, scheme),
        activation=activation_peak(
            model,
            tokens=launch.step_tokens,
            sequences=launch.max_num_seqs or launch.defaults.max_num_seqs,
            sampler_bytes=vllm.sampler_bytes(launch.version, launch.since),
            parallel=parallel,
        )
        + exactly(sparse_workspace(model, launch.max_model_len)),
        non_torch=vllm.non_torch(
            launch.version,
            launch.tp * launch.pp,
            unified=launch.unified_memory,
            vendor=launch.gpu_vendor,
        ),
        graphs=graphs,
        gpus=launch.tp * launch.pp,
    )
