"""How `flash_fwd` is compiled ahead of time: the launches worth judging."""

from typing import Any

import torch

from ._features import Features
from ._launch import Ahead
from ._targets import ForwardConfig
from .flash import entry_for, launch_of
from .flash_fwd_configs import POINTER, TMA, config_for

CONFIG = ForwardConfig
# Name of a set of features to the settings of `flash_fwd` that switch them on.
FEATURES: dict[str, dict[str, Any]] = {
    "plain": {},
    "causal": {"causal": True},
    "window": {"causal": True, "window": 512, "sinks": 4},
    "soft_cap": {"causal": True, "soft_cap": 50.0},
    "alibi": {"causal": True, "alibi_slopes": torch.ones(8)},
    "padding": {"causal": True, "kv_lens": torch.ones(1, dtype=torch.int32)},
    "ragged": {"causal": True, "ragged": True},
    "decode": {"causal": True, "seq_q": 1},
}
FEATURES["all"] = {
    name: setting
    for features in ("window", "soft_cap", "alibi", "padding")
    for name, setting in FEATURES[features].items()
}
_TOKENS = 4096  # divisible by every block: no ragged end


def operands(
    features: str, *, head_dim: int, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
    """A query and a key that stand for a device's, and the settings of `features`."""
    settings = dict(FEATURES[features])
    tokens = _TOKENS + 1 if settings.pop("ragged", False) else _TOKENS
    seq_q = settings.pop("seq_q", tokens)
    query = torch.empty(1, 8, seq_q, head_dim, dtype=dtype)
    return query, torch.empty(1, 2, tokens, head_dim, dtype=dtype), settings


def entries(target: str) -> tuple[str, ...]:
    """The kernels that are shipped for `target`, the first choice first."""
    query, key, _ = operands("plain", head_dim=64, dtype=torch.bfloat16)
    return (TMA, POINTER) if entry_for(target, query, key, key) == TMA else (POINTER,)


def ahead_of_time(
    entry: str,
    target: str,
    *,
    head_dim: int,
    dtype: torch.dtype,
    features: str,
    config: ForwardConfig | None,
) -> Ahead:
    """The launch of `entry`, and what it is judged by: see `_launch.py`.

    Raises:
        KeyError: there are no such `features`.
    """
    query, key, settings = operands(features, head_dim=head_dim, dtype=dtype)
    asked = Features(**settings)
    if config is None:
        config = config_for(
            target, entry, head_dim=head_dim, dtype=dtype, seq_q=query.shape[2],
            seq_kv=key.shape[2], causal=asked.causal, featured=asked.costly(),
        )  # fmt: skip
    lse = torch.empty(query.shape[:3])
    launch = launch_of(entry, query, key, key, torch.empty_like(query), lse, asked, config)
    # Q Kᵀ and P V.
    useful = 4 * config.block_m * config.block_n * launch.arguments["BLOCK_D"]
    tile = config.block_n * launch.arguments["BLOCK_D"] * dtype.itemsize  # of K, and of V
    return Ahead(launch, config._asdict(), useful, (tile, tile))
