"""How `flash_bwd` is compiled ahead of time: the launches worth judging."""

import torch

from ._features import Features
from ._launch import Ahead
from ._targets import Config
from .flash_bwd_configs import config_for
from .flash_fwd_aot import FEATURES as _FORWARD
from .flash_fwd_aot import operands
from .flash_grad import DKDV, DQ, launch_of

CONFIG = Config
FEATURES = {name: settings for name, settings in _FORWARD.items() if name != "decode"}
# Products of a tile: Q Kᵀ and dO Vᵀ, made again, then what adds to dQ, or to dK and dV.
_PRODUCTS = {DQ: 3, DKDV: 4}


def entries(target: str) -> tuple[str, ...]:
    """The kernels that are shipped for `target`."""
    return (DQ, DKDV)


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

    Raises:
        KeyError: there are no such `features`.
    """
    query, key, settings = operands(features, head_dim=head_dim, dtype=dtype)
    asked = Features(**settings)
    if config is None:
        config = config_for(
            target, entry, head_dim=head_dim, dtype=dtype, seq_q=query.shape[2],
            seq_kv=key.shape[2], featured=asked.costly(),
        )  # fmt: skip
    lse = torch.empty(query.shape[:3])
    grads = [torch.empty_like(t) for t in (query, key, key)]
    launch = launch_of(entry, query, key, key, query, lse, query, None, lse, grads, asked, config)
    useful = 2 * _PRODUCTS[entry] * config.block_m * config.block_n * launch.arguments["BLOCK_D"]
    # Of K and V, or of Q and dO.
    rows = config.block_n if entry == DQ else config.block_m
    tile = rows * launch.arguments["BLOCK_D"] * dtype.itemsize
    return Ahead(launch, config._asdict(), useful, (tile, tile))
