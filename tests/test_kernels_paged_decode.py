"""The paged-decoding kernels against float64: interpreted, and on a GPU."""

from types import ModuleType
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from _kernel_checks import breach  # noqa: E402
from _kernel_copies import GPU, mutants_of, poison  # noqa: E402, F401
from attnbench.kernels import paged_decode as compiled  # noqa: E402
from attnbench.kernels._interpreter import interpreted  # noqa: E402
from attnbench.kernels._targets import Config  # noqa: E402
from attnbench.kernels.paged_decode_configs import config_for, splits_for  # noqa: E402

from attnbench.errors import MachineError, UserError  # noqa: E402

SMALL = Config(16, 32, 4, 1)  # short sequences cross several blocks
HALF, BRAIN, SINGLE = torch.float16, torch.bfloat16, torch.float32


def module(device: str) -> ModuleType:
    return interpreted("paged_decode") if device == "cpu" else compiled


@pytest.fixture(params=["cpu", GPU])
def device(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def wrong(
    kernels: ModuleType, lens: list[int], *, heads: int = 2, kv_heads: int = 1, head_dim: int = 32,
    page: int = 16, splits: int | None = 3, dtype: torch.dtype = HALF, device: str = "cpu",
    layout: str = "pool", **features: Any,
) -> str | None:  # fmt: skip
    """What is wrong with sequences of `lens` tokens in shuffled pages of one pool, or None."""
    source = torch.Generator().manual_seed(sum(lens))
    batch, pages = len(lens), max(1, -(-max(lens) // page))

    def draw(*sizes: int) -> Any:
        return torch.randn(*sizes, generator=source).to(device, dtype)

    query = draw(batch, heads, 1, head_dim)
    table = torch.randperm(batch * pages, generator=source).view(batch, pages).int().to(device)
    if layout == "pool":  # [pages, page, Hkv, D], as an engine has it
        pools = [draw(batch * pages, page, kv_heads, head_dim).flatten(0, 1) for _ in "kv"]
        key, value = (p.transpose(0, 1).expand(batch, -1, -1, -1) for p in pools)
    else:  # a stride along the head's width
        wide = [draw(1, kv_heads, batch * pages * page, 2 * head_dim) for _ in "kv"]
        key, value = (w[..., ::2].expand(batch, -1, -1, -1) for w in wide)
    rows = (table.long()[:, :, None] * page + torch.arange(page, device=device)).flatten(1)
    longest = max(1, max(lens))
    plain_key, plain_value = (
        torch.stack([t[b][:, rows[b, :longest]] for b in range(batch)]) for t in (key, value)
    )
    kv_lens = torch.tensor(lens, dtype=torch.int32, device=device)

    def kernel(query: Any, _key: Any, _value: Any, **given: Any) -> Any:
        lens_given = given.pop("kv_lens")
        return kernels.paged_decode(
            query, key, value, table, lens_given, page_size=page, splits=splits, config=SMALL,
            **given,
        )  # fmt: skip

    return breach(kernel, query, plain_key, plain_value, kv_lens=kv_lens, **features)


@pytest.mark.parametrize("dtype", [HALF, BRAIN, SINGLE], ids=["fp16", "bf16", "fp32"])
@pytest.mark.parametrize("lens", [[1], [127, 16, 17], [40, 0, 1]], ids=str)
def test_lengths_and_dtypes(device: str, lens: list[int], dtype: torch.dtype) -> None:
    assert wrong(module(device), lens, dtype=dtype, device=device) is None


@pytest.mark.parametrize("page", [1, 5, 16, 256])
@pytest.mark.parametrize("splits", [None, 1, 2, 7])
def test_pages_and_splits(device: str, page: int, splits: int | None) -> None:
    assert wrong(module(device), [130, 60], page=page, splits=splits, device=device) is None


@pytest.mark.parametrize(
    ("heads", "kv_heads", "head_dim"), [(4, 4, 64), (6, 2, 48), (40, 2, 16), (17, 1, 256)]
)
def test_groups_and_widths(device: str, heads: int, kv_heads: int, head_dim: int) -> None:
    sizes = {"heads": heads, "kv_heads": kv_heads, "head_dim": head_dim}
    assert wrong(module(device), [70, 33], device=device, **sizes) is None


@pytest.mark.parametrize(("cap", "scale"), [(5.0, 0.5), (5.0, 0.25), (50.0, 0.1)])
def test_soft_cap(device: str, cap: float, scale: float) -> None:
    features: dict[str, Any] = {"soft_cap": cap, "scale": scale}
    assert wrong(module(device), [70, 33], dtype=SINGLE, device=device, **features) is None


def test_alibi_counts_from_each_sequence_s_last_token(device: str) -> None:
    slopes = torch.tensor([0.5, 0.0625], device=device)
    # One sequence, as long as its keys: then the reference counts from there as well.
    for tokens in (33, 70):
        features = {"alibi_slopes": slopes, "dtype": SINGLE, "device": device}
        assert wrong(module(device), [tokens], **features) is None


def test_strides_that_are_not_contiguous(device: str) -> None:
    assert wrong(module(device), [70, 33], layout="strided", device=device) is None


def test_rows_in_place(device: str) -> None:
    """A shuffled table over a sequence's own rows, whose numbers are positions."""
    source = torch.Generator().manual_seed(3)
    query = torch.randn(2, 2, 1, 32, generator=source).to(device)
    key, value = (torch.randn(2, 1, 70, 32, generator=source).to(device) for _ in "kv")
    table = torch.tensor([[2, 0, 3, 1, 4], [1, 3, 0, 2, 4]], dtype=torch.int32, device=device)
    features = {
        "kv_lens": torch.tensor([70, 21], dtype=torch.int32, device=device),
        "alibi_slopes": torch.tensor([0.5, 0.0625], device=device),
    }

    def kernel(query: Any, key: Any, value: Any, **given: Any) -> Any:
        lens = given.pop("kv_lens")
        return module(device).paged_decode(
            query, key, value, table, lens, page_size=16, splits=2, in_place=True, **given
        )

    assert breach(kernel, query, key, value, **features) is None


SPLIT = "paged_decode_split.py"
MUTATIONS = {
    "rescale_dropped": ("_softmax.py", "tl.exp2(top - new_top)", "tl.exp2(top - top)"),
    "mask_shifted": (SPLIT, "inside = token < tokens", "inside = token <= tokens"),
    "combine_forgotten": ("paged_decode.py", "if splits > 1:\n", "if splits > 9:\n"),
    "combine_unweighted": ("_combine.py", "part = part * weights[:, :, None]", "part = part"),
    "last_page_skipped": (SPLIT, "tokens = keys\n", "tokens = (keys - 1) // PAGE * PAGE\n"),
    "table_ignored": (SPLIT, "row = page * PAGE", "row = 0 * page + token // PAGE * PAGE"),
    "last_split_lost": ("paged_decode.py", "packs, splits)", "packs, splits - 1)"),
    "heads_past_16_lost": (SPLIT, "pack % packs * BLOCK_M", "0 * packs"),
}
mutant = mutants_of("paged_decode")


def caught(kernels: ModuleType) -> bool:
    """Whether a point that reaches every line mutated is in breach."""
    return wrong(kernels, [150, 33], heads=20, splits=3, head_dim=16) is not None


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, of what a mutant does
@pytest.mark.parametrize("mutant", MUTATIONS.values(), ids=MUTATIONS, indirect=True)
def test_a_mutant_is_caught(mutant: ModuleType) -> None:
    assert caught(mutant)


def test_the_kernels_themselves_are_not_caught() -> None:
    assert not caught(interpreted("paged_decode"))


def test_splits_fill_the_device_and_are_no_shorter_than_worth_it() -> None:
    for programs, tokens, expected in (
        (8, 131072, 33), (8, 1024, 4), (1000, 131072, 1), (1, 1 << 20, 64)
    ):  # fmt: skip
        found = splits_for(programs=programs, tokens=tokens, processors=132, num_warps=4)
        assert found == expected
    # A program of one wave: four times as many for the same processors.
    assert splits_for(programs=64, tokens=131072, processors=304, num_warps=1) == 38


@pytest.mark.parametrize(("head_dim", "tokens"), [(32, 64), (64, 64), (128, 32), (256, 16)])
def test_a_wave_of_gfx942_holds_one_tile_of_keys(head_dim: int, tokens: int) -> None:
    config = config_for("gfx942", head_dim=head_dim, dtype=HALF, tokens=4096)
    assert config == Config(16, tokens, 1, 1)


def test_bad_input() -> None:
    query, pool = torch.zeros(2, 2, 1, 32), torch.zeros(2, 1, 64, 32)
    table, lens = torch.zeros(2, 4, dtype=torch.int32), torch.ones(2, dtype=torch.int32)
    decode = interpreted("paged_decode").paged_decode
    with pytest.raises(UserError, match="one query a sequence"):
        decode(torch.zeros(2, 2, 3, 32), pool, pool, table, lens, page_size=16)
    with pytest.raises(UserError, match="page_size: 0"):
        decode(query, pool, pool, table, lens, page_size=0)
    with pytest.raises(UserError, match="splits: 0"):
        decode(query, pool, pool, table, lens, page_size=16, splits=0)
    with pytest.raises(UserError, match=r"block_table: \[2, 4\] torch.int64"):
        decode(query, pool, pool, table.long(), lens, page_size=16)
    with pytest.raises(UserError, match="kv_lens"):
        decode(query, pool, pool, table, lens[:1], page_size=16)
    with pytest.raises(MachineError, match="no configuration for sm_75"):
        config_for("sm_75", head_dim=64, dtype=HALF, tokens=100)
