"""Parsing and printing of bytes, lengths, rates and times. Units stand in names."""

import re

from attnbench.errors import UserError

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
GB = 10**9

_LENGTH_SUFFIX = {"": 1, "k": 1 << 10, "m": 1 << 20}
_BYTES_SUFFIX = {
    "": 1, "b": 1,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "k": KIB, "m": MIB, "g": GIB, "kib": KIB, "mib": MIB, "gib": GIB, "tib": 1 << 40,
}  # fmt: skip
_COUNT_SUFFIX = {"": 1, "b": 10**9, "t": 10**12}
_NUMBER = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)")
_MAX_DIGITS = 15  # far over any length or memory there is; keeps hostile input cheap


def _parse(text: str, suffixes: dict[str, int], *, what: str, example: str) -> int:
    found = _NUMBER.fullmatch(text.strip().lower())
    if found is None or found[2] not in suffixes or len(found[1]) > _MAX_DIGITS:
        raise UserError(f"{what}: {text!r} is not a size", hint=f"Write {example}.")
    whole, _, fraction = found[1].partition(".")
    scaled = int(whole + fraction) * suffixes[found[2]]
    value, rest = divmod(scaled, 10 ** len(fraction))
    if rest:
        raise UserError(f"{what}: {text!r} is not a whole number", hint=f"Write {example}.")
    return int(value)


def parse_length(text: str, *, what: str = "length", minimum: int = 1) -> int:
    """Tokens in '4096', '4k' (k = 1024) or '1m'.

    Raises:
        UserError: `text` is not such a size, or is under `minimum`.

    >>> parse_length("128k")
    131072
    """
    value = _parse(text, _LENGTH_SUFFIX, what=what, example="4096, 4k (= 4096) or 1m")
    if value < minimum:
        raise UserError(f"{what}: {text!r} is under {minimum}")
    return int(value)


def parse_lengths(text: str, *, what: str = "lengths", minimum: int = 1) -> tuple[int, ...]:
    """A list of lengths: '1k,2k,4k', or '1k..64k' by doubling.

    >>> parse_lengths("1k..4k,5k")
    (1024, 2048, 4096, 5120)
    """
    lengths: list[int] = []
    for part in text.split(","):
        first, dots, last = part.partition("..")
        value = parse_length(first, what=what, minimum=minimum)
        if not dots:
            lengths.append(value)
            continue
        stop = parse_length(last, what=what, minimum=minimum)
        if stop < value or value == 0:
            raise UserError(f"{what}: the range {part!r} is empty")
        while value <= stop:
            lengths.append(value)
            value *= 2
    return tuple(dict.fromkeys(lengths))


def parse_bytes(text: str, *, what: str = "bytes") -> int:
    """Bytes in '6GB' (10^9), '6GiB', '6g' (2^30) or a plain number.

    >>> parse_bytes("1.5GiB")
    1610612736
    """
    return _parse(text, _BYTES_SUFFIX, what=what, example="6GiB, 6GB or a number of bytes")


def parse_count(text: str, *, what: str = "count") -> int:
    """A large count: '300b' (10^9), '1.5t' (10^12) or a plain number.

    >>> parse_count("1.5t")
    1500000000000
    """
    return _parse(text, _COUNT_SUFFIX, what=what, example="300b (10^9), 1.5t (10^12) or a number")


def format_gib(n_bytes: int) -> str:
    """Bytes as GiB (2^30); under a MiB, as KiB or bytes: '10.00 GiB'."""
    if n_bytes < KIB:
        return f"{n_bytes} B"
    if n_bytes < MIB:
        return f"{n_bytes / KIB:.2f} KiB"
    if n_bytes < GIB / 10:
        return f"{n_bytes / MIB:.2f} MiB"
    return f"{n_bytes / GIB:,.2f} GiB"


def format_gb(n_bytes: float) -> str:
    """Bytes as GB (10^9): '10.74 GB'."""
    return f"{n_bytes / GB:,.2f} GB"


def format_count(value: float) -> str:
    """A count with its SI letter: '8.03 B' for 8.03e9, '512' as it is."""
    for scale, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= scale:
            return f"{value / scale:.2f} {letter}"
    return f"{value:g}"


def format_ms(value_ms: float) -> str:
    """Milliseconds with three or four figures that matter."""
    if value_ms >= 100:
        return f"{value_ms:,.0f}"
    return f"{value_ms:.3g}" if value_ms >= 0.1 else f"{value_ms:.4f}"


def format_duration(seconds: float) -> str:
    """A time as people say it: '40 s', '4 min 10 s', '2 h 5 min'."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def format_rate(per_s: float, unit: str) -> str:
    """A rate with its SI prefix: '989.4 TFLOP/s'."""
    for scale, letter in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
        if per_s >= scale:
            return f"{per_s / scale:,.4g} {letter}{unit}"
    return f"{per_s:,.4g} {unit}"


def format_figure(key: str, value: object) -> str:
    """A profile's figure as people read it; its unit is in its key.

    >>> format_figure("peak_flops_per_s.bf16", 989.4e12)
    '989.4 TFLOP/s'
    """
    if not isinstance(value, int | float):
        return str(value)
    if "flops_per_s" in key:
        return format_rate(value, "FLOP/s")
    if key.endswith("bytes_per_s"):
        return format_rate(value, "B/s")
    if key.endswith("_hz"):
        return format_rate(value, "Hz")
    if key.endswith("_bytes"):
        size = format_gib(int(value))
        return f"{size} ({format_gb(value)})" if value >= GB else size
    return f"{value:g} W" if key.endswith("_w") else f"{value:,g}"
