"""The block-sparse kernels and their lists against float64: interpreted, and on a GPU."""

from types import ModuleType
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from _kernel_checks import breach, grad_breach  # noqa: E402
from _kernel_copies import GPU, mutants_of, operands, poison  # noqa: E402, F401
from attnbench.kernels import block_sparse as compiled  # noqa: E402
from attnbench.kernels._block_lists import BlockLists, make_lists  # noqa: E402
from attnbench.kernels._interpreter import interpreted  # noqa: E402
from attnbench.kernels.block_sparse_configs import config_for, tile_for  # noqa: E402

from attnbench.calc.pattern_bigbird import BigBird  # noqa: E402
from attnbench.calc.pattern_longformer import Longformer  # noqa: E402
from attnbench.calc.pattern_strided import Strided  # noqa: E402
from attnbench.calc.patterns import SlidingWindow  # noqa: E402
from attnbench.errors import MachineError, UserError  # noqa: E402

HALF, BRAIN, SINGLE = torch.float16, torch.bfloat16, torch.float32


def patterns(causal: bool, seq_kv: int) -> dict[str, Any]:
    """Each pattern with small settings, so that short lengths have all that it has."""
    return {
        "strided": Strided(window=20, stride=7, causal=causal),
        "longformer": Longformer(window=30, global_tokens=5, causal=causal),
        "bigbird": BigBird(block=8, window_blocks=3, global_blocks=2, random_blocks=3, seed=0,
                           key_blocks=-(-seq_kv // 8), causal=causal),
        "dilated": SlidingWindow(window=9, dilation=3, sink=5, causal=causal),
    }  # fmt: skip


def default_patterns(seq_kv: int) -> dict[str, Any]:
    return {
        "strided": Strided(window=512, stride=40, causal=True),
        "longformer": Longformer(window=512, global_tokens=16, causal=False),
        "bigbird": BigBird(block=64, window_blocks=3, global_blocks=2, random_blocks=3, seed=0,
                           key_blocks=-(-seq_kv // 64), causal=False),
    }  # fmt: skip


NAMES = tuple(patterns(True, 1))


def parts_of(pattern: Any) -> tuple[Any, ...]:
    return (pattern.local, pattern.comb) if isinstance(pattern, Strided) else (pattern,)


def lists_of(pattern: Any, seq_q: int, seq_kv: int, device: str = "cpu", *, tile: int = 32,
             tile_n: int = 64, limit: int = 2) -> BlockLists:  # fmt: skip
    return make_lists(parts_of(pattern), seq_q=seq_q, seq_kv=seq_kv, tile_m=tile, tile_n=tile_n,
                      limit=limit, device=device)  # fmt: skip


def pairs_of(pattern: Any, seq_q: int, seq_kv: int, device: str = "cpu") -> Any:
    row = torch.arange(seq_kv - seq_q, seq_kv, device=device)[:, None]
    return pattern.allows(row, torch.arange(seq_kv, device=device)[None, :])


def module(device: str) -> ModuleType:
    return interpreted("block_sparse") if device == "cpu" else compiled


@pytest.fixture(params=["cpu", GPU])
def device(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def wrong(
    kernels: ModuleType, tensors: tuple[Any, ...], pattern: Any, lists: BlockLists, *,
    grads: bool = False, **features: Any,
) -> str | None:  # fmt: skip
    """What is wrong with the output, the LSE or the gradients, or None."""
    seq_q, seq_kv = tensors[0].shape[2], tensors[1].shape[2]
    pairs = pairs_of(pattern, seq_q, seq_kv, tensors[0].device)

    def kernel(query: Any, key: Any, value: Any, pairs: Any, **given: Any) -> Any:
        return kernels.block_sparse(query, key, value, lists, **given)

    with torch.no_grad():
        found = breach(kernel, *tensors, pairs=pairs, **features)
    if found or not grads:
        return found
    leaves = [t.detach().requires_grad_() for t in tensors]
    out, _ = kernels.block_sparse(*leaves, lists, **features)
    upward = torch.randn(out.shape, generator=torch.Generator().manual_seed(9)).to(out)
    made = torch.autograd.grad(out, leaves, upward)
    return grad_breach(made, *tensors, upward, pairs=pairs, **features)


def dense(lists: BlockLists, side: str) -> Any:
    """How often each pair is in the lists of one side: [seq_q, seq_kv]."""
    counts = torch.zeros(lists.seq_q, lists.seq_kv, dtype=torch.int64)
    held_of, streamed = lists.rows if side == "rows" else lists.keys, lists.tile_n
    streamed = lists.tile_n if side == "rows" else lists.tile_m
    for start, step, count, _, first, partial, stop in held_of.items.tolist():
        held = torch.arange(count) * step + start
        for at in range(first, stop):
            from_, by, mask = held_of.entries[at].tolist()
            other = from_ + by * torch.arange(streamed)
            bits = torch.ones(count, streamed, dtype=torch.int64)
            assert (mask < 0) == (at < partial)
            if mask >= 0:
                words = held_of.masks[mask, :count].long()
                places = torch.arange(streamed)
                bits = words[:, places // 32] >> (places % 32) & 1
            end = lists.seq_kv if side == "rows" else lists.seq_q
            inside = other < end
            assert not bits[:, ~inside].any()
            pair = (held[:, None], other[None, inside])
            counts.index_put_(pair if side == "rows" else pair[::-1],
                              bits[:, inside], accumulate=True)  # fmt: skip
    return counts


@pytest.mark.parametrize("causal", [True, False], ids=["causal", "full"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("seq_q", "seq_kv"), [(1, 1), (127, 127), (70, 200), (200, 70), (1, 127)])
def test_lists_hold_each_pair_once(name: str, causal: bool, seq_q: int, seq_kv: int) -> None:
    pattern = patterns(causal, seq_kv)[name]
    lists = lists_of(pattern, seq_q, seq_kv)
    wanted = pairs_of(pattern, seq_q, seq_kv).long()
    assert torch.equal(dense(lists, "rows"), wanted)
    assert torch.equal(dense(lists, "keys"), wanted)


@pytest.mark.parametrize("name", ["strided", "longformer", "bigbird"])
def test_lists_of_the_defaults(name: str) -> None:
    pattern = default_patterns(1600)[name]
    lists = lists_of(pattern, 1600, 1600, tile=64, limit=8)
    wanted = pairs_of(pattern, 1600, 1600).long()
    assert torch.equal(dense(lists, "rows"), wanted)
    assert torch.equal(dense(lists, "keys"), wanted)
    longest = max(stop - first for *_, first, _, stop in lists.rows.items.tolist())
    assert longest <= 8
    full = (lists.rows.entries[:, 2] < 0).float().mean()
    assert full > (0.3 if name == "strided" else 0.5)  # a comb's tiles are triangles


def entries(seq: int) -> int:
    stride = {1024: 32, 4096: 64, 16384: 128}[seq]
    pattern = Strided(window=64, stride=stride, causal=True).comb
    lists = make_lists([pattern], seq_q=seq, seq_kv=seq, tile_m=64, tile_n=64, limit=32,
                       device="cpu")  # fmt: skip
    return len(lists.rows.entries)


def test_a_comb_is_gathered_so_that_tiles_grow_as_its_pairs() -> None:
    # n^1.5 / 2 pairs are 8 times as many at 4 times the length. Uncut, every tile under
    # the diagonal would be met: 16 times.
    short, long = entries(4096), entries(16384)
    assert long == 128 * 3  # 128 residues of 128 rows: 2 tiles and a triangle each
    assert long <= 8 * short
    assert len(lists_of(Strided(window=64, stride=128, causal=True), 16384, 16384, tile=64)
               .rows.masks) < 20  # fmt: skip


@pytest.mark.parametrize("causal", [True, False], ids=["causal", "full"])
@pytest.mark.parametrize("name", NAMES)
def test_patterns_and_their_gradients(device: str, name: str, causal: bool) -> None:
    tensors = operands(device, 90, 127, heads=2, kv_heads=1, head_dim=32)
    pattern = patterns(causal, 127)[name]
    lists = lists_of(pattern, 90, 127, device, tile=64)
    assert wrong(module(device), tensors, pattern, lists, grads=True) is None


@pytest.mark.parametrize("name", ["strided", "longformer", "bigbird"])
def test_default_settings(device: str, name: str) -> None:
    tensors = operands(device, 1600, 1600, head_dim=16)
    pattern = default_patterns(1600)[name]
    lists = lists_of(pattern, 1600, 1600, device, tile=256, tile_n=256, limit=32)
    assert wrong(module(device), tensors, pattern, lists, grads=device != "cpu") is None


@pytest.mark.parametrize("dtype", [HALF, BRAIN, SINGLE], ids=["fp16", "bf16", "fp32"])
def test_dtypes(device: str, dtype: torch.dtype) -> None:
    tensors = operands(device, 60, 60, dtype=dtype)
    pattern = patterns(True, 60)["longformer"]
    lists = lists_of(pattern, 60, 60, device, tile=64)
    assert wrong(module(device), tensors, pattern, lists, grads=True) is None


@pytest.mark.parametrize(("seq_q", "seq_kv"), [(1, 1), (1, 127), (127, 17)])
def test_one_query_and_rows_that_see_nothing(device: str, seq_q: int, seq_kv: int) -> None:
    tensors = operands(device, seq_q, seq_kv, head_dim=32)
    pattern = patterns(True, seq_kv)["strided"]
    lists = lists_of(pattern, seq_q, seq_kv, device)
    assert wrong(module(device), tensors, pattern, lists, grads=True) is None


@pytest.mark.parametrize(("heads", "kv_heads", "head_dim"), [(4, 2, 48), (3, 1, 128)])
def test_grouped_heads_and_padded_widths(
    device: str, heads: int, kv_heads: int, head_dim: int
) -> None:
    tensors = operands(device, 50, 50, batch=2, heads=heads, kv_heads=kv_heads, head_dim=head_dim)
    pattern = patterns(False, 50)["longformer"]
    lists = lists_of(pattern, 50, 50, device, tile=64)
    assert wrong(module(device), tensors, pattern, lists, grads=True) is None


@pytest.mark.parametrize("feature", ["soft_cap", "wide_cap", "alibi", "padding", "all"])
def test_features(device: str, feature: str) -> None:
    tensors = operands(device, 70, 70, batch=2, heads=2, kv_heads=2, head_dim=32, dtype=SINGLE)
    features: dict[str, Any] = {"scale": 0.5}
    if feature == "wide_cap":  # logits far under it: nothing may be lost beside its 1
        features = {"scale": 0.1, "soft_cap": 50.0}
    if feature in ("soft_cap", "all"):
        features["soft_cap"] = 5.0
    if feature in ("alibi", "all"):
        features["alibi_slopes"] = torch.tensor([0.5, 0.0625], device=device)
    if feature in ("padding", "all"):
        features["kv_lens"] = torch.tensor([70, 13], dtype=torch.int32, device=device)
    pattern = patterns(False, 70)["longformer"]
    lists = lists_of(pattern, 70, 70, device, tile=64)
    assert wrong(module(device), tensors, pattern, lists, grads=True, **features) is None


@pytest.mark.parametrize("how", ["strided_head_dim", "expanded", "sliced"])
def test_strides_that_are_not_contiguous(device: str, how: str) -> None:
    query, key, value = operands(device, 66, 66, batch=2, heads=2, kv_heads=2)
    if how == "strided_head_dim":
        tensors = (query[..., ::2], key[..., ::2], value[..., 1::2])
    elif how == "expanded":
        tensors = (query, key[:1].expand(2, -1, -1, -1), value[:1, :1].expand(2, 2, -1, -1))
    else:
        tensors = (query[:, :, 3:50, 16:48], key[:, :, 5:, 16:48], value[:, :, 5:, :32])
    pattern = patterns(True, tensors[1].shape[2])["strided"]
    lists = lists_of(pattern, tensors[0].shape[2], tensors[1].shape[2], device, tile=64)
    assert wrong(module(device), tensors, pattern, lists) is None


def test_gradient_of_the_lse(device: str) -> None:
    leaves = [t.requires_grad_() for t in operands(device, 40, 40, head_dim=16, dtype=SINGLE)]
    pattern = patterns(True, 40)["longformer"]
    _, lse = module(device).block_sparse(*leaves, lists_of(pattern, 40, 40, device))
    upward = torch.randn(lse.shape, generator=torch.Generator().manual_seed(1)).to(device)
    ours = torch.autograd.grad((lse * upward).sum(), leaves)
    query, key, value = (t.detach().double().requires_grad_() for t in leaves)
    logits = (query @ key.mT) / 4
    hidden = ~pairs_of(pattern, 40, 40, device)
    wanted = torch.logsumexp(logits.masked_fill(hidden, -torch.inf), -1)
    exact = torch.autograd.grad((wanted * upward).sum(), (query, key))
    for a, b in zip(ours, exact, strict=False):
        assert (a - b).abs().max() < 1e-5 * b.abs().max()
    assert not ours[2].any()
    assert value.grad is None


def test_a_second_run_gives_the_same_bits(device: str) -> None:
    pattern = patterns(False, 90)["longformer"]
    lists = lists_of(pattern, 90, 90, device)
    runs = []
    for _ in "12":
        leaves = [t.requires_grad_() for t in operands(device, 90, 90, heads=2, head_dim=16)]
        out, lse = module(device).block_sparse(*leaves, lists)
        runs.append([out, lse, *torch.autograd.grad(out.sum(), leaves)])
    for first, second in zip(*runs, strict=True):
        assert torch.equal(first, second)


MUTATIONS = {
    "rescale_dropped": ("_softmax.py", "tl.exp2(top - new_top)", "tl.exp2(top - top)"),
    "mask_shifted": ("_softmax.py", "(words >> (across % 32))", "(words >> (across % 31))"),
    "word_of_another_row": ("_softmax.py", "MASKS + mask.to(tl.int64) * (HELD * WORDS)", "MASKS"),
    "combine_forgets_a_slot": ("_combine.py", "< count[:, None]", "< count[:, None] - 1"),
    "combine_unweighted": ("_combine.py", "part = part * weights[:, :, None]", "part = part"),
    "last_entry_skipped": ("block_sparse_fwd.py", "tl.load(item + 6)", "tl.load(item + 6) - 1"),
    "step_ignored": ("block_sparse_fwd.py", "lane = place * tl.load(entry + 1)", "lane = place"),
    "wrong_kv_head": ("block_sparse_fwd.py", "(head // group)", "(head // (group + 1))"),
    "delta_dropped": ("block_sparse_bwd.py", "- delta[:, None]", ""),
    "group_not_summed": ("block_sparse_bwd.py", "range(0, group * count)", "range(0, count)"),
    "scale_forgotten": ("block_sparse_bwd.py", "key_acc *= scale", "key_acc *= 1.0"),
    "keys_split_unjoined": ("block_sparse.py", "made.append(combine(parts[1]", "(combine(parts[1]"),
}  # fmt: skip
mutant = mutants_of("block_sparse")


def caught(kernels: ModuleType) -> bool:
    """Whether two points, which together reach every line mutated, are in breach."""
    for name, causal, kv_heads in (("strided", True, 1), ("longformer", False, 2)):
        tensors = operands("cpu", 40, 50, heads=2, kv_heads=kv_heads, head_dim=16)
        pattern = patterns(causal, 50)[name]
        lists = lists_of(pattern, 40, 50, tile_n=32)
        if wrong(kernels, tensors, pattern, lists, grads=True) is not None:
            return True
    return False


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, of what a mutant does
@pytest.mark.parametrize("mutant", MUTATIONS.values(), ids=MUTATIONS, indirect=True)
def test_a_mutant_is_caught(mutant: ModuleType) -> None:
    assert caught(mutant)


def test_the_kernels_themselves_are_not_caught() -> None:
    assert not caught(interpreted("block_sparse"))


def test_bad_input() -> None:
    tensors = operands("cpu", 40, 40, dtype=SINGLE)
    lists = lists_of(patterns(True, 40)["bigbird"], 40, 40)
    kernels = interpreted("block_sparse")
    with pytest.raises(UserError, match="the lists are for \\(40, 40\\)"):
        kernels.block_sparse(*(t[:, :, 1:] for t in tensors), lists)
    with pytest.raises(UserError, match="soft_cap"):
        kernels.block_sparse(*tensors, lists, soft_cap=-1.0)
    with pytest.raises(MachineError, match="no configuration for sm_75"):
        config_for("fwd", "sm_75", head_dim=64, dtype=HALF)


def test_tiles() -> None:
    assert tile_for("sm_90", seq_q=4096, seq_kv=4096, dtype=HALF) == (64, 64)
    assert tile_for("sm_90", seq_q=4096, seq_kv=4096, dtype=SINGLE) == (32, 32)
    assert tile_for("interpreter", seq_q=3, seq_kv=4096, dtype=HALF) == (16, 256)
