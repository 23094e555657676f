"""What is judged without statistics: status, the mathematics, memory and error.

The words are the gate's own: SLOWER is worse than allowed, FASTER better.
"""

from collections.abc import Sequence
from typing import Any

from attnbench.gate.verdict import Limits, Number, Word
from attnbench.spec.dtype import Dtype
from attnbench.spec.result import ResultRow, Status

MEMORY = ("peak_memory_bytes", "workspace_bytes")
ERRORS = ("rel_error", "kernel_error", "grad_error")
COUNTS = ("pairs", "flops", "bytes_min")

# Resident memory is counted by pages, in batches a core and a counter, and what a library's
# threads touch depends on which of them ran: sweeps of one code differ by up to 1 MiB, at
# any size. A device's allocator counts its own bytes, and needs no such allowance.
HOST_MEMORY_FLOOR_BYTES = 2 << 20

# Half the distance from 1 to the next number. An output correct but for its last
# rounding is off by up to that much, so an error below is noise, whatever its growth.
UNIT_ROUNDOFF = {
    Dtype.FP64: 2.0**-53, Dtype.FP32: 2.0**-24, Dtype.TF32: 2.0**-11,
    Dtype.FP16: 2.0**-11, Dtype.BF16: 2.0**-8,
    Dtype.FP8_E4M3: 2.0**-4, Dtype.FP8_E5M2: 2.0**-3, Dtype.INT8: 2.0**-8,
    Dtype.INT4: 2.0**-4, Dtype.MXFP4: 2.0**-2, Dtype.NVFP4: 2.0**-2,
}  # fmt: skip

# What the device decides rather than the code: no regression on another device.
DEVICES_OWN = (Status.OOM, Status.TIMEOUT, Status.SKIPPED, Status.UNSUPPORTED, Status.INTERPRETED)

Found = dict[str, Any]  # the fields of a Verdict that a judgement fills


def judge_status(before: ResultRow, now: ResultRow, *, same_device: bool) -> Found:
    """Whether the point still ends as well as it did.

    Fails where it was ok and is not, was interpreted and is neither, or is incorrect
    and was not. On another device only error, incorrect and impossible say so.
    """
    found: Found = {"baseline": before.status, "current": now.status, "verdict": Word.SAME}
    if before.status == now.status:
        return found
    reason = f"was {before.status}, is {now.status}" + (f": {now.note}" if now.note else "")
    found["reason"] = reason
    good = (Status.OK, Status.INTERPRETED)
    lost = before.status == Status.OK
    lost |= before.status == Status.INTERPRETED and now.status != Status.OK
    lost |= now.status == Status.INCORRECT
    if lost and not same_device and now.status in DEVICES_OWN:
        return found | {"verdict": Word.NOT_COMPARABLE, "reason": f"{reason}; another device"}
    if lost:
        return found | {"verdict": Word.SLOWER, "failed": True}
    return found | {"verdict": Word.FASTER if now.status in good else Word.SAME}


def judge_count(name: str, before: ResultRow, now: ResultRow) -> Found | None:
    """Whether an exact count of the mathematics is what it was; None where neither has it.

    A count that changed fails as NOT_COMPARABLE: it is no longer the same problem.
    """
    old, new = getattr(before, name), getattr(now, name)
    if old is None:
        return None
    found: Found = {"baseline": old, "current": new}
    if new is None:
        return found | {"verdict": Word.MISSING}
    ratio = new / old if old else None
    if old == new:
        return found | {"ratio": ratio, "verdict": Word.SAME}
    reason = f"{name} was {old}, is {new}: the mathematics changed"
    return found | {
        "ratio": ratio, "verdict": Word.NOT_COMPARABLE, "failed": True, "reason": reason,
    }  # fmt: skip


def judge_growth(
    name: str, before: Sequence[ResultRow], now: ResultRow, limits: Limits
) -> Found | None:
    """Whether memory or error stays within its limit; None where no baseline has it.

    `before` are the baseline's runs; the largest of their figures counts.
    """
    figures = [value for row in before if (value := getattr(row, name)) is not None]
    if not figures:
        return None
    old, new = max(figures), getattr(now, name)
    found: Found = {"baseline": old, "current": new}
    if new is None:
        return found | {"verdict": Word.MISSING}
    ratio = new / old if old else (1.0 if new == 0 else None)
    limit = limits.max_memory_growth if name in MEMORY else limits.max_error_growth
    found["ratio"] = ratio
    if new > old * limit and not _is_noise(name, old, new, now):
        growth = f"{ratio:.3g} times" if ratio is not None else "from none to some"
        return found | {
            "verdict": Word.SLOWER,
            "failed": True,
            "reason": f"{name} grew {growth}; {limit:g} is allowed",
        }
    better = new * limit < old and not _is_noise(name, new, old, now)
    return found | {"verdict": Word.FASTER if better else Word.SAME}


def _is_noise(name: str, low: Number, high: Number, row: ResultRow) -> bool:
    """Whether going from `low` to `high` is within what the figure's source resolves."""
    if name in MEMORY:
        return row.timer == "host_clock" and high - low <= HOST_MEMORY_FLOOR_BYTES
    return high <= UNIT_ROUNDOFF[Dtype(row.dtype)]
