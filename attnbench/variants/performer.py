"""Performer: FAVOR+, the softmax kernel estimated by positive orthogonal random features."""

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


def draw_features(features: int, head_dim: int, seed: int) -> "Tensor":
    """Random directions ω [features, head_dim] in float64: orthogonal within head_dim rows.

    Each block of head_dim rows is a random orthogonal matrix; each row's length is that
    of an independent Gaussian vector, so that every row is distributed as N(0, I).
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    blocks = -(-features // head_dim)
    gauss = torch.randn(blocks, head_dim, head_dim, generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(gauss)
    # Signs of R's diagonal make Q uniform over orthogonal matrices.
    q = q * torch.sign(torch.diagonal(r, dim1=1, dim2=2))[:, None, :]
    rows = q.transpose(1, 2).reshape(blocks * head_dim, head_dim)[:features]
    lengths = torch.randn(features, head_dim, generator=generator, dtype=torch.float64).norm(dim=1)
    drawn: Tensor = rows * lengths[:, None]
    return drawn


def log_features(x: "Tensor", omega: "Tensor") -> "Tensor":
    """log φ(x) = ωx/d^¼ − |x|²/(2√d) − ½ log m: [..., features] (Choromanski, lemma 1).

    The mean of φ(q)·φ(k) over ω is exp(q·k/√d).
    """
    import math

    width, count = omega.shape[1], omega.shape[0]
    x = x * width**-0.25
    return x @ omega.T - 0.5 * (x * x).sum(-1, keepdim=True) - 0.5 * math.log(count)


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

    omega = draw_features(int(params["features"]), shape.head_dim, int(params["seed"]))
    omega = omega.to(query.device)
    lens = make_lens(score_features(params), shape, query.device)
    return kernel_reference(
        query, key, value, lambda x: log_features(x, omega), causal=shape.causal, rows=rows,
        lens=lens,
    )  # fmt: skip


def _prepare(
    shape: AttentionShape, params: Params, device: str
) -> "tuple[Tensor, bool, Tensor | None]":
    import torch

    from attnbench.variants._score import make_lens

    lens = make_lens(score_features(params), shape, device)
    omega = draw_features(int(params["features"]), shape.head_dim, int(params["seed"]))
    dtype = torch.float64 if shape.dtype == "fp64" else torch.float32
    return (omega * shape.head_dim**-0.25).to(device, dtype), shape.causal, lens


def _forward(
    query: "Tensor",
    key: "Tensor",
    value: "Tensor",
    state: "tuple[Tensor, bool, Tensor | None]",
) -> "Tensor":
    from attnbench.variants._features import attend

    omega, causal, lens = state

    def feature_map(x: "Tensor") -> "tuple[Tensor, Tensor]":
        # log φ less what all features share goes to the scale, ½ log m cancels. In
        # place, which autograd allows: no product's gradient needs its output.
        wide = x.to(omega.dtype)
        logs = wide @ omega.T
        top = logs.detach().amax(-1, keepdim=True)
        scale = top.squeeze(-1) - 0.5 * wide.shape[-1] ** -0.5 * (wide * wide).sum(-1)
        return logs.sub_(top).exp_(), scale

    return attend(query, key, value, feature_map, causal=causal, lens=lens)


def _cost(shape: AttentionShape, mode: Mode, params: Params) -> Cost:
    lens = lens_of(shape, params)
    return feature_cost(shape, mode, features=int(params["features"]), projected=True, lens=lens)


def _workspace(shape: AttentionShape, mode: Mode, params: Params) -> int:
    return feature_workspace(shape, mode, features=int(params["features"]), projected=True)


_EAGER = Backend(
    name="eager",
    supports=supports_dtype,
    prepare=_prepare,
    forward=_forward,
    workspace_bytes=_workspace,
)

VARIANT = Variant(
    name="performer",
    summary="FAVOR+: softmax kernel by positive orthogonal random features",
    paper="Choromanski et al. 2021, arXiv:2009.14794",
    exact=False,
    defaults={"features": 256, "seed": 0},
    resolve=unchanged,
    pattern=None,
    cost=_cost,
    backends=(
        featured(_EAGER, "padding"),
        linear_backend(
            features=lambda shape, params: int(params["features"]),
            omega=lambda state: state[0],
            eager=_EAGER,
            lens=lambda state: state[2],
        ),
    ),
    modes=frozenset({Mode.FWD, Mode.BWD, Mode.FWD_BWD}),
    reference=_reference,
    features=ANY,
    least={"seed": 0},
)
