"""What `speculate` is told of models and a GPU, as the costs of drafting there."""

from attnbench.calc.speculate_time import DraftCost
from attnbench.errors import UserError
from attnbench.units import parse_length

_GAMMA = 4  # tokens drafted, where the verifying run's slope is taken unless a length is asked for
_MOST = 1 << 30


def derived(
    target: str | None,
    draft: str | None,
    gpu: str,
    batch: str,
    seq_len: str,
    tp: int,
    gamma: int | None,
) -> DraftCost | None:
    """The costs of `draft` drafting for `target` on `gpu`; None where no models are named.

    Raises:
        UserError: one model without the other, an unknown name, or a split that is none.
    """
    if target is None and draft is None:
        return None
    if target is None or draft is None:
        raise UserError("--target and --draft: name both models, or neither")
    # The models' readers: plain `speculate` starts without them.
    from attnbench.calc import parallel, speculate_time
    from attnbench.calc.model_cost import model_cost
    from attnbench.catalog import load_model
    from attnbench.catalog.calibration import ANY, serving_constants
    from attnbench.catalog.plan_inputs import offers, weights

    (offer,) = offers((gpu,), {}, engine="")
    made = []
    for name in (target, draft):
        model = load_model(name)
        parallel.check(model, parallel.Parallel(tp=tp))
        (stored,) = weights(model, ("auto",))
        made.append(speculate_time.Served(cost=model_cost(model), weight_dtype=stored.dtype))
    sequences = parse_length(batch, what="--batch")
    tokens = parse_length(seq_len, what="--seq-len")
    if max(sequences, tokens) > _MOST:
        raise UserError(f"--batch, --seq-len: over {_MOST:,}")
    where = speculate_time.Setting(
        offer=offer,
        serving=serving_constants(ANY).serving,
        batch=sequences,
        seq_len=tokens,
        tp=tp,
    )
    return speculate_time.draft_cost(made[0], made[1], where, gamma or _GAMMA)
