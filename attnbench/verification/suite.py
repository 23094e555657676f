"""Verifies backends, each in a child process: a crash or a hang is one failed finding."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec

from attnbench.errors import UserError, unknown_name
from attnbench.measure.isolation import preload, run_isolated
from attnbench.spec.dtype import Dtype, parse_dtype
from attnbench.variants import load_variant, variant_names
from attnbench.variants._support import DTYPES
from attnbench.variants._user import BACKEND, UserVariant
from attnbench.verification.checks import check_names
from attnbench.verification.finding import Begun, Finding, Skip, Subject, broken
from attnbench.verification.worker import Job, Word, unpacked, verify_subject

LADDER = (Dtype.FP32, Dtype.BF16, Dtype.FP16, Dtype.FP8_E4M3, Dtype.FP8_E5M2)

Results = list[Finding | Skip]


def share_imports() -> None:
    """Have each child find imported what every check needs; call it before the first child.

    Autograd imports its symbolic shapes (sympy, a second) at the first gradient.
    """
    checks = (f"attnbench.verification.checks.{name}" for name in check_names())
    preload("torch.fx.experimental.symbolic_shapes", *checks)


def find_subjects(
    variants: Sequence[str] | None, backends: Sequence[str] | None, users: Sequence[UserVariant]
) -> list[Subject]:
    """What to verify: the variants named, with the user's kernels; all where neither is.

    `backends` choose among the built-in variants' alone.

    Raises:
        UserError: an unknown variant or backend.
    """
    names = variants if variants is not None else () if users else variant_names()
    asked = backends is not None
    found = [
        Subject(variant=n, backend=b.name, asked=asked)
        for n in names
        for b in load_variant(n).backends
    ]
    known = {b.name for n in variant_names() for b in load_variant(n).backends}
    for backend in backends or ():
        if backend not in known:
            raise unknown_name("backend", backend, known)
    found = [s for s in found if backends is None or s.backend in backends]
    return found + [Subject(variant=u.name, backend=BACKEND, user=u) for u in users]


def parse_dtypes(names: Sequence[str] | None) -> tuple[Dtype, ...]:
    """The dtypes to verify in: those named, or the ladder from fp32 to fp8.

    Raises:
        UserError: a name that is no dtype, or one that is neither run nor emulated.
    """
    if names is None:
        return LADDER
    found = tuple(dict.fromkeys(parse_dtype(name) for name in names))
    for dtype in found:
        if dtype not in (*DTYPES, *LADDER):
            raise UserError(
                f"dtype: {dtype} is not verified",
                hint=f"There are {', '.join(dict.fromkeys((*DTYPES, *LADDER)))}.",
            )
    return found


def verify(
    subjects: Sequence[Subject],
    *,
    device_type: str,
    dtypes: tuple[Dtype, ...],
    time_limit_s: float,
    progress: Callable[[Subject, Results], None],
) -> list[Finding | Skip]:
    """The results of every subject, in their order; a CPU verifies as many at once as it has cores.

    `progress` is called as each subject ends.
    """

    def one(subject: Subject) -> Results:
        if _takes_minutes(subject, device_type):
            reason = f"compiles each shape anew on a {device_type}: --backends {subject.backend}"
            skipped: Results = [_left_out(subject, reason)]
            progress(subject, skipped)
            return skipped
        job = Job(subject=subject, device_type=device_type, dtypes=dtypes, checks=check_names())
        results = list(_results(job, time_limit_s))
        progress(subject, results)
        return results

    workers = os.cpu_count() or 1 if device_type == "cpu" else 1
    with ThreadPoolExecutor(max_workers=workers) as pool:
        return [result for results in pool.map(one, subjects) for result in results]


def _takes_minutes(subject: Subject, device_type: str) -> bool:
    if subject.asked or subject.user is not None:
        return False
    backends = {b.name: b for b in load_variant(subject.variant).backends}
    return device_type in backends[subject.backend].compiled_on


def _left_out(subject: Subject, reason: str) -> Skip:
    return Skip(
        variant=subject.variant, backend=subject.backend, check=None, dtype=None, reason=reason
    )


def _results(job: Job, time_limit_s: float) -> Iterator[Finding | Skip]:
    """A subject's results. Where its process dies, the next goes on with the next check."""
    left = job.checks
    while left:
        words: list[Word] = []

        def hear(word: str, words: list[Word] = words) -> None:
            words.append(unpacked(word))

        part = msgspec.structs.replace(job, checks=left)
        ended = run_isolated(verify_subject, part, time_limit_s=time_limit_s, hear=hear)
        yield from (word for word in words if not isinstance(word, Begun))
        if ended.failed is None:
            return
        begun = [word.check for word in words if isinstance(word, Begun)]
        at = begun[-1] if begun else left[0]
        yield broken(job.subject, at, None, ended.reason)
        left = left[left.index(at) + 1 :]
        if left and (ended.failed == "timeout" or not begun):
            yield Skip(
                variant=job.subject.variant, backend=job.subject.backend, check=None, dtype=None,
                reason=f"not run after {at} failed so: {', '.join(left)}",
            )  # fmt: skip
            return
