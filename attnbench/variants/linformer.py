"""Linformer: keys and values projected from n tokens to a fixed number of rows."""

from typing import TYPE_CHECKING

from attnbench.calc.attention_cost import Cost, projection_cost
from attnbench.calc.eager_memory import projection_workspace
from attnbench.calc.score_features import ANY, score_features
from attnbench.spec.attention import AttentionShape, Mode
from attnbench.variants._protocol import Backend, Learned, Params, Variant
from attnbench.variants._support import lens_of, supports_dtype, unchanged
from attnbench.variants._transforms import featured

if TYPE_CHECKING:
    from torch import Tensor


def draw_projections(shape: AttentionShape, params: Params) -> "tuple[Tensor, Tensor]":
    """E and F, [rank, seq_kv] in fp32: N(0, 1/rank), as in the paper's theorem 2.

    They stand for learned weights, one pair for all heads; `shared`: F is E.
    """
    import torch

    rank = int(params["rank"])
    generator = torch.Generator().manual_seed(int(params["seed"]))
    size = (1 if params["shared"] else 2, rank, shape.seq_kv)
    drawn = torch.randn(size, generator=generator).div_(rank**0.5)
    return drawn[0], drawn[-1]


def _learned(shape: AttentionShape, params: Params) -> Learned:
    """The projections [rank, seq_kv] by name, "e" alone where F is E: `Variant.learned`."""
    e, f = draw_projections(shape, params)
    return {"e": e} if params["shared"] else {"e": e, "f": f}


def _reference(
    query: "Tensor",
    key: "Tensor",
    value: "Tensor",
    shape: AttentionShape,
    params: Params,
    rows: "Tensor | None" = None,
    learned: Learned | None = None,
) -> "Tensor":
    import torch

    from attnbench.variants._score import make_lens, without_padding

    given = _learned(shape, params) if learned is None else learned
    e = given["e"].to(query.device, torch.float64)
    f = given["f"].to(query.device, torch.float64) if "f" in given else e
    if rows is not None:
        query = query[:, :, rows]
    lens = make_lens(score_features(params), shape, query.device)
    key, value = without_padding(key, lens), without_padding(value, lens)
    k = (e @ key.double()).repeat_interleave(shape.group, 1)
    v = (f @ value.double()).repeat_interleave(shape.group, 1)
    scores = query.double() @ k.transpose(-1, -2) / shape.head_dim**0.5
    return torch.softmax(scores, -1) @ v


def _supports(shape: AttentionShape, mode: Mode, params: Params, device_type: str) -> str | None:
    if shape.causal:
        return "linformer mixes all keys before attention: it has no causal form"
    return supports_dtype(shape, mode, params, device_type)


def _prepare(
    shape: AttentionShape, params: Params, device: str
) -> "tuple[Tensor, Tensor, Tensor | None]":
    from attnbench.variants._score import make_lens
    from attnbench.variants._support import torch_dtype

    lens = make_lens(score_features(params), shape, device)
    e, f = draw_projections(shape, params)
    dtype = torch_dtype(shape.dtype)
    return e.to(device, dtype), f.to(device, dtype), lens


def _forward(
    query: "Tensor",
    key: "Tensor",
    value: "Tensor",
    state: "tuple[Tensor, Tensor, Tensor | None]",
) -> "Tensor":
    import torch

    from attnbench.variants._score import without_padding

    e, f, lens = state
    key, value = without_padding(key, lens), without_padding(value, lens)
    return torch.nn.functional.scaled_dot_product_attention(
        query, _project(e, key), _project(f, value), enable_gqa=query.shape[1] != key.shape[1]
    )


def _project(projection: "Tensor", rows: "Tensor") -> "Tensor":
    """[rank, seq_kv] times [batch, kv_heads, seq_kv, head_dim], head by head on a CPU.

    There a product that is broadcast over heads copies the projection for each of them.
    """
    import torch

    if rows.device.type != "cpu":
        return projection @ rows
    made = torch.stack([projection @ head for head in rows.flatten(0, 1)])
    return made.reshape(*rows.shape[:2], *made.shape[1:])


def _learn(
    state: "tuple[Tensor, Tensor, Tensor | None]", learned: Learned
) -> "tuple[Tensor, Tensor, Tensor | None]":
    """Projections in the dtype of the state's; without an "f", F is E."""
    e, f, lens = state
    e = learned["e"].to(e)
    return e, learned["f"].to(f) if "f" in learned else e, lens


def _cost(shape: AttentionShape, mode: Mode, params: Params) -> Cost:
    return projection_cost(shape, mode, rank=int(params["rank"]), lens=lens_of(shape, params))


def _workspace(shape: AttentionShape, mode: Mode, params: Params) -> int:
    return projection_workspace(shape, mode, score_features(params), rank=int(params["rank"]))


VARIANT = Variant(
    name="linformer",
    summary="learned n → 256 projections of keys and values",
    paper="Wang et al. 2020, arXiv:2006.04768",
    exact=False,
    defaults={"rank": 256, "shared": False, "seed": 0},
    resolve=unchanged,
    pattern=None,
    cost=_cost,
    backends=(
        featured(
            Backend(
                name="eager",
                supports=_supports,
                prepare=_prepare,
                forward=_forward,
                workspace_bytes=_workspace,
                learn=_learn,
            ),
            "padding",
        ),
    ),
    causal_forms=frozenset({False}),
    modes=frozenset({Mode.FWD, Mode.BWD, Mode.FWD_BWD}),
    reference=_reference,
    features=ANY,
    least={"seed": 0},
    learned=_learned,
)
