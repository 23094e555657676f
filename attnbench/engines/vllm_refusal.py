"""The error that vLLM prints in place of its sizes where one request does not fit."""

from attnbench.engines._versions import Version, pick
from attnbench.units import GIB

_WHOSE = (((0,), "models's"), ((0, 26), "model's"))


def refusal(
    version: Version | None, *, length: int, needed: int, available: float, longest: int | None
) -> str:
    """The error's text up to its advice. Sizes in bytes.

    Source: vLLM, `_check_enough_kv_cache_memory`.
    """
    if available <= 0:
        return "ValueError: No available memory for the cache blocks."
    fitting = ""
    if longest:
        fitting = (
            f" Based on the available memory, the estimated maximum model length is {longest}."
        )
    return (
        f"ValueError: To serve at least one request with the {pick(_WHOSE, version)} max seq len "
        f"({length}), ({needed / GIB:.2f} GiB KV cache is needed, which is larger than the "
        f"available KV cache memory ({available / GIB:.2f} GiB).{fitting}"
    )
