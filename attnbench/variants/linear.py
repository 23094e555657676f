"""Linear attention: the kernel φ(q)·φ(k) with φ = elu + 1."""

from typing import TYPE_CHECKING

from attnbench.calc.attention_cost import Cost, feature_cost
from attnbench.calc.eager_memory import feature_workspace
from attnbench.calc.score_features import ANY, score_features
from attnbench.spec.attention import AttentionShape, Mode
from attnbench.variants._linear_triton import linear_backend
from attnbench.variants._protocol import Backend, Learned, Params, Variant
from attnbench.variants._support import lens_of, supports_dtype, unchanged
from attnbench.variants._transforms import featured

if TYPE_CHECKING:
    from torch import Tensor


def _features(x: "Tensor") -> "tuple[Tensor, None]":
    import torch

    wide = x if x.dtype == torch.float64 else x.float()
    return torch.nn.functional.elu(wide) + 1, None


def _reference(
    query: "Tensor",
    key: "Tensor",
    value: "Tensor",
    shape: AttentionShape,
    params: Params,
    rows: "Tensor | None" = None,
    learned: Learned | None = None,
) -> "Tensor":
    from attnbench.variants._reference import kernel_reference
    from attnbench.variants._score import make_lens

    def log_features(x: "Tensor") -> "Tensor":
        # elu(x) + 1 is exp(x) below zero and x + 1 above.
        return x.clamp(max=0) + x.clamp(min=0).log1p()

    lens = make_lens(score_features(params), shape, query.device)
    return kernel_reference(
        query, key, value, log_features, causal=shape.causal, rows=rows, lens=lens
    )


def _prepare(shape: AttentionShape, params: Params, device: str) -> "tuple[bool, Tensor | None]":
    from attnbench.variants._score import make_lens

    return shape.causal, make_lens(score_features(params), shape, device)


def _forward(
    query: "Tensor", key: "Tensor", value: "Tensor", state: "tuple[bool, Tensor | None]"
) -> "Tensor":
    from attnbench.variants._features import attend

    causal, lens = state
    return attend(query, key, value, _features, causal=causal, lens=lens)


def _cost(shape: AttentionShape, mode: Mode, params: Params) -> Cost:
    lens = lens_of(shape, params)
    return feature_cost(shape, mode, features=shape.head_dim, projected=False, lens=lens)


def _workspace(shape: AttentionShape, mode: Mode, params: Params) -> int:
    return feature_workspace(shape, mode, features=shape.head_dim, projected=False)


_EAGER = Backend(
    name="eager",
    supports=supports_dtype,
    prepare=_prepare,
    forward=_forward,
    workspace_bytes=_workspace,
)

VARIANT = Variant(
    name="linear",
    summary="elu + 1 kernel feature map, linear in length",
    paper="Katharopoulos et al. 2020, arXiv:2006.16236",
    exact=False,
    defaults={},
    resolve=unchanged,
    pattern=None,
    cost=_cost,
    backends=(
        featured(_EAGER, "padding"),
        linear_backend(
            features=lambda shape, params: shape.head_dim,
            omega=lambda state: None,
            eager=_EAGER,
            lens=lambda state: state[1],
        ),
    ),
    modes=frozenset({Mode.FWD, Mode.BWD, Mode.FWD_BWD}),
    reference=_reference,
    features=ANY,
)
