"""What a kernel's host code hands over: one launch, and one to compile ahead of time.

`kernels/<family>_aot.py` makes a family known to `attnbench kernels`. It holds
- `CONFIG`, the NamedTuple of a configuration of the family's, `num_warps` among its fields;
- `FEATURES`, a mapping whose keys name sets of features; "plain" is one;
- `entries(target)`, the names of the JIT functions that are shipped for `target`;
- `ahead_of_time(entry, target, *, head_dim, dtype, features, config)`, the `Ahead` of one
  of them: `features` a key of `FEATURES`, `config` a `CONFIG`, or None for the shipped one.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Launch(NamedTuple):
    """One kernel launch: everything but the device."""

    kernel: Any
    grid: tuple[int, ...]
    arguments: Mapping[str, Any]
    options: Mapping[str, int | bool]

    def own_config(self) -> dict[str, int]:
        """Warps and pipeline, of a kernel that no table of configurations sets."""
        return {name: self.options[name] for name in ("num_warps", "num_stages")}


class Ahead(NamedTuple):
    """A launch whose CPU tensors stand for a device's, and what it is judged by.

    `config` is the configuration's fields by name. `useful_flops` are the FLOPs of matrix
    products that the mathematics wants of one program in one iteration of its main loop,
    recomputation that the algorithm is built on included; 0 of a kernel without any.
    `tiles` are the bytes of each tile that the iteration loads for them, by which the width
    of those loads is told from that of a list's or a row's (`attnbench/aot/loads.py`).
    """

    launch: Launch
    config: Mapping[str, int]
    useful_flops: int
    tiles: tuple[int, ...] = ()
