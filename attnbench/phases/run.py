"""Prefill, then decode token by token, timed: with a cache, and without one.

    TTFT   one pass over the prompt, and its next token chosen
    ITL    one pass over one token and the cache; without a cache, over the whole sequence

A round is a prefill and every decoding step after it; rounds are what repeats
independently. Without a cache a step costs as its length says, so only some lengths are
timed. Tokens are drawn: a time does not depend on which they are. The clock is the
host's, read when the device is done.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from attnbench.measure.statistics import Timed, summarise
from attnbench.phases.cache import cache_bytes

_UNCACHED_LENGTHS = 4


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of the model: `new_tokens` after a prompt, `batch` sequences at once."""

    prompt_len: int
    new_tokens: int
    batch: int
    rounds: int

    def uncached_lengths(self) -> tuple[int, ...]:
        """Lengths of the steps timed without a cache: first, last, and some between."""
        steps = self.new_tokens - 1
        count = min(_UNCACHED_LENGTHS, steps)
        if count < 2:
            return tuple(self.prompt_len + 1 + i for i in range(count))
        return tuple(
            self.prompt_len + 1 + round(i * (steps - 1) / (count - 1)) for i in range(count)
        )


class Phases(msgspec.Struct, frozen=True, kw_only=True):
    """What was timed. A step's key is its length: tokens of the prompt and of all before it.

    `prefill` is TTFT; `decode` has every step after it; `uncached` some lengths, empty
    where that was not asked for. `cache_bytes` by tokens held. `first_call_ms` is that of
    the untimed first prefill.
    """

    first_call_ms: float
    prefill: Timed
    decode: dict[int, Timed]
    uncached: dict[int, Timed]
    cache_bytes: dict[int, int]


def run_phases(model: Any, traffic: Traffic, *, uncached: bool) -> Phases:
    """Time `model` under `traffic`, after one round that is not counted."""
    import torch

    device = next(model.parameters()).device
    wait = torch.cuda.synchronize if device.type == "cuda" else _nothing
    draw = torch.Generator().manual_seed(0)
    length = traffic.prompt_len + traffic.new_tokens
    tokens = torch.randint(model.config.vocab_size, (traffic.batch, length), generator=draw)
    tokens = tokens.to(device)
    held: dict[int, int] = {}
    prefill: list[list[float]] = []
    decode: dict[int, list[list[float]]] = {}
    without: dict[int, list[list[float]]] = {}
    first_call_ms = 0.0
    with torch.inference_mode():
        for number in range(traffic.rounds + 1):
            ttft, steps = _with_cache(model, tokens, traffic, wait, held)
            alone = _without_cache(model, tokens, traffic, wait) if uncached else {}
            if number == 0:
                first_call_ms = ttft
                continue
            prefill.append([ttft])
            for into, found in ((decode, steps), (without, alone)):
                for at, took in found.items():
                    into.setdefault(at, []).append([took])
    return Phases(
        first_call_ms=first_call_ms,
        prefill=summarise(prefill),
        decode={at: summarise(rounds) for at, rounds in decode.items()},
        uncached={at: summarise(rounds) for at, rounds in without.items()},
        cache_bytes=held,
    )


def _with_cache(
    model: Any, tokens: Any, traffic: Traffic, wait: Callable[[], None], held: dict[int, int]
) -> tuple[float, dict[int, float]]:
    """Milliseconds of the prefill and of each step; what the cache held goes to `held`."""
    n = traffic.prompt_len
    took, out = _timed(model, tokens[:, :n], wait, use_cache=True)
    ttft, cache = took, out.past_key_values
    held[n] = cache_bytes(cache)
    steps = {}
    for at in range(n + 1, n + traffic.new_tokens):
        took, out = _timed(
            model, tokens[:, at - 1 : at], wait, use_cache=True, past_key_values=cache
        )
        cache = out.past_key_values
        steps[at] = took
        held[at] = cache_bytes(cache)
    return ttft, steps


def _without_cache(
    model: Any, tokens: Any, traffic: Traffic, wait: Callable[[], None]
) -> dict[int, float]:
    return {
        at: _timed(model, tokens[:, :at], wait, use_cache=False)[0]
        for at in traffic.uncached_lengths()
    }


def _timed(model: Any, tokens: Any, wait: Callable[[], None], **options: Any) -> tuple[float, Any]:
    """Milliseconds of one pass, its last token chosen and on the host, and what it gave."""
    wait()
    began = time.perf_counter()
    out = model(input_ids=tokens, logits_to_keep=1, **options)
    out.logits[:, -1].argmax(-1).tolist()
    wait()
    return (time.perf_counter() - began) * 1e3, out


def _nothing() -> None:
    """The CPU has finished when a call returns."""


def total_ms(prefill_ms: float, steps: dict[int, float], lengths: Sequence[int]) -> float:
    """Prefill and one step at each of `lengths`; a length not timed is interpolated.

    >>> total_ms(10.0, {5: 1.0, 7: 3.0}, [5, 6, 7])
    16.0
    """
    known = sorted(steps)
    total = prefill_ms
    for at in lengths:
        above = min((n for n in known if n >= at), default=known[-1])
        below = max((n for n in known if n <= at), default=known[0])
        share = (at - below) / (above - below) if above > below else 0.0
        total += steps[below] + share * (steps[above] - steps[below])
    return total
