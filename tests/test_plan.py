"""`plan`: its parts against the exact calculators, its search against one that drops nothing."""

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnbench.calc.kv_cache import Rules
from attnbench.calc.memory import Serving, overhead_per_gpu, serving
from attnbench.calc.model_cost import model_cost
from attnbench.calc.plan_explain import candidate
from attnbench.calc.plan_front import dominates, front, rank
from attnbench.calc.plan_links import all_reduce_s
from attnbench.calc.plan_load import slot_wait_s
from attnbench.calc.plan_memory import footprint, stored_by_stage
from attnbench.calc.plan_problem import Limits, Problem, Traffic
from attnbench.calc.plan_search import rows, search
from attnbench.calc.plan_space import Layout, layouts
from attnbench.calc.plan_time import Clock
from attnbench.calc.serving_time import Placement, pass_terms, serving_time
from attnbench.catalog import load_model
from attnbench.catalog.calibration import serving_constants
from attnbench.catalog.plan_inputs import offers, weights
from attnbench.cli import run
from attnbench.spec.dtype import Dtype


def problem(
    model: str = "llama-3-8b",
    *,
    gpus: tuple[str, ...] = ("h100-sxm",),
    formats: tuple[str, ...] = ("auto",),
    kv: tuple[Dtype, ...] = (Dtype.BF16,),
    chunks: tuple[int | None, ...] = (None,),
    requests_per_s: float | None = None,
    input_len: int = 1024,
    output_len: int = 256,
    ttft_s: float = 0.5,
    itl_s: float = 0.05,
    max_gpus: int = 16,
) -> Problem:
    """A problem with prices of the shipped list."""
    spec = load_model(model)
    return Problem(
        model=spec,
        cost=model_cost(spec),
        traffic=Traffic(input_len=input_len, output_len=output_len, requests_per_s=requests_per_s),
        limits=Limits(ttft_s=ttft_s, itl_s=itl_s, max_gpus=max_gpus),
        offers=offers(gpus, {}, engine="vllm"),
        weights=weights(spec, formats),
        kv_dtypes=kv,
        serving=serving_constants("vllm").serving,
        chunks=chunks,
    )


@pytest.mark.parametrize("model", ["llama-3-8b", "mixtral-8x7b", "deepseek-v3", "gemma-2-9b"])
@pytest.mark.parametrize("layout", [(1, 1, 1, 1), (4, 1, 1, 1), (2, 3, 1, 1), (2, 2, 8, 4)])
@pytest.mark.parametrize("kv", [Dtype.BF16, Dtype.FP8_E4M3])
def test_bytes_are_those_of_memory(model: str, layout: tuple[int, ...], kv: Dtype) -> None:
    spec = load_model(model)
    tp, pp, ep, ranks = layout
    if ep > 1 and not any(layer.experts for layer in spec.layers):
        ep = 1
    laid = Layout(tp=tp, pp=pp, ep=ep, ranks=ranks)
    (stored,) = weights(spec, ("auto",))
    held = footprint(stored, stored_by_stage(stored, laid), kv, laid, seq_len=3000)
    for batch, tokens in ((1, 512), (7, 3000), (640, 2048)):
        exact = serving(
            spec, stored.scheme,
            Serving(
                seq_len=3000, batch=batch, cache=Rules(dtype=kv), max_num_batched_tokens=tokens
            ),
            laid.parallel, overhead_per_gpu(laid.parallel),
        )  # fmt: skip
        assert held.per_gpu_bytes(batch, tokens) == exact.per_gpu_bytes
        assert held.most_sequences(exact.per_gpu_bytes, tokens) == batch
        assert held.most_sequences(exact.per_gpu_bytes - 1, tokens) == batch - 1


@pytest.mark.parametrize("model", ["llama-3-8b", "llama-3-70b", "deepseek-v3"])
@pytest.mark.parametrize("tp", [1, 2, 8])
@pytest.mark.parametrize("batch", [1, 16, 200])
def test_times_are_those_of_serving_time(model: str, tp: int, batch: int) -> None:
    """One stage, one chunk, no network: the model that is validated against measurements."""
    asked = problem(model, ttft_s=1e6, itl_s=1e6)
    (offer,), (stored,), c = asked.offers, asked.weights, asked.serving
    laid = Layout(tp=tp, pp=1)
    clock = Clock(asked, offer, stored, Dtype.BF16)
    terms = [
        pass_terms(
            asked.cost, new_tokens=new, context=context, batch=many,
            placement=Placement(
                tp=tp, weight_dtype=stored.dtype,
                link_bytes_per_s=offer.gpu.published.link_bytes_per_s,
            ),
            chip=offer.chip, constants=offer.constants,
        )
        for new, context, many in ((1, 1024 + 128, batch), (1024, 1024, 1))
    ]  # fmt: skip
    exact = serving_time(terms[0], terms[1], c, batch=batch, output_len=256)
    step_s = clock.step_s(laid, clock.step(laid, batch), batch)
    prefill = clock.prefill(laid, None)
    others = prefill.occupied_s * (batch - 1)
    assert step_s == pytest.approx(exact.step_s, rel=1e-9)
    assert prefill.latency_s == pytest.approx(exact.prefill_s, rel=1e-9)
    assert step_s + c.interference * others / 256 == pytest.approx(exact.tpot_s, rel=1e-9)
    ttft_s = prefill.latency_s + c.wait * prefill.occupied_s * (batch - 1) ** 0.5 + step_s
    assert ttft_s == pytest.approx(exact.ttft_s, rel=1e-9)


def test_the_wait_for_a_slot_is_erlangs() -> None:
    """Erlang C itself, of which the closed form is an approximation good to some per cent."""
    for slots, load in ((1, 0.5), (1, 0.9), (2, 0.8), (8, 0.8), (32, 0.9)):
        offered, blocked = slots * load, 1.0
        for n in range(1, slots + 1):
            blocked = offered * blocked / (n + offered * blocked)
        waits = blocked / (1 - load + load * blocked)
        exact = waits / (slots * (1 - load))
        assert slot_wait_s(slots=slots, service_s=1.0, load=load) == pytest.approx(exact, rel=0.1)


def test_more_ranks_never_take_less_time_to_reduce_over() -> None:
    (offer,) = offers(("h100-sxm",), {}, engine="vllm")
    times = [all_reduce_s(1e6, ranks, offer.links) for ranks in (1, 2, 4, 8, 16, 32, 64)]
    assert times == sorted(times)
    assert times[4] > 2 * times[3]  # the network is slower than NVLink


def test_layouts_go_round() -> None:
    spec = load_model("mixtral-8x7b")
    for layout in layouts(spec, 64, 8):
        assert 32 % layout.tp == 0
        assert layout.gpus <= 64
        assert layout.ep in (1, layout.tp * layout.ranks)
        assert layout.ep <= 8
    assert {layout.ep for layout in layouts(load_model("llama-3-8b"), 64, 8)} == {1}


_GPUS = ("a100-80gb-sxm", "h100-sxm", "h200-sxm", "b200")


@settings(max_examples=15, deadline=None)
@given(
    model=st.sampled_from(["llama-3-8b", "llama-3-70b", "mixtral-8x7b"]),
    gpus=st.lists(st.sampled_from(_GPUS), min_size=1, max_size=2, unique=True).map(tuple),
    requests=st.none() | st.floats(0.01, 60),
    lengths=st.tuples(st.integers(1, 20_000), st.integers(1, 2000)),
    ttft_s=st.floats(0.01, 5),
    itl_s=st.floats(0.004, 0.2),
    max_gpus=st.integers(1, 12),
    chunks=st.sampled_from([(None,), (512,), (None, 2048)]),
)
def test_the_search_finds_what_looking_at_everything_finds(
    model: str, gpus: tuple[str, ...], requests: float | None, lengths: tuple[int, int],
    ttft_s: float, itl_s: float, max_gpus: int, chunks: tuple[int | None, ...],
) -> None:  # fmt: skip
    asked = problem(
        model, gpus=gpus, formats=("auto", "fp8"), chunks=chunks, requests_per_s=requests,
        input_len=lengths[0], output_len=lengths[1], ttft_s=ttft_s, itl_s=itl_s, max_gpus=max_gpus,
    )  # fmt: skip
    pruned, all_of_them = search(asked), search(asked, prune=False)

    def figures(points: list) -> list:  # type: ignore[type-arg]  # of plain tuples
        return [candidate(asked, p) for p in points]

    assert len(pruned.points) == len(all_of_them.points)
    assert figures(pruned.points) == figures(all_of_them.points)
    assert pruned.computed <= all_of_them.computed <= pruned.considered


@settings(max_examples=12, deadline=None)
@given(
    requests=st.none() | st.floats(0.05, 40),
    ttft_s=st.floats(0.05, 2),
    itl_s=st.floats(0.006, 0.1),
    looser=st.floats(1, 4),
    max_gpus=st.integers(1, 12),
)
def test_looser_limits_never_cost_more(
    requests: float | None, ttft_s: float, itl_s: float, looser: float, max_gpus: int
) -> None:
    def cheapest(*, ttft_s: float, itl_s: float, max_gpus: int) -> float:
        points = search(
            problem(requests_per_s=requests, ttft_s=ttft_s, itl_s=itl_s, max_gpus=max_gpus)
        ).points
        return min((p.cost for p in points), default=float("inf"))

    cost = cheapest(ttft_s=ttft_s, itl_s=itl_s, max_gpus=max_gpus)
    assert cheapest(ttft_s=ttft_s * looser, itl_s=itl_s, max_gpus=max_gpus) <= cost
    assert cheapest(ttft_s=ttft_s, itl_s=itl_s * looser, max_gpus=max_gpus) <= cost
    assert cheapest(ttft_s=ttft_s, itl_s=itl_s, max_gpus=max_gpus * 2) <= cost


def test_the_front_is_what_nothing_dominates() -> None:
    asked = problem("llama-3-70b", gpus=_GPUS, formats=("auto", "fp8"), chunks=(None, 512))
    points = search(asked).points
    kept = front(points)
    assert min(points, key=rank) is kept[0]
    for one in kept:
        assert not any(dominates(other, one) for other in points)
    for other in points:
        assert any(
            k.cost <= other.cost
            and k.itl_s <= other.itl_s
            and k.served.tokens_per_s >= other.served.tokens_per_s
            for k in kept
        )


def fits(model: str, gpu: str, count: int, formats: str, kv: Dtype = Dtype.BF16) -> bool:
    """Whether any layout over `count` GPUs holds the model and one short request."""
    asked = problem(
        model, gpus=(gpu,), formats=(formats,), kv=(kv,), max_gpus=count,
        ttft_s=1e6, itl_s=1e6, input_len=128, output_len=16,
    )  # fmt: skip
    return bool(search(asked, first=True).points)


@pytest.mark.parametrize(
    ("model", "gpu", "formats", "too_few", "enough"),
    [
        ("llama-3-70b", "h100-sxm", "bf16", 1, 2),  # 141 GB of weights
        ("llama-3-70b", "h200-sxm", "fp8", 0, 1),  # NVIDIA serves it on one
        ("llama-3.1-405b", "h100-sxm", "fp8", 4, 8),  # Meta: fp8 for one node of 8 H100
        ("llama-3.1-405b", "h100-sxm", "bf16", 8, 16),  # Meta: two nodes in bf16
        ("deepseek-v3", "h200-sxm", "auto", 4, 8),  # its page: 8 H200
        ("deepseek-v3", "h100-sxm", "auto", 8, 16),  # its page: 16 H100
        ("mixtral-8x7b", "a100-80gb-sxm", "bf16", 1, 2),  # 93 GB of weights
        ("gpt-oss-120b", "h100-sxm", "auto", 0, 1),  # its page: one 80 GB GPU
    ],
)
def test_known_deployments(model: str, gpu: str, formats: str, too_few: int, enough: int) -> None:
    assert too_few == 0 or not fits(model, gpu, too_few, formats)
    assert fits(model, gpu, enough, formats)


def plan(*arguments: str, capsys: pytest.CaptureFixture[str]) -> dict:  # type: ignore[type-arg]
    """The JSON object that `plan` prints."""
    assert run(["plan", *arguments, "--json"]) == 0
    return dict(json.loads(capsys.readouterr().out))


def test_the_answer_hangs_together(capsys: pytest.CaptureFixture[str]) -> None:
    found = plan("llama-3-8b", "--requests-per-s", "20", "--gpus", "h100-sxm,b200", capsys=capsys)
    best = found["recommended"]
    assert next(iter(found)) == "schema"
    assert best["gpus"] == best["tp"] * best["pp"] * best["dp"]
    assert best["ttft_s"] <= 0.5
    assert best["itl_s"] <= 0.05
    assert best["tokens_per_s"] == 20 * 256 <= 0.8 * best["capacity_tokens_per_s"] * (1 + 1e-9)
    dollars = best["cost_per_hour"] / 3600 / best["tokens_per_s"] * 1e6
    assert best["cost_per_million_tokens"] == pytest.approx(dollars)
    assert found["front"][0] == best
    assert all(item["why"] for item in found["rejected"])
    assert found["considered"] >= found["computed"] > 0


def test_users_are_all_served(capsys: pytest.CaptureFixture[str]) -> None:
    best = plan("llama-3-8b", "--users", "300", "--gpus", "h100-sxm", capsys=capsys)["recommended"]
    assert best["batch"] * best["dp"] >= 300


def test_the_most_users_can_be_planned(capsys: pytest.CaptureFixture[str]) -> None:
    options = ("llama-3-8b", "--gpus", "h100-sxm", "--max-gpus", "2")
    solved = plan(*options, "--solve", "max-users", capsys=capsys)
    most = solved["solve"]["value"]
    assert solved["recommended"]["batch"] * solved["recommended"]["dp"] >= most
    assert run(["plan", *options, "--users", str(most * 2)]) == 1


def test_the_longest_context_is_the_longest(capsys: pytest.CaptureFixture[str]) -> None:
    options = ("llama-3.1-8b", "--gpus", "l40s", "--max-gpus", "1", "--kv-dtype", "bf16")
    limits = ("--weight-dtype", "bf16", "--ttft-ms", "900")
    solved = plan(*options, *limits, "--solve", "max-context", capsys=capsys)
    longest = solved["solve"]["value"]
    assert solved["traffic"]["input_len"] == longest
    assert run(["plan", *options, *limits, "--input-len", str(longest + 256)]) == 1


def test_fewest_gpus_whatever_they_cost(capsys: pytest.CaptureFixture[str]) -> None:
    options = (
        "llama-3-70b",
        "--requests-per-s",
        "4",
        "--gpus",
        "h100-sxm,b200",
        "--chunks",
        "none",
    )
    fewest = plan(*options, "--solve", "min-gpus", capsys=capsys)["recommended"]
    cheapest = plan(*options, "--solve", "min-cost", capsys=capsys)["recommended"]
    assert fewest["gpus"] <= cheapest["gpus"]
    assert fewest["cost_per_hour"] >= cheapest["cost_per_hour"]


def test_a_gpu_without_a_price_ranks_all_by_gpus(capsys: pytest.CaptureFixture[str]) -> None:
    found = plan("llama-3-8b", "--gpus", "l40s,h100-sxm", "--max-gpus", "4", capsys=capsys)
    assert any("ranked by GPUs" in said for said in found["assumptions"])
    named = plan(
        "llama-3-8b", "--gpus", "l40s", "--price", "l40s=0.8", "--max-gpus", "2", capsys=capsys
    )
    best = named["recommended"]
    assert best["cost_per_hour"] == pytest.approx(0.8 * best["gpus"])


def test_a_trace_gives_the_lengths(
    tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path_factory.mktemp("trace") / "trace.csv"
    path.write_text("ContextTokens,GeneratedTokens\n100,10\n300,30\n")
    found = plan("llama-3-8b", "--trace", str(path), "--gpus", "l4", capsys=capsys)
    assert found["traffic"]["input_len"] == 200
    assert found["traffic"]["output_len"] == 20
    assert found["traffic"]["longest"] == 330


@pytest.mark.parametrize(
    "options",
    [
        ["--gpus", "h100"],
        ["--price", "h100-sxm"],
        ["--price", "h100-sxm=-1"],
        ["--price", "no-such=1"],
        ["--gpus", "l40s", "--price", "h100-sxm=2"],
        ["--requests-per-s", "0"],
        ["--requests-per-s", "nan"],
        ["--requests-per-s", "1", "--users", "2"],
        ["--users", "99999999"],
        ["--ttft-ms", "-1"],
        ["--itl-ms", "inf"],
        ["--max-load", "1"],
        ["--utilization", "1.5"],
        ["--max-gpus", "0"],
        ["--chunks", "zero"],
        ["--kv-dtype", "fp7"],
        ["--weight-dtype", "fp7"],
        ["--network-gbps", "0"],
        ["--engine", "nope"],
    ],
    ids=" ".join,
)
def test_bad_input_is_refused(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "llama-3-8b", *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert 1 <= len(err.strip().splitlines()) <= 2


def test_what_does_not_fit_says_what_came_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--gpus", "h100-sxm", "--max-gpus", "1", "--weight-dtype", "bf16"]
    assert run(["plan", "llama-3-70b", *options]) == 1
    assert "h100-sxm: memory: at least" in capsys.readouterr().err


def test_an_encoder_decoder_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "whisper-large-v3"]) == 2
    assert "encoder" in capsys.readouterr().err


@pytest.mark.parametrize("model", ["mamba-2.8b", "falcon-7b", "jamba-1.5-mini", "gemma-3n-e4b"])
def test_models_of_other_kinds(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = plan(model, "--gpus", "h100-sxm", "--max-gpus", "4", capsys=capsys)
    recurrent = any("scans are not" in said for said in found["assumptions"])
    assert recurrent == (model in ("mamba-2.8b", "jamba-1.5-mini"))


@pytest.mark.parametrize(
    ("engine", "flags"),
    [
        (
            "vllm",
            {
                "--tensor-parallel-size",
                "--pipeline-parallel-size",
                "--data-parallel-size",
                "--enable-expert-parallel",
                "--quantization",
                "--kv-cache-dtype",
                "--max-model-len",
                "--max-num-seqs",
                "--max-num-batched-tokens",
                "--gpu-memory-utilization",
            },
        ),
        (
            "sglang",
            {
                "--model-path",
                "--tp-size",
                "--pp-size",
                "--dp-size",
                "--enable-dp-attention",
                "--ep-size",
                "--quantization",
                "--kv-cache-dtype",
                "--context-length",
                "--max-running-requests",
                "--chunked-prefill-size",
                "--mem-fraction-static",
            },
        ),
    ],
)
@pytest.mark.parametrize("model", ["llama-3-70b", "deepseek-v3"])
def test_the_command_line_has_the_engines_flags(
    engine: str, flags: set[str], model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Flags as vLLM 0.33's `arg_utils` and SGLang 0.5.23's `ServerArgs` define them."""
    options = ("--engine", engine, "--gpus", "h200-sxm", "--requests-per-s", "2")
    found = plan(model, *options, capsys=capsys)
    words, best = found["command"]["command"].split(), found["recommended"]
    assert {word for word in words if word.startswith("--")} <= flags
    engines = best["gpus"] // best["replicas"]
    value = dict(itertools.pairwise(words))
    sizes: tuple[str, ...] = ("--tp-size", "--pp-size")
    if engine == "vllm":
        sizes = ("--tensor-parallel-size", "--pipeline-parallel-size", "--data-parallel-size")
        assert int(value["--max-num-batched-tokens"]) >= int(value["--max-num-seqs"])
    counted = 1
    for name in sizes:
        counted *= int(value.get(name, 1))
    assert counted == engines
    assert ("--quantization" in words) == (model == "llama-3-70b")  # the other is stored so


def test_a_gpu_that_nothing_was_fitted_for_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    found = plan("llama-3-8b", "--gpus", "l4", "--itl-ms", "200", capsys=capsys)
    assert any("no timings were fitted for l4" in said for said in found["assumptions"])


def test_rows_of_formats_that_a_gpu_lacks_are_left_out() -> None:
    asked = problem(gpus=("a100-80gb-sxm",), formats=("auto", "fp8"), kv=(Dtype.FP8_E4M3,))
    assert list(rows(asked)) == []
