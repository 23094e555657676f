"""Memory of training, against the papers' tables and what torch really keeps."""

from collections.abc import Callable
from typing import Any

import pytest

from attnbench import memory, model
from attnbench.calc.activations import Recompute, Widths, saved_by_layer, widths
from attnbench.calc.memory import Training, training
from attnbench.calc.parallel import Parallel
from attnbench.calc.quantization import plain_scheme
from attnbench.calc.training import Lora, Optimizer, adapters, state_bytes
from attnbench.errors import UserError
from attnbench.spec.dtype import Dtype
from attnbench.spec.model import ModelSpec, Role, Tensor

GPT3 = Widths(
    hidden=12288, mixed=3 * 12288, joined=12288, heads=96, up=4 * 12288, down=4 * 12288,
    expert_up=0, expert_down=0, per_token=0, norms=2,
)  # fmt: skip
BF16 = plain_scheme(Dtype.BF16, Dtype.BF16)


def flat(parameters: int) -> ModelSpec:
    """A model that is one matrix of so many parameters."""
    tensor = Tensor(name="w", shape=(parameters // 1000, 1000), role=Role.OTHER)
    return ModelSpec(
        name="flat", model_type="none", source="made here", hidden_size=1, vocab_size=1, heads=0,
        layers=(), outside=(tensor,),
    )  # fmt: skip


@pytest.mark.parametrize(("zero", "gb"), [(0, 120), (1, 31.4), (2, 16.6), (3, 1.88)])
def test_zero_papers_figure_1(zero: int, gb: float) -> None:
    # Rajbhandari et al. 2020, figure 1: 7.5 B parameters, 64-way data parallel, K = 12.
    work = Training(seq_len=1, batch=1, zero=zero)
    found = training(flat(7_500_000_000), BF16, work, Parallel(dp=64), 0).per_gpu
    states = found.weights_bytes + found.gradient_bytes + found.optimizer_bytes
    assert states / 1e9 == pytest.approx(gb, abs=0.05)


@pytest.mark.parametrize(
    ("billions", "zero", "dp", "gb"),
    # The same paper's table 1: GB a device, of 128 B and 1 T parameters.
    [
        (128, 1, 16, 608), (128, 2, 64, 284), (128, 3, 256, 8),
        (1000, 1, 4, 7000), (1000, 3, 1024, 15.6),
    ],
)  # fmt: skip
def test_zero_papers_table_1(billions: int, zero: int, dp: int, gb: float) -> None:
    work = Training(seq_len=1, batch=1, zero=zero)
    found = training(flat(billions * 10**9), BF16, work, Parallel(dp=dp), 0).per_gpu
    states = found.weights_bytes + found.gradient_bytes + found.optimizer_bytes
    assert states / 1e9 == pytest.approx(gb, rel=0.005)


def test_a_gpt_layer_keeps_what_korthikantis_equation_1_says() -> None:
    s, b, h, a = 2048, 3, 12288, 96
    saved = saved_by_layer(GPT3, seq_len=s, batch=b)
    assert saved.on_rank(1, sequence_parallel=False) == s * b * (34 * h + 5 * a * s)
    # Equation 2: sbh (10 + 24/t + 5as/ht); equation 4: all of it over t.
    for t in (2, 8):
        assert saved.on_rank(t, sequence_parallel=False) == s * b * (
            10 * h + (24 * h + 5 * a * s) // t
        )
        assert saved.on_rank(t, sequence_parallel=True) == s * b * (34 * h + 5 * a * s) // t
        # Equation 6: selective recomputation leaves sbh (10 + 24/t).
        left = saved.on_rank(t, sequence_parallel=False, core=False)
        assert left == s * b * (10 * h + 24 * h // t)


@pytest.mark.parametrize(("heads", "hidden", "saving"), [(96, 12288, 0.70), (128, 20480, 0.65)])
def test_selective_recomputation_saves_what_the_paper_reports(
    heads: int, hidden: int, saving: float
) -> None:
    # Section 5: selective recomputation saves 70% for GPT-3 and 65% for MT-NLG.
    w = Widths(
        hidden=hidden, mixed=3 * hidden, joined=hidden, heads=heads, up=4 * hidden,
        down=4 * hidden, expert_up=0, expert_down=0, per_token=0, norms=2,
    )  # fmt: skip
    saved = saved_by_layer(w, seq_len=2048, batch=1)
    whole = saved.on_rank(1, sequence_parallel=False)
    assert saved.core / whole == pytest.approx(saving, abs=0.006)


def test_gpt2s_tensors_have_gpts_widths() -> None:
    spec = model("gpt2")
    h = 768
    assert widths(spec, spec.layers[0]) == Widths(
        hidden=h, mixed=3 * h, joined=h, heads=12, up=4 * h, down=4 * h,
        expert_up=0, expert_down=0, per_token=0, norms=2,
    )  # fmt: skip


def test_widths_of_grouped_gated_and_routed_layers() -> None:
    llama = model("llama-3-8b")
    w = widths(llama, llama.layers[0])
    assert (w.mixed, w.joined, w.up, w.down) == (4096 + 2 * 1024, 4096, 2 * 14336, 14336)
    mixtral = model("mixtral-8x7b")
    w = widths(mixtral, mixtral.layers[0])
    assert (w.up, w.expert_up, w.expert_down, w.per_token) == (0, 4 * 14336, 2 * 14336, 2)
    deepseek = model("deepseek-v3")
    w = widths(deepseek, deepseek.layers[-1])
    assert w.joined == 128 * 128
    assert (w.up, w.down, w.expert_up) == (2 * 2048, 2048, 8 * 2 * 2048)


def _kept(run: Callable[[], Any], skip: set[int]) -> int:
    """Bytes of the distinct tensors that autograd keeps while `run` goes forward."""
    import torch

    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        at = tensor.untyped_storage().data_ptr()
        if at not in skip:
            kept[at] = tensor.untyped_storage().nbytes()
        return tensor

    alive = []
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        alive.append(run())
    assert alive
    return sum(kept.values())


def test_a_gpt_layer_in_torch_keeps_what_the_formula_says() -> None:
    import torch
    from torch.nn import functional as f

    torch.manual_seed(0)
    s, b, h, a = 96, 2, 256, 8
    make = lambda *shape: torch.nn.Parameter(torch.randn(*shape).mul(0.02).bfloat16())  # noqa: E731
    w_q, w_k, w_v, w_o = (make(h, h) for _ in range(4))
    w_up, w_down = make(4 * h, h), make(h, 4 * h)
    g_1, g_2 = make(h), make(h)
    x = torch.randn(b, s, h).bfloat16().requires_grad_()

    def heads(y: torch.Tensor) -> torch.Tensor:
        return y.view(b, s, a, h // a).transpose(1, 2).contiguous()

    def drop(y: torch.Tensor) -> torch.Tensor:
        return torch.native_dropout(y, 0.1, True)[0]  # keeps a mask of one byte, as on a GPU

    def layer() -> torch.Tensor:
        y = f.layer_norm(x, (h,), g_1)
        q, k, v = heads(y @ w_q.T), heads(y @ w_k.T), heads(y @ w_v.T)
        p = drop(torch.softmax(q @ k.transpose(-1, -2), dim=-1))
        o = (p @ v).transpose(1, 2).reshape(b, s, h)
        z = x + drop(o @ w_o.T)
        y = f.layer_norm(z, (h,), g_2)
        return z + drop(f.gelu(y @ w_up.T) @ w_down.T)

    weights = {p.untyped_storage().data_ptr() for p in (w_q, w_k, w_v, w_o, w_up, w_down, g_1, g_2)}
    w = Widths(
        hidden=h, mixed=3 * h, joined=h, heads=a, up=4 * h, down=4 * h,
        expert_up=0, expert_down=0, per_token=0, norms=2,
    )  # fmt: skip
    said = saved_by_layer(w, seq_len=s, batch=b).on_rank(1, sequence_parallel=False)
    # Torch keeps each norm's mean and deviation besides: two numbers a token and norm.
    assert _kept(layer, weights) == said + 2 * 2 * 2 * s * b


def test_a_gated_mlp_in_torch_keeps_what_the_formula_says() -> None:
    import torch
    from torch.nn import functional as f

    torch.manual_seed(0)
    s, h, inner = 64, 128, 384
    make = lambda *shape: torch.nn.Parameter(torch.randn(*shape).mul(0.02).bfloat16())  # noqa: E731
    gate, up, down = make(inner, h), make(inner, h), make(h, inner)
    x = torch.randn(s, h).bfloat16().requires_grad_()
    weights = {p.untyped_storage().data_ptr() for p in (gate, up, down)}
    kept = _kept(lambda: (f.silu(x @ gate.T) * (x @ up.T)) @ down.T, weights)
    w = Widths(
        hidden=h, mixed=0, joined=0, heads=0, up=2 * inner, down=inner,
        expert_up=0, expert_down=0, per_token=0, norms=0,
    )  # fmt: skip
    said = saved_by_layer(w, seq_len=s, batch=1).on_rank(1, sequence_parallel=False)
    assert kept == said - s * h  # the formula's dropout mask, which this MLP has not


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [
        ("AdamW", Optimizer.ADAMW), ("SGD", Optimizer.SGD), ("SGD", Optimizer.SGD_MOMENTUM),
        ("Adafactor", Optimizer.ADAFACTOR), ("Muon", Optimizer.MUON),
    ],
)  # fmt: skip
def test_states_are_what_torchs_optimizers_hold(name: str, optimizer: Optimizer) -> None:
    import torch

    shapes = [(48, 80)] if optimizer is Optimizer.MUON else [(48, 80), (80,), (33, 7)]
    parameters = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
    settings = {"momentum": 0.9} if optimizer is Optimizer.SGD_MOMENTUM else {}
    stepper = getattr(torch.optim, name)(parameters, lr=0.1, **settings)
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    stepper.step()
    held = sum(
        value.numel() * value.element_size()
        for state in stepper.state.values()
        for key, value in state.items()
        if key != "step" and value is not None
    )
    said = [Tensor(name="w", shape=shape, role=Role.MLP) for shape in shapes]
    assert sum(state_bytes(tensor, optimizer) for tensor in said) == held


def test_8_bit_states_and_their_scales() -> None:
    # bitsandbytes: two bytes a parameter, an fp32 a 256 of each; small tensors stay fp32.
    large = Tensor(name="w", shape=(4096, 4096), role=Role.MLP)
    assert state_bytes(large, Optimizer.ADAMW_8BIT) == 2 * 4096**2 + 2 * 4 * 4096**2 // 256
    small = Tensor(name="n", shape=(1024,), role=Role.NORM)
    assert state_bytes(small, Optimizer.ADAMW_8BIT) == 8 * 1024


def test_muon_keeps_adams_states_for_what_is_no_hidden_matrix() -> None:
    embedding = Tensor(name="e", shape=(1000, 64), role=Role.EMBEDDING)
    assert state_bytes(embedding, Optimizer.MUON) == 8 * 64_000


@pytest.mark.parametrize(
    ("name", "rank", "targets", "trainable"),
    [
        # As peft's print_trainable_parameters() reports them.
        ("llama-2-7b", 8, ("q_proj", "v_proj"), 4_194_304),
        ("llama-3-8b", 16, ("all-linear",), 41_943_040),
        ("mistral-7b", 16, ("all-linear",), 41_943_040),
    ],
)
def test_adapters_have_the_parameters_that_peft_counts(
    name: str, rank: int, targets: tuple[str, ...], trainable: int
) -> None:
    found = memory(name, mode="training", lora_rank=rank, lora_targets=targets).memory
    assert found.trainable == trainable
    assert found.whole.gradient_bytes == 2 * trainable
    assert found.whole.optimizer_bytes == 12 * trainable
    frozen = memory(name, weight_dtype="bf16").memory.whole.weights_bytes
    assert found.whole.weights_bytes == frozen + 2 * trainable


def test_adapters_are_split_as_their_layer_is() -> None:
    spec = adapters(model("llama-3-8b"), Lora(rank=16, targets=("q_proj", "o_proj")))
    shards = {tensor.name.split(".", 3)[3]: tensor.shard for tensor in spec.layers[0].tensors}
    assert shards == {
        "self_attn.q_proj.lora_A.weight": "replicated",
        "self_attn.q_proj.lora_B.weight": "column",
        "self_attn.o_proj.lora_A.weight": "row",
        "self_attn.o_proj.lora_B.weight": "replicated",
    }


def test_qlora_fits_where_its_paper_says() -> None:
    # Dettmers et al. 2023: a 65 B model is fine-tuned on one GPU of 48 GB.
    found = memory(
        "llama-2-70b", mode="training", seq_len=512, weight_dtype="nf4", lora_rank=64,
        optimizer="adamw-8bit", recompute="full", gpu="rtx-a6000", utilization=1.0,
    )  # fmt: skip
    assert found.fits


def test_sixteen_bytes_a_parameter_in_mixed_precision_and_in_fp32() -> None:
    mixed, wide = (
        memory("llama-3-8b", mode="training", weight_dtype=dtype).memory.whole
        for dtype in ("bf16", "fp32")
    )
    n = 8_030_261_248
    assert (mixed.weights_bytes, mixed.gradient_bytes, mixed.optimizer_bytes) == (
        2 * n,
        2 * n,
        12 * n,
    )
    assert (wide.weights_bytes, wide.gradient_bytes, wide.optimizer_bytes) == (4 * n, 4 * n, 8 * n)
    pure = memory("llama-3-8b", mode="training", master_weights=False).memory.whole
    assert pure.optimizer_bytes == 8 * n
    assert mixed.kv_cache_bytes == 0


def test_recomputation_costs_less_memory_the_more_is_recomputed() -> None:
    none, selective, full = (
        memory(
            "llama-3-8b", mode="training", seq_len=2048, recompute=r
        ).memory.whole.activation_bytes
        for r in Recompute
    )
    assert none > selective > full
    # Each time besides, once: the larger of what a layer computes again and the logits.
    tokens, h, vocabulary, heads = 2048, 4096, 128_256, 32
    logits = 4 * tokens * h + 4 * tokens * vocabulary
    layer = (none - logits) // 32
    core = 5 * heads * tokens * tokens
    assert selective == 32 * (layer - core) + max(core, logits)
    assert full == 32 * 2 * tokens * h + max(layer, logits)


def test_the_first_stage_holds_the_most_micro_batches() -> None:
    one, four = (
        memory("llama-3-70b", mode="training", pp=pp, recompute="selective").memory for pp in (1, 4)
    )
    # 1F1B: a quarter of the layers, four micro-batches of each: the same kept bytes, less
    # the scores of one layer, which both hold once.
    assert four.stage == 0
    scores = 5 * 64 * 4096 * 4096
    kept = four.per_gpu.activation_bytes - scores
    assert kept == one.per_gpu.activation_bytes - scores


def test_zero_divides_experts_by_the_ranks_that_share_them() -> None:
    # ep = dp: every expert stands once, so ZeRO has nothing of it to divide.
    spread, plain = (
        memory("mixtral-8x7b", mode="training", dp=8, ep=ep, zero=3).memory.per_gpu for ep in (8, 1)
    )
    assert spread.weights_bytes == pytest.approx(plain.weights_bytes, rel=1e-6)


def test_the_command(attnbench: Callable[..., Any]) -> None:
    ran = attnbench(
        "memory", "llama-3-8b", "--mode", "training", "--tp", "4", "--dp", "2", "--zero", "1",
        "--recompute", "selective", "--optimizer", "adamw-8bit", "--sequence-parallel", "--json",
    )  # fmt: skip
    assert ran.code == 0
    found = ran.json
    assert found["mode"] == "training"
    assert found["gpus"] == 8
    assert found["kv_cache_bytes"] == 0
    assert found["trainable_params"] == found["params"]["total"]
    assert any("ZeRO stage 1" in line for line in found["assumptions"])


def test_unknown_adapter_targets_name_what_there_is() -> None:
    with pytest.raises(UserError) as caught:
        memory("llama-3-8b", mode="training", lora_rank=8, lora_targets=["c_attn"])
    assert caught.value.hint is not None
    assert "q_proj" in caught.value.hint


@pytest.mark.parametrize(
    ("arguments", "way"),
    [
        # 8 B parameters' states of 16 bytes over 8 ranks are 16 GB; the rest are activations.
        (["--dp", "8", "--zero", "3", "--seq-len", "8k", "--recompute", "selective"],
         "--recompute full"),
        (["--dp", "8", "--recompute", "full"], "--zero 1"),
    ],
)  # fmt: skip
def test_what_would_fit_is_named(
    attnbench: Callable[..., Any], arguments: list[str], way: str
) -> None:
    asked = ["memory", "llama-3-8b", "--mode", "training", "--gpu", "h100-sxm", *arguments]
    if way == "--recompute full":
        asked += ["--utilization", "0.6"]
    ran = attnbench(*asked)
    assert ran.code == 1
    assert way in ran.err
    assert attnbench(*asked, *way.split()).code == 0


def test_a_training_run_that_does_not_fit_says_what_would(attnbench: Callable[..., Any]) -> None:
    ran = attnbench("memory", "llama-3-8b", "--mode", "training", "--gpu", "h100-sxm", "--dp", "8")
    assert ran.code == 1
    assert "Try --tp" in ran.err or "Try --zero" in ran.err
