"""How a kernel's configuration is written."""

from collections.abc import Mapping


def shown_config(config: Mapping[str, int]) -> str:
    """A configuration in short: 128×64 w8 s3 carry=1.

    >>> shown_config({"block_m": 128, "block_n": 64, "num_warps": 8, "num_stages": 3, "carry": 0})
    '128×64 w8 s3'
    """
    sizes = [str(n) for name, n in config.items() if name.lower().startswith("block_")]
    counts = [f"{name[4]}{n}" for name, n in config.items() if name.startswith("num_")]
    known = ("block_", "num_")
    others = [f"{k}={n}" for k, n in config.items() if n and not k.lower().startswith(known)]
    return " ".join([*(["×".join(sizes)] if sizes else []), *counts, *others])
