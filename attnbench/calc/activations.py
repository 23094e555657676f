"""Bytes of activations: the peak of a forward pass, and what training keeps for backward.

Widths come from a layer's mixers and tensors, so one rule serves every architecture.
Source: Korthikanti et al. 2022, arXiv:2205.05198, equations 1 to 6, generalised: for a
GPT layer the sums below are the paper's, exactly.
"""

import enum
import math

import msgspec

from attnbench.calc.parallel import Parallel
from attnbench.spec.model import Attention, Latent, Layer, ModelSpec, Recurrent, Role, Shard, Shared


class Recompute(enum.StrEnum):
    """What backward computes again: nothing, the attention core, or whole layers."""

    NONE = "none"
    SELECTIVE = "selective"
    FULL = "full"


class Widths(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers a token has at each place in one layer; `norms` counts norms of full width.

    `mixed` are the outputs of the mixer's projections (q, k, v), `joined` what enters
    its output projection. `up` leaves the first MLP matrices, `down` enters the last;
    `shared_up`, `shared_down` those of routed experts for one token, all it visits.
    """

    hidden: int
    mixed: int
    joined: int
    heads: int
    up: int
    down: int
    expert_up: int
    expert_down: int
    per_token: int
    norms: int


def widths(model: ModelSpec, layer: Layer) -> Widths:
    """The widths of `layer`, read from its mixers and the shapes of its tensors."""
    mixed = joined = heads = 0
    for mixer in layer.mixers:
        m = mixer.like if isinstance(mixer, Shared) else mixer
        if isinstance(m, Attention):
            mixed += (m.heads + m.kv_heads) * m.key_dim + m.kv_heads * m.value_dim
            joined += m.heads * m.value_dim
            heads += m.heads
        elif isinstance(m, Latent):
            key = m.nope_dim + m.rope_dim
            mixed += m.heads * (2 * key + m.value_dim) + m.kv_rank + m.rope_dim
            joined += m.heads * m.value_dim
            heads += m.heads
        elif isinstance(m, Recurrent):
            mixed += _outputs(layer, (Role.RECURRENT,))
            joined += _inputs(layer, (Role.RECURRENT,))
    dense = (Role.MLP, Role.SHARED_EXPERT)
    per_token = layer.experts.per_token if layer.experts else 0
    inner = layer.experts.inner if layer.experts else 0
    routed = sum(
        t.elements
        for t in layer.tensors
        if t.role is Role.ROUTED_EXPERT and len(t.shape) >= 2 and "bias" not in t.name
    )
    matrices = 0  # of one expert: 3 where it is gated, 2 where not
    if layer.experts and inner:
        matrices = round(routed / (layer.experts.total * model.hidden_size * inner))
    return Widths(
        hidden=model.hidden_size,
        mixed=mixed,
        joined=joined,
        heads=heads,
        up=_outputs(layer, dense),
        down=_inputs(layer, dense),
        expert_up=per_token * inner * max(matrices - 1, 0),
        expert_down=per_token * inner,
        per_token=per_token,
        norms=sum(
            t.count
            for t in layer.tensors
            if t.role is Role.NORM
            and t.shape == (model.hidden_size,)
            and t.name.endswith(".weight")
        ),
    )


def _outputs(layer: Layer, roles: tuple[Role, ...]) -> int:
    """Output features of the column-parallel matrices of `roles`."""
    return sum(
        t.shape[-2] * t.count
        for t in layer.tensors
        if t.role in roles and t.shard in (Shard.COLUMN, Shard.KV) and len(t.shape) == 2
    )


def _inputs(layer: Layer, roles: tuple[Role, ...]) -> int:
    """Input features of the row-parallel matrices of `roles`."""
    return sum(
        t.shape[-1] * t.count
        for t in layer.tensors
        if t.role in roles and t.shard is Shard.ROW and len(t.shape) == 2
    )


class Saved(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes that one layer keeps for backward: whole on every tensor-parallel rank, or split.

    `core` is the attention core's part (scores, softmax, its dropout), split too.
    """

    whole: int
    split: int
    core: int

    def on_rank(self, tp: int, *, sequence_parallel: bool, core: bool = True) -> int:
        """Bytes on one of `tp` ranks; sequence parallelism splits the rest as well."""
        divided = self.split + (self.core if core else 0)
        if sequence_parallel:
            return math.ceil((self.whole + divided) / tp)
        return self.whole + math.ceil(divided / tp)


def saved_by_layer(w: Widths, *, seq_len: int, batch: int, size: int = 2) -> Saved:
    """Bytes that one layer keeps where nothing is recomputed.

    `size` bytes an element, one a dropout mask. For each token:
        norms          whole  size · norms · hidden
        mixer          whole  size · hidden (its input) + hidden (mask)
                       split  size · (mixed + joined)
        attention core split  heads · seq_len · (2 size + 1)
        MLP            whole  size · hidden + hidden (mask)
                       split  size · (up + down), and size · down more where it is gated
        experts        size · per_token · 2 hidden (dealt out and back), and as the MLP

    A GPT layer (mixed 3h, joined h, up = down = 4h, 2 norms) in 16 bits keeps
    s·b·h·(34 + 5·a·s/h), of which 10 s·b·h whole and 24 s·b·h split.
    Unit: bytes. Source: Korthikanti et al. 2022, equations 1 and 2.

    >>> gpt3 = Widths(hidden=12288, mixed=3 * 12288, joined=12288, heads=96, up=4 * 12288,
    ...     down=4 * 12288, expert_up=0, expert_down=0, per_token=0, norms=2)
    >>> saved = saved_by_layer(gpt3, seq_len=2048, batch=1)
    >>> saved.on_rank(1, sequence_parallel=False) == 2048 * 12288 * (34 + 5 * 96 * 2048 // 12288)
    True
    """
    tokens = seq_len * batch
    gated = size * w.down if w.up > w.down else 0
    gated += size * w.expert_down if w.expert_up > w.expert_down else 0
    mixer = (size + 1) * w.hidden if w.mixed else 0
    mlp = (size + 1) * w.hidden if w.up or w.per_token else 0
    dealt = size * 2 * w.per_token * w.hidden
    inner = size * (w.mixed + w.joined + w.up + w.down + w.expert_up + w.expert_down)
    return Saved(
        whole=tokens * (size * w.norms * w.hidden + mixer + mlp + dealt),
        split=tokens * (inner + gated),
        core=tokens * w.heads * seq_len * (2 * size + 1),
    )


def saved_by_stage(
    model: ModelSpec,
    layers: list[tuple[Layer, int]],
    *,
    seq_len: int,
    batch: int,
    parallel: Parallel,
    recompute: Recompute,
    in_flight: int,
    outermost: bool,
    size: int = 2,
    sequence_parallel: bool = False,
) -> int:
    """Bytes on one rank of a stage that holds `layers` (a layer, how many of it).

    Kept for each of `in_flight` micro-batches: all (`none`), all but the attention core
    (`selective`), or each layer's input alone, size · s·b·h (`full`). Besides, once:
    the larger of what one layer computes again, and, on the last stage (`outermost`),
    the last norm's and the output's inputs and the fp32 logits, 4·s·b·h + 4·s·b·v.

    Source: Korthikanti et al. 2022, equations 4 to 6 and section 4.3.
    """
    kept = again = 0
    tp = parallel.tp
    for layer, count in layers:
        saved = saved_by_layer(widths(model, layer), seq_len=seq_len, batch=batch, size=size)
        full = saved.on_rank(tp, sequence_parallel=sequence_parallel)
        selective = saved.on_rank(tp, sequence_parallel=sequence_parallel, core=False)
        if recompute is Recompute.NONE:
            kept += full * count
        elif recompute is Recompute.SELECTIVE:
            kept += selective * count
            again = max(again, full - selective)
        else:
            entering = size * seq_len * batch * model.hidden_size
            kept += (math.ceil(entering / tp) if sequence_parallel else entering) * count
            again = max(again, full)
    tokens = seq_len * batch
    logits = 2 * size * tokens * model.hidden_size + math.ceil(4 * tokens * model.vocab_size / tp)
    return kept * in_flight + max(again, logits if outermost else 0)


def forward_peak(
    model: ModelSpec,
    layers: list[Layer],
    *,
    tokens: int,
    sequences: int,
    tp: int,
    outermost: bool,
    size: int = 2,
) -> int:
    """Most bytes that a forward pass without gradients holds at once on one rank.

    The residual stream and the normed input, tokens · 2 hidden, and the largest of:
    one mixer's (mixed + joined) / tp, one MLP's (up + down) / tp, its experts' the same
    with 2 hidden a visit, all · size · tokens; and on the last stage the logits of one
    token a sequence, size + 8 bytes each (as computed, in fp32, and their softmax).
    Attention keeps no scores (FlashAttention, arXiv:2205.14135). Experts dealt to more
    ranks than tp serve as many replicas' tokens, so a rank's share stays 1 / tp.

    Unit: bytes. Source: counted from the tensors of the layers; compared with engines'
    start-up logs in `docs/formulas.md`.
    """
    largest = 0
    for layer in layers:
        w = widths(model, layer)
        mixer = -(-(w.mixed + w.joined) // tp)
        mlp = -(-(w.up + w.down) // tp)
        experts = 2 * w.per_token * w.hidden + -(-(w.expert_up + w.expert_down) // tp)
        largest = max(largest, mixer, mlp, experts if w.per_token else 0)
    logits = sequences * model.vocab_size * (size + 8) if outermost else 0
    stream = size * tokens * 2 * model.hidden_size
    return stream + max(size * tokens * largest, logits)
