"""How the linear-attention kernels are compiled ahead of time: the launches worth judging."""

import torch

from ._launch import Ahead
from .linear import launches_of
from .linear_configs import LinearConfig, config_for

CONFIG = LinearConfig
# Name of a set of features to what it sets: Performer's directions, causality, lengths.
FEATURES: dict[str, frozenset[str]] = {
    "plain": frozenset({"causal"}),
    "full": frozenset(),
    "padding": frozenset({"causal", "padding"}),
    "performer": frozenset({"causal", "random"}),
    "all": frozenset({"causal", "random", "padding"}),
}
_TOKENS = 4096
_DIRECTIONS = 256
# Performer's alone: compiled with its directions, whatever is asked.
_RANDOM_ONLY = ("_random_features", "_prefix_tops")
_NO_PRODUCTS = ("_prefix", "_prefix_tops")


def entries(target: str) -> tuple[str, ...]:
    """The kernels that are shipped for `target`."""
    return ("_outputs", "_chunk_states", "_prefix", *_RANDOM_ONLY)


def ahead_of_time(
    entry: str,
    target: str,
    *,
    head_dim: int,
    dtype: torch.dtype,
    features: str,
    config: LinearConfig | None,
) -> Ahead:
    """The launch of `entry`, and what it is judged by: see `_launch.py`.

    Raises:
        KeyError: there are no such `features`.
    """
    wanted = FEATURES[features]
    if entry in _RANDOM_ONLY:
        wanted = wanted | FEATURES["performer"]
    omega = torch.empty(_DIRECTIONS, head_dim) if "random" in wanted else None
    count = head_dim if omega is None else _DIRECTIONS
    if config is None:
        config = config_for(target, head_dim=head_dim, dtype=dtype, tokens=_TOKENS, features=count)
    query = torch.empty(1, 8, _TOKENS, head_dim, dtype=dtype)
    key = torch.empty(1, 2, _TOKENS, head_dim, dtype=dtype)
    lens = torch.ones(1, dtype=torch.int32) if "padding" in wanted else None
    causal = "causal" in wanted
    launch = launches_of(
        query, key, key, torch.empty_like(query), causal=causal, omega=omega, kv_lens=lens,
        config=config,
    )[entry]  # fmt: skip
    if entry in _NO_PRODUCTS:
        return Ahead(launch, launch.own_config(), 0)
    block_d = launch.arguments["BLOCK_D"]
    # For each block of features: Q's with the state, and under causality the pairs. A chunk's
    # state is one product, and so are its rows' random features.
    products = config.block_c * launch.arguments["BLOCK_F"] * block_d
    if entry == "_outputs" and causal:
        products += config.block_c * config.block_f * config.block_c
    return Ahead(launch, config._asdict(), 2 * products)
