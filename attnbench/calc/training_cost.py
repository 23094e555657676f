"""What a training run computes, how many tokens suit a model, and how long a cluster takes."""

import msgspec

from attnbench.calc.params import count
from attnbench.spec.model import Chunked, Cross, Latent, ModelSpec, Recurrent, Shared, Sliding

_TOKENS_PER_PARAMETER = 20
_DAY_S = 86_400


class TrainingFlops(msgspec.Struct, frozen=True, kw_only=True):
    """FLOPs of a run: those of the parameters (6ND), and those of attention's scores."""

    parameters: int
    attention: int

    @property
    def total(self) -> int:
        """Both."""
        return self.parameters + self.attention


class TrainingCost(msgspec.Struct, frozen=True, kw_only=True):
    """A run of `tokens` tokens. Days and hours are None where no GPU is named."""

    tokens: int
    optimal_tokens: int
    parameter_flops: int
    attention_flops: int
    total_flops: int
    gpus: int
    mfu: float | None
    days: float | None
    gpu_hours: float | None


def training_flops(
    model: ModelSpec, *, tokens: int, seq_len: int, adapters: int | None = None
) -> TrainingFlops:
    """FLOPs of training `model` on `tokens` tokens in sequences of `seq_len`.

        6 · N · D  +  6 · D · Σ_layers heads · (key_dim + value_dim) · keys

    N the active parameters; `keys` the mean number of keys that a token of a layer sees:
    seq_len / 2 causally, less in a window. A forward takes a third of either. Where
    `adapters` parameters are trained beside a frozen model, its weights have no gradient:
    4 · N + 6 · adapters. Recurrent layers' scans are left out; recomputed activations
    are not counted.

    Source: Kaplan et al. 2020, arXiv:2001.08361, section 2.1; Chowdhery et al. 2022,
    arXiv:2204.02311, appendix B, with the causal half.

    >>> from attnbench.catalog import load_model
    >>> training_flops(load_model("gpt2"), tokens=1, seq_len=1024).parameters
    746638848
    """
    attended = 0.0
    for layer in model.layers:
        for mixer in layer.mixers:
            of = mixer.like if isinstance(mixer, Shared) else mixer
            if isinstance(of, Recurrent):
                continue
            if isinstance(of, Latent):
                width = of.nope_dim + of.rope_dim + of.value_dim
            else:
                width = of.key_dim + of.value_dim
            attended += layer.count * of.heads * width * _mean_keys(of, seq_len)
    active = count(model).active
    each = 6 * active if adapters is None else 4 * active + 6 * adapters
    return TrainingFlops(parameters=each * tokens, attention=round(6 * attended * tokens))


def _mean_keys(mixer: object, seq_len: int) -> float:
    """Keys that a token sees, the mean over a sequence; self counts half, as in s / 2."""
    if isinstance(mixer, Cross):
        return float(seq_len if mixer.length is None else mixer.length)
    if isinstance(mixer, Sliding) and mixer.window < seq_len:
        return mixer.window * (1 - mixer.window / (2 * seq_len))
    if isinstance(mixer, Chunked) and mixer.chunk < seq_len:
        return mixer.chunk / 2
    return seq_len / 2


def optimal_tokens(parameters: int) -> int:
    """Tokens that make the best of a compute budget for a model of `parameters`: 20 each.

    Source: Hoffmann et al. 2022, arXiv:2203.15556 (Chinchilla), table 3.

    >>> optimal_tokens(67_000_000_000)  # the table has 1.5 T
    1340000000000
    """
    return _TOKENS_PER_PARAMETER * parameters


def training_days(flops: int, *, gpus: int, peak_flops_per_s: float, mfu: float) -> float:
    """Days that `gpus` GPUs take for `flops` at a share `mfu` of their dense peak.

        flops / (gpus · peak · mfu) / 86,400

    Source: Chowdhery et al. 2022, arXiv:2204.02311, appendix B (model FLOPs utilisation).

    >>> round(training_days(10**24, gpus=1000, peak_flops_per_s=1e15, mfu=0.5), 1)
    23.1
    """
    return flops / (gpus * peak_flops_per_s * mfu) / _DAY_S


def training_cost(
    model: ModelSpec,
    *,
    seq_len: int,
    tokens: int | None = None,
    gpus: int = 1,
    peak_flops_per_s: float | None = None,
    mfu: float = 0.4,
    adapters: int | None = None,
) -> TrainingCost:
    """The cost of training `model` on `tokens` tokens, or on as many as suit its size."""
    best = optimal_tokens(count(model).active)
    chosen = best if tokens is None else tokens
    flops = training_flops(model, tokens=chosen, seq_len=seq_len, adapters=adapters)
    days = None
    if peak_flops_per_s is not None:
        days = training_days(flops.total, gpus=gpus, peak_flops_per_s=peak_flops_per_s, mfu=mfu)
    return TrainingCost(
        tokens=chosen,
        optimal_tokens=best,
        parameter_flops=flops.parameters,
        attention_flops=flops.attention,
        total_flops=flops.total,
        gpus=gpus,
        mfu=mfu if days is not None else None,
        days=days,
        gpu_hours=None if days is None else days * 24 * gpus,
    )
