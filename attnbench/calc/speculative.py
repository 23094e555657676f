"""What speculative decoding is expected to give: tokens a step, speedup, the best draft.

A step drafts gamma tokens with a cheap model, one after another, and verifies them in one
run of the target model. Times are in units of one decode step of the target.

Sources: Leviathan, Kalman, Matias 2023, arXiv:2211.17192; Chen et al. 2023,
arXiv:2302.01318.
"""

import msgspec


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """What a draft costs and how often it is right.

    `acceptance` (alpha) is the chance that one drafted token is accepted, alike and
    independent for all. `cost_ratio` (c) is a draft step's time over a target's decode
    step. `verify_cost` is what each token more in the verifying run adds to it: 0 where
    the run is bound by reading weights, up to 1 where it is bound by computing.
    """

    acceptance: float
    cost_ratio: float
    verify_cost: float = 0.0


class Speedup(msgspec.Struct, frozen=True, kw_only=True):
    """What drafting `gamma` tokens a step gives.

    `operations` is the arithmetic of a token over that of plain decoding, with the
    draft's taken as `cost_ratio` of the target's.
    """

    gamma: int
    tokens_per_step: float
    step_cost: float
    speedup: float
    operations: float


def tokens_per_step(acceptance: float, gamma: int) -> float:
    """Expected tokens of one step: the accepted drafts and one of the target's own.

        (1 - alpha^(gamma + 1)) / (1 - alpha)

    Unit: tokens. Source: Leviathan et al. 2023, equation 1.

    >>> round(tokens_per_step(0.8, 5), 4)
    3.6893
    """
    return sum(acceptance**accepted for accepted in range(gamma + 1))


def speedup(draft: Draft, gamma: int) -> Speedup:
    """Expected speedup of drafting `gamma` tokens a step over plain decoding.

        tokens_per_step / (1 + gamma · c + gamma · verify_cost)

    Source: Leviathan et al. 2023, theorems 3.8 and 3.11; `verify_cost` is 0 there.

    >>> round(speedup(Draft(acceptance=0.8, cost_ratio=0.05), 5).speedup, 3)
    2.951
    """
    tokens = tokens_per_step(draft.acceptance, gamma)
    step = 1 + gamma * (draft.cost_ratio + draft.verify_cost)
    return Speedup(
        gamma=gamma,
        tokens_per_step=tokens,
        step_cost=step,
        speedup=tokens / step,
        operations=(gamma * draft.cost_ratio + gamma + 1) / tokens,
    )


def best_gamma(draft: Draft, most: int) -> int:
    """The draft length up to `most` of the largest speedup; 0 where drafting never pays.

    The speedup is a concave function over a linear one, so it rises, then falls: the
    first length after which it does not rise is the best.
    """
    gamma = 0
    while gamma < most and speedup(draft, gamma + 1).speedup > speedup(draft, gamma).speedup:
        gamma += 1
    return gamma


def break_even_acceptance(draft: Draft) -> float:
    """The acceptance over which some draft length pays; may be over 1: none does.

    One token drafted pays first: (1 + alpha) / (1 + c + verify_cost) > 1.
    Source: Leviathan et al. 2023, corollary 3.9.
    """
    return draft.cost_ratio + draft.verify_cost


def break_even_cost_ratio(draft: Draft, gamma: int) -> float:
    """The cost ratio under which drafting `gamma` tokens pays; may be negative: none does.

    (tokens_per_step - 1) / gamma - verify_cost
    """
    return (tokens_per_step(draft.acceptance, gamma) - 1) / gamma - draft.verify_cost
