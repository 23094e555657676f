"""From names to what `plan` computes with: offers of GPUs, formats of weights, traffic."""

import re
from collections.abc import Mapping, Sequence

import msgspec

from attnbench.calc.attention_work import chip_of
from attnbench.calc.plan_links import Links, pcie_bytes_per_s
from attnbench.calc.plan_problem import Offer, Traffic, Weights
from attnbench.calc.quantization import Scheme
from attnbench.catalog.calibration import constants_for
from attnbench.catalog.hardware import gpu_names, load_gpu
from attnbench.catalog.prices import prices
from attnbench.catalog.quantization_config import scheme_of
from attnbench.catalog.trace import TracedRequest
from attnbench.engines.attention import attention_engine
from attnbench.errors import UserError, unknown_name
from attnbench.spec.dtype import Dtype, parse_dtype
from attnbench.spec.hardware import HardwareSpec
from attnbench.spec.model import ModelSpec

_NETWORK_GBPS = 400.0  # one NDR InfiniBand adapter a GPU, as in DGX H100's data sheet
_FORMAT = re.compile(r"\((\w+)\)$")


def offers(
    names: Sequence[str] | None,
    asked: Mapping[str, float],
    *,
    engine: str,
    node: int = 8,
    network_gbps: float = _NETWORK_GBPS,
) -> tuple[Offer, ...]:
    """The GPUs allowed, with prices: as asked, else as shipped.

    `names` None: those that have both calibrated constants and a price; `all`: those that
    have constants.

    Raises:
        UserError: an unknown GPU, or a price of none of them.
    """
    known = {name: price.usd_per_hour for name, price in prices().items()} | dict(asked)
    for name in asked:
        if name not in gpu_names():
            raise unknown_name("GPU", name, gpu_names(), see="attnbench gpus")
    if names is None or list(names) == ["all"]:
        wanted = gpu_names() if names else sorted(known)
        loaded = [gpu for gpu in map(load_gpu, wanted) if gpu.calibration]
    else:
        loaded = [load_gpu(name) for name in dict.fromkeys(names)]
        for name in asked:
            if name not in {gpu.name for gpu in loaded}:
                raise UserError(f"--price: {name} is not among --gpus {','.join(names)}")
    return tuple(
        Offer(
            gpu=gpu,
            chip=chip_of(gpu),
            constants=constants_for(gpu, attention_engine(engine, architecture=gpu.architecture)),
            links=links_of(gpu, node=node, network_gbps=network_gbps),
            price_per_hour=known.get(gpu.name),
        )
        for gpu in loaded
    )


def links_of(gpu: HardwareSpec, *, node: int, network_gbps: float = _NETWORK_GBPS) -> Links:
    """A GPU's links: its own to `node` GPUs, else PCIe; the network beyond, a GPU's share."""
    rate = gpu.published.link_bytes_per_s
    return Links(
        node=node,
        near_bytes_per_s=rate or pcie_bytes_per_s(gpu.published.pcie),
        far_bytes_per_s=network_gbps / 8 * 1e9,
        switched=rate is not None,
    )


def weights(model: ModelSpec, names: Sequence[str]) -> tuple[Weights, ...]:
    """Formats of weights to try: `auto` is as the checkpoint is stored.

    Raises:
        UserError: an unknown format, or a checkpoint packed in an unknown way.
    """
    made: dict[str, Weights] = {}
    for name in names:
        scheme = scheme_of(model) if name == "auto" else scheme_of(model, parse_dtype(name))
        dtype = computed_in(scheme)
        own = name == "auto" or dtype == computed_in(scheme_of(model))
        counted = model
        if not own:  # then the file's own count of bytes says nothing
            counted = msgspec.structs.replace(model, stored_bytes=None, stored_parts=None)
        found = Weights(label=str(dtype), dtype=dtype, scheme=scheme, model=counted, own=own)
        made.setdefault(found.label, found)
    # Converting a packed checkpoint to wider weights is never what serving wants.
    if "auto" not in names:
        return tuple(made.values())
    most = next(w.dtype.bits for w in made.values() if w.own)
    return tuple(w for w in made.values() if w.own or w.dtype.bits < most)


def computed_in(scheme: Scheme) -> Dtype:
    """The dtype that a scheme's packed layers are multiplied in, or are stored in."""
    if scheme.layout is None:
        return scheme.dtype
    named = _FORMAT.search(scheme.name)
    if named and named[1] in {str(dtype) for dtype in Dtype}:
        return Dtype(named[1])
    if scheme.name in {str(dtype) for dtype in Dtype}:
        return Dtype(scheme.name)
    return Dtype.INT8 if scheme.layout.bits > 4 else Dtype.INT4


def stored_format(model: ModelSpec) -> str:
    """The format that the checkpoint's weights are stored in."""
    return str(computed_in(scheme_of(model)))


def hub_id(model: ModelSpec) -> str:
    """The name that an engine loads a model by: its hub id, where its source says one."""
    found = re.search(r"huggingface\.co/([\w.-]+/[\w.-]+)", model.source)
    return found[1] if found else model.name


def traffic(
    input_len: int,
    output_len: int,
    trace: Sequence[TracedRequest] | None,
    *,
    requests_per_s: float | None,
    users: int | None,
) -> Traffic:
    """The traffic asked for; of a trace the mean lengths, and the longest request."""
    longest = input_len + output_len
    if trace:
        input_len = max(1, round(sum(r.input_tokens for r in trace) / len(trace)))
        output_len = max(1, round(sum(r.output_tokens for r in trace) / len(trace)))
        longest = max(r.input_tokens + r.output_tokens for r in trace)
    return Traffic(
        input_len=input_len, output_len=output_len, longest=longest,
        requests_per_s=requests_per_s, users=users,
    )  # fmt: skip


def weight_formats(model: ModelSpec) -> tuple[str, ...]:
    """Formats tried unless said: the checkpoint's, and fp8 where that is wider."""
    return ("auto", "fp8") if computed_in(scheme_of(model)).bits > 8 else ("auto",)


def kv_formats() -> tuple[Dtype, ...]:
    """Formats of the cache tried unless said."""
    return (Dtype.BF16, Dtype.FP8_E4M3)
