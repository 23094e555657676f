"""What `patterns` makes of its options: the variants to draw, and their answers."""

from attnbench.calc.pattern_answer import PatternAnswer, answer
from attnbench.calc.patterns import ReachPattern
from attnbench.commands._settings import variant_settings
from attnbench.errors import UserError
from attnbench.spec.attention import AttentionShape, Mode
from attnbench.variants import load_variant, variant_names
from attnbench.variants._protocol import Params, Variant


def patterns_of(name: str | None, params: str | None, window: int | None) -> dict[str, Params]:
    """The variants asked for, with their settings: the one named, or all sparse patterns.

    Raises:
        UserError: no such variant, one that is no pattern, `params` for several, or a
            window for one that has none.
    """
    if name is None:
        if params is not None:
            raise UserError("--params: of which pattern?", hint="Name one: attnbench patterns NAME")
        found = [load_variant(name) for name in variant_names()]
        sparse = [v for v in found if v.pattern is not None and not v.exact]
        return {v.name: variant_settings(v, None, window) for v in sparse}
    variant = load_variant(name)
    if variant.pattern is None:
        raise UserError(
            f"{name} is no pattern: it mixes all keys ({variant.summary})",
            hint="`attnbench patterns` without a name draws those that there are.",
        )
    if window is not None and "window" not in variant.defaults:
        raise UserError(f"--window: {name} has none", hint=f"Its settings: {_keys(variant)}.")
    return {name: variant_settings(variant, params, window)}


def answer_of(
    name: str,
    params: Params,
    shape: AttentionShape,
    *,
    layers: int,
    token: int | None,
    grid: tuple[int, int],
) -> PatternAnswer:
    """The answer for one variant; `token` None: the last.

    Raises:
        UserError: `token` is past the sequence.
    """
    variant = load_variant(name)
    assert variant.pattern is not None
    last = shape.seq_kv - 1
    if token is not None and not 0 <= token <= last:
        raise UserError(f"--token: {token} is not a position from 0 to {last}")
    resolved = variant.resolve(shape, params)
    pattern = variant.pattern(shape, resolved)
    if not isinstance(pattern, ReachPattern):
        raise UserError(f"{name}: its pattern has no `reach_of`, which a drawing is made from")
    return answer(
        pattern,
        shape,
        (variant.cost(shape, Mode.FWD, resolved), variant.cost(shape, Mode.BWD, resolved)),
        layers=layers,
        token=last if token is None else token,
        grid=grid,
    )


def _keys(variant: Variant) -> str:
    return ", ".join(variant.defaults) or "none"
