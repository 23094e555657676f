"""How `paged_decode` is compiled ahead of time: the launches worth judging."""

from typing import Any

import torch

from ._features import Features
from ._launch import Ahead
from ._targets import Config
from .paged_decode import launches_of
from .paged_decode_configs import config_for

CONFIG = Config
# Name of a set of features to the settings of `paged_decode` that switch them on.
FEATURES: dict[str, dict[str, Any]] = {
    "plain": {},
    "one_split": {"splits": 1},
    "soft_cap": {"soft_cap": 50.0},
    "alibi": {"alibi_slopes": torch.ones(32)},
    "all": {"soft_cap": 50.0, "alibi_slopes": torch.ones(32)},
}
_TOKENS = 4096
_PAGE = 16
_COMBINE = "_combine"  # its form that joins softmaxes; one for all features


def entries(target: str) -> tuple[str, ...]:
    """The kernels that are shipped for `target`."""
    return ("_paged_decode", _COMBINE)


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
    settings = dict(FEATURES[features])
    splits = settings.pop("splits", 8)
    if config is None:
        config = config_for(target, head_dim=head_dim, dtype=dtype, tokens=_TOKENS)
    query = torch.empty(1, 32, 1, head_dim, dtype=dtype)
    pool = torch.empty(1, 2, _TOKENS, head_dim, dtype=dtype)
    table = torch.zeros(1, _TOKENS // _PAGE, dtype=torch.int32)
    asked = Features(kv_lens=torch.ones(1, dtype=torch.int32), **settings)
    launches = launches_of(
        query, pool, pool, torch.empty_like(query), torch.empty(1, 32, 1), table, asked, config,
        page_size=_PAGE, splits=8 if entry == _COMBINE else splits,
    )  # fmt: skip
    if entry == _COMBINE:
        return Ahead(launches[1], launches[1].own_config(), 0)
    launch = launches[0]
    # Q Kᵀ and P V, of a whole group of 16 heads.
    useful = 4 * config.block_m * config.block_n * launch.arguments["BLOCK_D"]
    tile = config.block_n * launch.arguments["BLOCK_D"] * dtype.itemsize  # of K, and of V
    return Ahead(launch, config._asdict(), useful, (tile, tile))
