"""The time that a device's peaks allow."""


def roofline_s(
    *, flops: int, bytes_moved: int, flops_per_s: float | None, bytes_per_s: float | None
) -> float | None:
    """Seconds: the longer of computing `flops` and moving `bytes_moved` at peak rates.

    None where a peak is not known.

    Source: Williams, Waterman, Patterson 2009, "Roofline", CACM 52(4).

    >>> roofline_s(flops=2 * 10**12, bytes_moved=10**9, flops_per_s=1e12, bytes_per_s=1e12)
    2.0
    """
    if not flops_per_s or not bytes_per_s:
        return None
    return max(flops / flops_per_s, bytes_moved / bytes_per_s)
