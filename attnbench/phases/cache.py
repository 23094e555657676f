"""How many bytes a cache of transformers holds, whatever its kind."""

from typing import Any


def cache_bytes(cache: Any) -> int:
    """Bytes of the tensors that `cache` holds: keys, values, states; each storage once.

    What is held counts, not what was reserved: a view counts as its own elements.
    """
    import torch

    seen: set[int] = set()
    total = 0
    left = [cache]
    while left:
        value = left.pop()
        if id(value) in seen or value is None:
            continue
        seen.add(id(value))
        if isinstance(value, torch.Tensor):
            # Positions that a cache counts by are a few numbers, and no cache.
            total += value.numel() * value.element_size() if value.is_floating_point() else 0
        elif isinstance(value, dict):
            left += value.values()
        elif isinstance(value, list | tuple):
            left += value
        elif type(value).__module__.startswith("transformers.") and hasattr(value, "__dict__"):
            if hasattr(value, "model_type"):  # a configuration
                continue
            left += vars(value).values()
    return total
