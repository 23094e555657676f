"""A user's own kernel as a variant: what it says of itself, and how it is called.

The file is never imported here, where the command runs: a child process reads it (see
`_user_file`) and answers a `UserVariant`, which says all that planning needs.
"""

import functools
from typing import TYPE_CHECKING, Any

import msgspec

from attnbench.spec.attention import AttentionShape, Mode
from attnbench.spec.dtype import Dtype
from attnbench.variants import load_variant
from attnbench.variants._protocol import Backend, Params, ParamValue, Variant
from attnbench.variants._transforms import featured

if TYPE_CHECKING:
    from torch import Tensor

BACKEND = "user"


class UserVariant(msgspec.Struct, frozen=True, kw_only=True):
    """NAME of FILE.py: the variant whose mathematics it claims, and its own settings.

    `path` is absolute. `files` gives the SHA-256 of the file and of each module beside
    it that it imported, by path relative to its folder. `features` are the score
    features that it does itself. `interpreted`: it holds Triton kernels, which run
    under an interpreter where there is no GPU.
    """

    path: str
    name: str
    computes: str
    params: dict[str, ParamValue]
    features: tuple[str, ...]
    modes: tuple[Mode, ...]
    files: dict[str, str]
    interpreted: bool

    def variant(self) -> Variant:
        """The variant that it claims to compute, under its own name, with itself as backend."""
        claimed = load_variant(self.computes)
        return msgspec.structs.replace(
            claimed,
            name=self.name,
            summary=f"a user's kernel that computes {self.computes}",
            paper="",
            defaults={**claimed.defaults, **self.params, "computes": self.computes},
            modes=claimed.modes & frozenset(self.modes),
            backends=(self._backend(),),
        )

    def record(self) -> dict[str, Any]:
        """What a run's configuration holds of it: its name and its content, not its place."""
        return {"name": self.name, "computes": self.computes, "files": self.files}

    def _backend(self) -> Backend:
        backend = Backend(
            name=BACKEND,
            supports=functools.partial(_supports, self),
            prepare=functools.partial(_prepare, self),
            forward=_forward,
            workspace_bytes=_workspace,
            interpreted_on=frozenset({"cpu"} if self.interpreted else ()),
        )
        return featured(backend, *self.features, why="`features` names those a kernel has")


def _supports(
    user: UserVariant, shape: AttentionShape, mode: Mode, params: Params, device_type: str
) -> str | None:
    from attnbench.variants._user_file import load

    if user.interpreted and shape.dtype is Dtype.BF16:
        return "Triton's interpreter multiplies bf16's bits as integers; a GPU runs it"
    reason = load(user).supports(shape, mode, params, device_type)
    if reason is not None and not isinstance(reason, str):
        raise TypeError(f"{user.name}.supports answered {reason!r}, not a reason or None")
    return reason


def _prepare(user: UserVariant, shape: AttentionShape, params: Params, device: str) -> Any:
    from attnbench.variants._user_file import load

    kernel = load(user)
    return kernel.forward, kernel.prepare(shape, params, device)


def _forward(query: "Tensor", key: "Tensor", value: "Tensor", state: Any) -> "Tensor":
    forward, own = state
    out: Tensor = forward(query, key, value, own)
    return out


def _workspace(shape: AttentionShape, mode: Mode, params: Params) -> int:
    """Nothing is known of it: a point is tried, and what it cannot allocate is `oom`."""
    return 0
