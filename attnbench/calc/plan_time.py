"""Time of a layout: a decoding step, a prefill in chunks, and what a request sees of them.

    step      pp · (slowest stage of a pass over batch / pp sequences) + hops between stages
    occupied  chunks · (slowest stage of a chunk's pass): how long a prompt holds a stage
    ITL       step + interference · occupied · (batch - 1) / output tokens
    TTFT      (chunks + pp - 1) stages of a chunk + wait · occupied · (batch - 1) + step

With one stage and one chunk these are `serving_time`'s, whose constants they use (a test
sees to it). A pipeline's bubble is the pp - 1 of TTFT, and batch / pp rounded up.

Sources: Huang et al. 2018, arXiv:1811.06965 (bubbles); Agrawal et al. 2024,
arXiv:2403.02310 (chunked prefills, stalls); docs/plan.md.
"""

from typing import NamedTuple

import msgspec

from attnbench.calc.plan_links import all_reduce_s, all_to_all_s, send_s
from attnbench.calc.plan_problem import Offer, Problem, Weights
from attnbench.calc.plan_space import Layout
from attnbench.calc.serving_time import Placement, StepTerms, pass_s, pass_terms
from attnbench.spec.dtype import Dtype

_ACTIVATION_BYTES = 2  # 16-bit activations between GPUs


class Pass(NamedTuple):
    """Seconds of a pass of all layers by cause, and in all; `floor_s` is all but attention."""

    total_s: float
    floor_s: float
    tensor_s: float
    weights_s: float
    attention_s: float
    link_s: float


class Prefill(NamedTuple):
    """A prompt's way through a layout, chunk by chunk.

    `occupied_s`: how long it holds each stage. `latency_s`: until its last token is
    through. `chunk_s`: the longest chunk's time in one stage.
    """

    occupied_s: float
    latency_s: float
    chunk_s: float
    work: Pass


class Clock:
    """Times of one GPU with one format of weights and cache; passes are kept once computed."""

    def __init__(self, problem: Problem, offer: Offer, weights: Weights, kv_dtype: Dtype) -> None:
        self._problem = problem
        self._offer = offer
        self._weights = weights
        self._kv_dtype = kv_dtype
        self._passes: dict[tuple[int, int, int, int, int], Pass] = {}

    def step(self, layout: Layout, batch: int) -> Pass:
        """A decoding step of `batch` sequences in all stages, in the middle of their output."""
        micro = -(-batch // layout.pp)
        return self._pass(layout, 1, self._problem.traffic.middle, micro)

    def step_s(self, layout: Layout, work: Pass, batch: int) -> float:
        """Seconds from a token to the next of the same sequence, nobody's prefill between."""
        if layout.pp == 1:
            return work.total_s
        micro = -(-batch // layout.pp)
        return self._skew(layout) * work.total_s + layout.pp * self._hop_s(layout, micro)

    def prefill(self, layout: Layout, chunk: int | None) -> Prefill:
        """A prompt in chunks of at most `chunk` tokens, None all at once."""
        prompt = self._problem.traffic.input_len
        count = 1 if chunk is None else -(-prompt // chunk)
        tokens = -(-prompt // count)
        # Attention of a chunk grows with what is before it: the middle one is the mean.
        work = self._pass(layout, tokens, (prompt + tokens) // 2 if count > 1 else prompt, 1)
        last = work if count == 1 else self._pass(layout, tokens, prompt, 1)
        stage = self._skew(layout) / layout.pp
        hop_s = self._hop_s(layout, tokens) if layout.pp > 1 else 0.0
        each_s = work.total_s * stage + hop_s
        return Prefill(
            occupied_s=count * each_s,
            latency_s=(count + layout.pp - 1) * each_s,
            chunk_s=last.total_s * stage + hop_s,
            work=work,
        )

    def _skew(self, layout: Layout) -> float:
        """Layers of the fullest stage over the mean's."""
        count = self._problem.cost.layers
        return layout.pp * -(-count // layout.pp) / count

    def _hop_s(self, layout: Layout, tokens: int) -> float:
        links = self._offer.links
        far = layout.tp * layout.pp > links.node
        n_bytes = _ACTIVATION_BYTES * tokens * self._problem.cost.hidden
        return send_s(n_bytes, links, far=far)

    def _pass(self, layout: Layout, new_tokens: int, context: int, batch: int) -> Pass:
        key = (layout.tp, layout.ranks, new_tokens, context, batch)
        found = self._passes.get(key)
        if found is None:
            found = self._passes[key] = self._compute(layout, new_tokens, context, batch)
        return found

    def _compute(self, layout: Layout, new_tokens: int, context: int, batch: int) -> Pass:
        terms = pass_terms(
            self._problem.cost,
            new_tokens=new_tokens,
            context=context,
            batch=batch,
            placement=Placement(
                tp=layout.tp,
                weight_dtype=self._weights.dtype,
                kv_dtype=self._kv_dtype,
                link_bytes_per_s=self._offer.links.near_bytes_per_s,
            ),
            chip=self._offer.chip,
            constants=self._offer.constants,
        )
        terms = self._linked(terms, layout, new_tokens * batch)
        c = self._problem.serving
        total_s = pass_s(terms, c)
        return Pass(
            total_s=total_s,
            floor_s=total_s - terms.attention_s,
            tensor_s=terms.tensor_s / c.tensor_efficiency,
            weights_s=terms.weights_s / c.bandwidth_efficiency,
            attention_s=terms.attention_s,
            link_s=terms.link_s + terms.reductions * c.reduction_s,
        )

    def _linked(self, terms: StepTerms, layout: Layout, tokens: int) -> StepTerms:
        """`terms` with the time of links, and the experts that all ranks share."""
        cost, links = self._problem.cost, self._offer.links
        n_bytes = _ACTIVATION_BYTES * tokens * cost.hidden
        reduce_s = all_reduce_s(n_bytes, layout.tp, links)
        if layout.ranks == 1:
            return msgspec.structs.replace(terms, link_s=terms.reductions * reduce_s)
        # Attention is reduced over tp; tokens go to their experts and come back over all.
        sent = n_bytes / layout.tp * min(cost.per_token, layout.ep)
        link_s = cost.layers * (reduce_s + 2 * all_to_all_s(sent, layout.ep, links))
        return msgspec.structs.replace(
            terms,
            link_s=link_s,
            reductions=terms.reductions // 2,
            weights_s=terms.weights_s - self._spared_s(layout, tokens),
        )

    def _spared_s(self, layout: Layout, tokens: int) -> float:
        """Seconds of reading experts that a rank does not hold, where ranks share them."""
        cost = self._problem.cost
        unseen = 1 - cost.per_token / cost.experts
        alone = 1 - unseen**tokens
        shared = (1 - unseen ** (tokens * layout.ranks)) / layout.ranks
        elements = int(cost.routed * (alone - shared) / layout.tp)
        sign = 1 if elements >= 0 else -1
        spared = sign * self._weights.dtype.bytes_of(abs(elements))
        return spared / self._offer.chip.bytes_per_s
