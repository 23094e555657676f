"""What runs in a child process: one variant and backend through the checks."""

from collections.abc import Callable
from types import ModuleType

import msgspec

from attnbench.measure.isolation import Say
from attnbench.measure.worker import classify
from attnbench.spec.dtype import Dtype
from attnbench.variants._support import DTYPES
from attnbench.verification.case import Case
from attnbench.verification.checks import load_check
from attnbench.verification.finding import (
    Begun,
    Finding,
    NotApplicable,
    Skip,
    Subject,
    broken,
    finding_of,
)

Word = Begun | Finding | Skip


def packed(word: Word) -> str:
    """`word` as text for a pipe. Not JSON, which has no NaN: a reading may be one."""
    return msgspec.msgpack.encode(word).decode("latin-1")


def unpacked(text: str) -> Word:
    """The word that `packed` made `text` of."""
    word: Word = msgspec.msgpack.decode(text.encode("latin-1"), type=Word)
    return word


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One subject to verify by `checks`, in their order."""

    subject: Subject
    device_type: str
    dtypes: tuple[Dtype, ...]
    checks: tuple[str, ...]


def verify_subject(job: Job, say: Say) -> None:
    """Job: run the checks; each word said is an encoded `Word`."""
    import torch

    if job.device_type == "cpu":
        torch.set_num_threads(1)  # subjects run side by side; small problems need no more
    case = Case(job.subject, job.device_type)

    def tell(word: Word) -> None:
        say(packed(word))

    refused = {d: case.refusal(d, case.forward_mode) for d in job.dtypes if d in DTYPES}
    able = [dtype for dtype, reason in refused.items() if reason is None]
    if not able:
        reason = next(iter(refused.values()), None) or f"none of the dtypes asked for: {DTYPES}"
        tell(_skip(job.subject, None, None, reason))
        return
    for name in job.checks:
        tell(Begun(check=name))
        check = load_check(name)
        for dtype in job.dtypes if check.EVERY_DTYPE else able[:1]:
            if dtype in DTYPES or name == "precision":
                tell(_run(case, name, check, dtype, tell))


def _run(
    case: Case, name: str, check: ModuleType, dtype: Dtype, tell: Callable[[Word], None]
) -> Finding | Skip:
    """One check in one dtype. What it raises is its finding, unless the device is broken.

    A word is told a reading: what compiles each shape anew is slow, and does not hang.
    """
    readings = []
    try:
        for reading in check.check(case, dtype):
            readings.append(reading)
            tell(Begun(check=name))
    except NotApplicable as none:
        return _skip(case.subject, name, dtype, str(none))
    except Exception as error:
        _, note = classify(error)
        return broken(case.subject, name, dtype, note)
    return finding_of(case.subject, name, dtype, readings, keep=name == "logit_scale")


def _skip(subject: Subject, check: str | None, dtype: Dtype | None, reason: str) -> Skip:
    return Skip(
        variant=subject.variant, backend=subject.backend, check=check, dtype=dtype, reason=reason
    )
