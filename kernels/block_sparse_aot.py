"""How the block-sparse kernels are compiled ahead of time: the launches worth judging."""

from typing import Any

import torch

from attnbench.calc.patterns import SlidingWindow

from ._block_lists import make_lists
from ._features import Features
from ._launch import Ahead
from ._targets import Config
from .block_sparse import launches_dkdv, launches_dq, launches_fwd
from .block_sparse_configs import config_for, tile_for

CONFIG = Config
# Name of a set of features to the settings of `block_sparse` that switch them on.
FEATURES: dict[str, dict[str, Any]] = {
    "plain": {},
    "stepped": {"stepped": True},
    "split": {"split": True},
    "soft_cap": {"soft_cap": 50.0},
    "alibi": {"alibi_slopes": torch.ones(8)},
    "padding": {"kv_lens": torch.ones(1, dtype=torch.int32)},
}
FEATURES["all"] = {name: setting for given in FEATURES.values() for name, setting in given.items()}
_TOKENS = 256
# Products of a tile in the main loop: Q Kᵀ and P V; Q Kᵀ, dO Vᵀ and dS K; and dSᵀ Q, Pᵀ dO too.
_PRODUCTS = {"_block_sparse_fwd": 2, "_block_sparse_dq": 3, "_block_sparse_dkdv": 4}
# Sums gradients; the form that joins softmaxes is compiled for `paged_decode`.
_COMBINE = "_combine"


def entries(target: str) -> tuple[str, ...]:
    """The kernels that are shipped for `target`."""
    return (*_PRODUCTS, _COMBINE)


def ahead_of_time(
    entry: str,
    target: str,
    *,
    head_dim: int,
    dtype: torch.dtype,
    features: str,
    config: Config | None,
) -> Ahead:
    """The launch of `entry`, and what it is judged by: see `_launch.py`.

    The tile is the shipped one, or the configuration's blocks where they are larger. What
    joins split tiles has one form for all features, and a configuration of its own.

    Raises:
        KeyError: there are no such `features`.
    """
    settings = dict(FEATURES[features])
    limit = 1 if settings.pop("split", False) or entry == _COMBINE else 32
    dilation = 2 if settings.pop("stepped", False) else 1
    tile_m, tile_n = tile_for(target, seq_q=_TOKENS, seq_kv=_TOKENS, dtype=dtype)
    short = "dq" if entry == _COMBINE else entry.removeprefix("_block_sparse_")
    if config is None:
        config = config_for(short, target, head_dim=head_dim, dtype=dtype)
    tile_m, tile_n = max(tile_m, config.block_m), max(tile_n, config.block_n)
    lists = make_lists(
        [SlidingWindow(window=100, dilation=dilation, causal=True)], seq_q=_TOKENS, seq_kv=_TOKENS,
        tile_m=tile_m, tile_n=tile_n, limit=limit, device="cpu",
    )  # fmt: skip
    query = torch.empty(1, 8, _TOKENS, head_dim, dtype=dtype)
    key = torch.empty(1, 2, _TOKENS, head_dim, dtype=dtype)
    lse = torch.empty(1, 8, _TOKENS)
    asked = Features(**settings)
    if short == "fwd":
        made = launches_fwd(query, key, key, query, lse, lists, asked, config)
    elif short == "dq":
        made = launches_dq(query, key, key, query, query, lse, lse, None, query, lists, asked,
                           config)  # fmt: skip
    else:
        made = launches_dkdv(query, key, key, query, query, lse, lse, key, key, lists, asked,
                             config)  # fmt: skip
    if entry == _COMBINE:
        return Ahead(made[1], made[1].own_config(), 0)
    block_d = made[0].arguments["BLOCK_D"]
    useful = 2 * _PRODUCTS[entry] * config.block_m * config.block_n * block_d
    # Of K and V, or of Q and dO.
    rows = config.block_m if short == "dkdv" else config.block_n
    tile = rows * block_d * dtype.itemsize
    return Ahead(made[0], config._asdict(), useful, (tile, tile))
