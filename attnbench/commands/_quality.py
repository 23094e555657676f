"""What `quality` makes of its options: which parts are asked for, and of which variants."""

from pathlib import Path

import msgspec

from attnbench.commands._settings import parse_settings, variant_settings
from attnbench.errors import UserError, unknown_name
from attnbench.gate.runs import read_run
from attnbench.quality import answer
from attnbench.quality.approximations import Approximation, approximations
from attnbench.spec.attention import AttentionShape
from attnbench.spec.dtype import Dtype
from attnbench.variants import load_variant, variant_names
from attnbench.variants._protocol import Params
from attnbench.variants._settings import settings_of

_INPUTS = ("gaussian", "needle", "model")
_CELLS = 64


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """The options, parsed one by one."""

    variants: str | None
    inputs: str | None
    seq_len: int
    heads: int
    head_dim: int
    causal: bool
    window: int | None
    params: tuple[str, ...]
    model: str | None
    text: Path | None
    tokens: int
    sinks: int
    run: Path | None
    drawn: bool


def find(asked: Asked) -> answer.Quality:
    """The answer to all that is asked.

    Raises:
        UserError: options that do not go together, or name what there is not.
        MachineError: torch, transformers or the model's package is not installed.
    """
    wanted = _inputs(asked)
    if asked.drawn and not wanted & {"needle", "model"}:
        raise UserError("--png draws needles or a model's heads", hint="Add --inputs needle.")
    joined = None
    if asked.run is not None:
        joined = answer.joined(asked.run, list(read_run(asked.run).rows.values()))
    if not wanted:
        return answer.Quality(joined=joined)
    answer.require_torch()
    shape = AttentionShape(
        batch=1, heads=asked.heads, kv_heads=asked.heads, seq_q=asked.seq_len,
        seq_kv=asked.seq_len, head_dim=asked.head_dim, causal=asked.causal, dtype=Dtype.FP32,
    )  # fmt: skip
    chosen = {causal: _chosen(asked, causal) for causal in (True, False)}
    mine = chosen[asked.causal]
    return answer.Quality(
        gaussian=answer.gaussian(mine, shape) if "gaussian" in wanted else None,
        needle=answer.needle(mine, shape) if "needle" in wanted else None,
        model=_model(asked, chosen) if "model" in wanted else None,
        joined=joined,
    )


def _model(asked: Asked, chosen: dict[bool, list[Approximation]]) -> answer.Model:
    assert asked.model is not None
    return answer.real_model(
        asked.model, asked.text, asked.tokens, chosen,
        sinks=asked.sinks, cells=_CELLS if asked.drawn else 0,
    )  # fmt: skip


def _inputs(asked: Asked) -> set[str]:
    if asked.inputs is None:
        if asked.model is not None:
            return {"model"}
        return set() if asked.run is not None else {"gaussian", "needle"}
    names = {part.strip() for part in asked.inputs.split(",") if part.strip()}
    for name in sorted(names):
        if name not in _INPUTS:
            raise unknown_name("input", name, _INPUTS)
    if "model" in names and asked.model is None:
        raise UserError("--inputs model: of which model?", hint="Add --model minilm or a folder.")
    return names


def _chosen(asked: Asked, causal: bool) -> list[Approximation]:
    names = None
    if asked.variants is not None:
        names = tuple(part.strip() for part in asked.variants.split(",") if part.strip())
        exact = [name for name in names if load_variant(name).exact]
        if exact:
            raise UserError(f"--variants: {exact[0]} is exact; its error is rounding alone")
    return approximations(names, _settings(asked), causal=causal)


def _settings(asked: Asked) -> dict[str, Params]:
    made = {
        name: variant_settings(load_variant(name), None, asked.window) for name in variant_names()
    }
    for text in asked.params:
        name, colon, settings = text.partition(":")
        if not colon:
            raise UserError(f"--params: {text!r} names no variant", hint="Write NAME:key=value.")
        variant = load_variant(name.strip())
        made[variant.name] = settings_of(
            variant, {**made[variant.name], **parse_settings(settings)}
        )
    return made
