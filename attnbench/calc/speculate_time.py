"""Costs of drafting and verifying from the time model: what `speculative` takes as given.

    cost_ratio   = step(draft) / step(target)
    verify_cost  = (step(target, gamma + 1 tokens a sequence) / step(target) - 1) / gamma

Verifying multiplies gamma + 1 tokens a sequence, and reads the cache once for all of their
queries, which lie beside each other as the query heads of a KV head do.
"""

import msgspec

from attnbench.calc.model_cost import ModelCost
from attnbench.calc.plan_links import all_reduce_s
from attnbench.calc.plan_problem import Offer
from attnbench.calc.serving_time import Placement, StepTerms, pass_s, pass_terms
from attnbench.spec.calibration import ServingConstants
from attnbench.spec.dtype import Dtype


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """A model as it decodes: its cost, the format of its weights."""

    cost: ModelCost
    weight_dtype: Dtype


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """Where it decodes: `tp` GPUs alike, `batch` sequences of `seq_len` tokens."""

    offer: Offer
    serving: ServingConstants
    batch: int
    seq_len: int
    tp: int = 1


class DraftCost(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds of a step of each, and what they come to. `gamma` is that of `verify_s`."""

    target_s: float
    draft_s: float
    verify_s: float
    gamma: int

    @property
    def cost_ratio(self) -> float:
        """A draft step over a target's."""
        return self.draft_s / self.target_s

    @property
    def verify_cost(self) -> float:
        """What each token more adds to the verifying run, over a target's step."""
        return max(0.0, (self.verify_s / self.target_s - 1) / self.gamma)


def draft_cost(target: Served, draft: Served, where: Setting, gamma: int) -> DraftCost:
    """The costs of drafting `gamma` tokens with `draft` for `target`."""
    return DraftCost(
        target_s=step_s(target, where, 1),
        draft_s=step_s(draft, where, 1),
        verify_s=step_s(target, where, gamma + 1),
        gamma=gamma,
    )


def step_s(model: Served, where: Setting, tokens: int) -> float:
    """Seconds of a run of `tokens` new tokens a sequence, all of whose results are wanted."""
    terms = _terms(model.cost, model.weight_dtype, where, where.batch * tokens)
    if tokens > 1:
        groups = tuple(
            msgspec.structs.replace(g, heads=g.heads * tokens) for g in model.cost.attention
        )
        beside = msgspec.structs.replace(model.cost, attention=groups)
        read = _terms(beside, model.weight_dtype, where, where.batch)
        terms = msgspec.structs.replace(
            terms, attention_s=read.attention_s, cache_s=read.cache_s, sequences=where.batch
        )
    return pass_s(terms, where.serving)


def _terms(cost: ModelCost, weight_dtype: Dtype, where: Setting, sequences: int) -> StepTerms:
    links = where.offer.links
    terms = pass_terms(
        cost, new_tokens=1, context=where.seq_len, batch=sequences,
        placement=Placement(
            tp=where.tp, weight_dtype=weight_dtype, link_bytes_per_s=links.near_bytes_per_s
        ),
        chip=where.offer.chip, constants=where.offer.constants,
    )  # fmt: skip
    reduce_s = all_reduce_s(2 * sequences * cost.hidden, where.tp, links)
    return msgspec.structs.replace(terms, link_s=terms.reductions * reduce_s)
