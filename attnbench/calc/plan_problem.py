"""What `plan` is asked: traffic, limits, GPUs with their figures, formats to try.

Everything is resolved here already (profiles read, names checked); the search reads it only.
"""

import msgspec

from attnbench.calc.attention_time import Constants
from attnbench.calc.attention_work import Chip
from attnbench.calc.model_cost import ModelCost
from attnbench.calc.plan_links import Links
from attnbench.calc.quantization import Scheme
from attnbench.spec.calibration import ServingConstants
from attnbench.spec.dtype import Dtype
from attnbench.spec.hardware import HardwareSpec
from attnbench.spec.model import ModelSpec

CHUNKS: tuple[int | None, ...] = (None, 8192, 2048, 512)  # tokens of a prefill a step


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """Requests of `input_len` tokens that ask for `output_len`; how many, if that is known.

    `requests_per_s` arrive by themselves; or `users` each send one after another. With
    neither, one replica is planned, as full as the limits allow. `longest` tokens has the
    longest request, prompt and output.
    """

    input_len: int
    output_len: int
    requests_per_s: float | None = None
    users: int | None = None
    longest: int = 0

    @property
    def tokens(self) -> int:
        """Tokens that a request holds at its end."""
        return self.input_len + self.output_len

    @property
    def middle(self) -> int:
        """Tokens that a request holds on average while it decodes."""
        return self.input_len + self.output_len // 2


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What must hold. Seconds; `stall_s` is of the longest gap between two tokens.

    `load`: the share of its capacity that a deployment may be used to. `utilization`:
    of a GPU's memory.
    """

    ttft_s: float = 0.5
    itl_s: float = 0.05
    stall_s: float | None = None
    max_gpus: int = 256
    load: float = 0.8
    utilization: float = 0.9


class Weights(msgspec.Struct, frozen=True, kw_only=True):
    """One way of storing the weights; `dtype` is what the products are computed in.

    `model` is the spec that counts its bytes: without a file's own count where the
    weights are converted. `own`: as the checkpoint is.
    """

    label: str
    dtype: Dtype
    scheme: Scheme
    model: ModelSpec
    own: bool


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """A GPU that may be bought or rented; `price_per_hour` in USD, None where not known."""

    gpu: HardwareSpec
    chip: Chip
    constants: Constants
    links: Links
    price_per_hour: float | None = None

    def budget_bytes(self, utilization: float) -> int:
        """Bytes of one GPU that may be used."""
        return int(self.gpu.memory_bytes * utilization)


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """The whole question. `chunks`: tokens of a prefill a step to try, None for all at once.

    `fewest`: rank by GPUs, whatever they cost.
    """

    model: ModelSpec
    cost: ModelCost
    traffic: Traffic
    limits: Limits
    offers: tuple[Offer, ...]
    weights: tuple[Weights, ...]
    kv_dtypes: tuple[Dtype, ...]
    serving: ServingConstants
    chunks: tuple[int | None, ...] = CHUNKS
    fewest: bool = False

    @property
    def by_cost(self) -> bool:
        """Whether candidates are ranked by cost: not where a GPU has no price."""
        return not self.fewest and all(o.price_per_hour is not None for o in self.offers)

    @property
    def loaded(self) -> bool:
        """Whether the traffic says how much of it there is."""
        return self.traffic.requests_per_s is not None or self.traffic.users is not None
