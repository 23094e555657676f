"""Holds what the compiler made now against what it made before: `attnbench kernels check`.

A budget file is JSON, a kernel a line, and names the Triton that it was made with: another
Triton makes other code, and its figures are no measure of a change to a kernel.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

import attnbench.kernels
from attnbench.aot.facts import KernelFacts
from attnbench.aot.survey import Failed
from attnbench.errors import NotComparableError, UserError
from attnbench.gate.verdict import Verdict, Word

SCHEMA = "attnbench.kernel-budgets/1"
MAX_LOOP_GROWTH = 1.05
MAX_OVERLAP_LOSS = 0.02  # a share of exponentials; less is one instruction's place
SHIPPED = Path(attnbench.kernels.__path__[0]) / "budgets.json"


class Budget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one kernel may be like: facts of `KernelFacts`, by the same names."""

    kernel: str
    entry: str
    target: str
    head_dim: int
    dtype: str
    features: str
    config: dict[str, int]
    registers: int
    spill_bytes: int
    shared_bytes: int
    ctas_per_sm: int
    mma: str | None
    mma_redundancy: float | None
    load_bits: int | None
    bulk_loads: bool
    exp2_overlap: float | None
    loop_instructions: int | None

    @property
    def key(self) -> tuple[str | int, ...]:
        """What a kernel is found by; its configuration is no part, so that it can change."""
        return _key(self)


class Budgets(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A budget file: the Triton that it is of, and a budget a kernel."""

    schema: str = SCHEMA
    triton: str
    kernels: list[Budget]


def read_budgets(path: Path) -> Budgets:
    """The budget file at `path`.

    Raises:
        NotComparableError: there is none, or it is of another schema.
        UserError: it is malformed, or names a kernel twice.
    """
    if not path.exists():
        raise NotComparableError(
            f"{path}: no such budgets", hint="Make them: attnbench kernels check --update"
        )
    try:
        data = path.read_bytes()
        schema = msgspec.json.decode(data, type=dict[str, Any]).get("schema")
        if schema != SCHEMA:
            raise NotComparableError(f"{path}: schema is {schema!r}, not {SCHEMA!r}")
        budgets = msgspec.json.decode(data, type=Budgets)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: {error}") from None
    keys = [budget.key for budget in budgets.kernels]
    for key in keys:
        if keys.count(key) > 1:
            raise UserError(f"{path}: {label_of(key)} stands there twice")
    return budgets


def require_triton(budgets: Budgets, triton: str, path: Path) -> None:
    """Refuse budgets of another Triton than `triton`.

    Raises:
        NotComparableError: they are.
    """
    if budgets.triton != triton:
        raise NotComparableError(
            f"{path}: the budgets are of Triton {budgets.triton}; this is {triton}",
            hint=f"pip install triton=={budgets.triton}, or bless this one: "
            "attnbench kernels check --update --budgets FILE",
        )


def judge(found: Sequence[KernelFacts | Failed], budgets: Sequence[Budget]) -> tuple[Verdict, ...]:
    """A verdict a kernel and broken limit; one SAME for a kernel that keeps all of them.

    A kernel with no budget is held to the limits that need none, and is MISSING besides,
    which fails nothing.
    """
    known = {budget.key: budget for budget in budgets}
    verdicts: list[Verdict] = []
    for one in found:
        if isinstance(one, Failed):
            verdicts.append(_verdict(one, "compile", reason=one.why, failed=True))
            continue
        budget = known.get(_key(one))
        broken = [
            _verdict(one, metric, before, now, reason, failed=True)
            for metric, before, now, reason in _breaches(one, budget)
        ]
        if budget is None:
            reason = "it has no budget; write one with --update"
            broken.append(_verdict(one, "budget", reason=reason, word=Word.MISSING))
        verdicts += broken or [_verdict(one, "budget", word=Word.SAME)]
    return tuple(sorted(verdicts, key=lambda v: (not v.failed, v.verdict is Word.SAME)))


def update(
    before: Budgets | None, found: Sequence[KernelFacts | Failed], triton: str
) -> tuple[str, int]:
    """The text of a budget file with `found` in it, and how many kernels it holds then.

    Budgets of `before` are kept where they are of this Triton and `found` has not the kernel.

    Raises:
        UserError: a kernel could not be compiled; it has no budget to write.
    """
    for one in found:
        if isinstance(one, Failed):
            raise UserError(f"no budget for {label_of(_key(one))}: {one.why}")
    made = {_key(one): budget_of(one) for one in found if isinstance(one, KernelFacts)}
    kept = {} if before is None or before.triton != triton else {b.key: b for b in before.kernels}
    every = sorted((kept | made).items(), key=lambda item: tuple(map(str, item[0])))
    lines = [json.dumps(msgspec.to_builtins(budget), ensure_ascii=False) for _, budget in every]
    head = f'{{"schema": "{SCHEMA}", "triton": "{triton}", "kernels": [\n'
    return head + ",\n".join(lines) + "\n]}\n", len(lines)


def spills(found: Sequence[KernelFacts | Failed]) -> dict[str, int]:
    """What each kernel that spills does, in bytes a thread, by its label."""
    facts = [one for one in found if isinstance(one, KernelFacts)]
    return {label_of(_key(one)): one.spill_bytes for one in facts if one.spill_bytes}


def budget_of(facts: KernelFacts) -> Budget:
    """The budget that `facts` just keep."""
    names = [name for name in Budget.__struct_fields__ if name != "bulk_loads"]
    values = {name: getattr(facts, name) for name in names}
    return Budget(**values, bulk_loads=facts.bulk_loads)


def label_of(key: tuple[str | int, ...]) -> str:
    """A kernel's key for people: "_flash_fwd sm_90 D128 bf16 causal"."""
    _, entry, target, head_dim, dtype, features = key[:6]
    shape = [f"D{head_dim}"] if head_dim else []
    about = [] if features == "-" else [str(dtype), str(features)]
    return " ".join([str(entry), str(target), *shape, *about, *map(str, key[6:])])


Breach = tuple[str, Any, Any, str]


def _breaches(now: KernelFacts, budget: Budget | None) -> Iterator[Breach]:
    """Every limit that `now` breaks: metric, what was, what is, and why that is bad."""
    allowed = budget.spill_bytes if budget else 0
    if now.spill_bytes > allowed:
        yield "spill_bytes", allowed, now.spill_bytes, f"spills {now.spill_bytes} B a thread"
    if now.shared_bytes > now.shared_limit_bytes:
        limit = now.shared_limit_bytes
        yield "shared_bytes", limit, now.shared_bytes, f"over the {limit} B of shared memory"
    if now.ctas_per_sm < 1 and now.shared_bytes <= now.shared_limit_bytes:
        yield "ctas_per_sm", 1, now.ctas_per_sm, f"no program fits an SM: {now.ctas_limit}"
    if budget is None:
        return
    if now.mma != budget.mma:
        yield "mma", budget.mma, now.mma, f"matrix products by {now.mma}, were by {budget.mma}"
    if budget.bulk_loads and not now.bulk_loads:
        yield "bulk_loads", True, False, "no TMA any more"
    for metric, worse, says in _COMPARED:
        before, current = getattr(budget, metric), getattr(now, metric)
        if before is not None and (current is None or worse(before, current)):
            yield metric, before, current, says(before, current)


_COMPARED: tuple[tuple[str, Callable[[Any, Any], bool], Callable[[Any, Any], str]], ...] = (
    ("mma_redundancy", lambda was, now: now > was + 1e-6,
     lambda was, now: f"FLOPs executed a FLOP wanted: {_n(now)}, was {_n(was)}"),
    ("load_bits", lambda was, now: now < was,
     lambda was, now: f"loads of {_n(now)} bits, were of {_n(was)}"),
    ("exp2_overlap", lambda was, now: now < was - MAX_OVERLAP_LOSS,
     lambda was, now: f"exponentials under a product: {_n(now)}, were {_n(was)}"),
    ("loop_instructions", lambda was, now: now > was * MAX_LOOP_GROWTH,
     lambda was, now: f"main loop of {_n(now)} instructions, was of {_n(was)}"),
    ("ctas_per_sm", lambda was, now: 1 <= now < was,
     lambda was, now: f"{_n(now)} programs an SM, were {_n(was)}"),
)  # fmt: skip


def _n(value: float | None) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, int) else f"{value:.2f}"


def _key(one: Any) -> tuple[str | int, ...]:
    key = (one.kernel, one.entry, one.target, one.head_dim, getattr(one, "dtype", "-"),
           one.features)  # fmt: skip
    if one.features != "-" or not one.config:
        return key
    # A user's kernel: its configurations stand beside one another.
    return (*key, *(f"{name}={value}" for name, value in one.config.items()))


def _verdict(
    one: KernelFacts | Failed,
    metric: str,
    before: Any = None,
    now: Any = None,
    reason: str = "",
    *,
    failed: bool = False,
    word: Word = Word.SLOWER,
) -> Verdict:
    names = ("kernel", "entry", "target", "head_dim", "features")
    ratio = now / before if failed and _number(now) and _number(before) and before else None
    return Verdict(
        point=label_of(_key(one)), metric=metric, verdict=word, failed=failed, baseline=before,
        current=now, ratio=ratio, reason=reason,
        key={name: getattr(one, name) for name in names if getattr(one, name) is not None},
    )  # fmt: skip


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
