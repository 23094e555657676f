"""Planted faults, as kernels of a user: tests/test_verify.py wants each caught by name."""

import math
import os
import signal
import time

import torch

state_of = {"calls": 0}


def attend(query, key, value, hidden=None, scale=None):
    group = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(group, 1) for x in (key, value))
    scores = query @ key.mT * (query.shape[-1] ** -0.5 if scale is None else scale)
    if hidden is not None:
        scores = scores.masked_fill(hidden, -math.inf)
    return torch.softmax(scores, -1).nan_to_num(0.0) @ value


def later(shape, by=1):
    """Keys that a causal row must not see, or by - 1 of them."""
    ones = torch.ones(shape.seq_q, shape.seq_kv, dtype=torch.bool)
    return ones.triu(by + shape.offset) if shape.causal else None


def right(query, key, value, shape):
    return attend(query, key, value, later(shape))


def mask_off_by_one(query, key, value, shape):
    return attend(query, key, value, later(shape, by=2))


def missing_scale(query, key, value, shape):
    return attend(query, key, value, later(shape), scale=1.0)


def future_leak(query, key, value, shape):
    """Right to a part in 10⁵: within no norm's sight in bf16."""
    out = right(query, key, value, shape)
    return out + 1e-5 * value.mean((1, 2), keepdim=True) if shape.causal else out


def not_normalised(query, key, value, shape):
    scores = query @ key.repeat_interleave(shape.group, 1).mT / math.sqrt(shape.head_dim)
    if shape.causal:
        scores = scores.masked_fill(later(shape), -math.inf)
    weights = torch.exp(scores - scores.amax(-1, keepdim=True).clamp_min(-1e30))
    return weights @ value.repeat_interleave(shape.group, 1)


def unwritten_tail(query, key, value, shape):
    out = torch.empty_like(query)
    out[:, :, :-1] = right(query, key, value, shape)[:, :, :-1]
    return out


def not_deterministic(query, key, value, shape):
    """Off by one rounding, in some elements of every other call."""
    state_of["calls"] += 1
    out = right(query, key, value, shape)
    return out * (1 + torch.finfo(out.dtype).eps) if state_of["calls"] % 2 else out


def wrong_head(query, key, value, shape):
    """Query head h reads KV head h % kv_heads."""
    if shape.heads == shape.kv_heads:
        return right(query, key, value, shape)
    order = torch.arange(shape.heads) % shape.kv_heads
    return attend(query, key[:, order], value[:, order], later(shape))


def order_matters(query, key, value, shape):
    """The first sequence's keys serve all."""
    return attend(query, key[:1].expand_as(key), value, later(shape))


class WrongGradient:
    """Its output is right; the gradient of the values is doubled."""

    def forward(self, query, key, value, shape):
        return right(query, key, 2 * value - value.detach(), shape)


class WindowOffByOne:
    """A window of 8 where 9 are asked for."""

    computes = "sliding_window"
    params = {"window": 9}  # noqa: RUF012 - read, never written

    def supports(self, shape, mode, params, device_type):
        return None if shape.causal else "causal alone"

    def forward(self, query, key, value, shape):
        far = torch.ones(shape.seq_q, shape.seq_kv, dtype=torch.bool).tril(shape.offset - 8)
        return attend(query, key, value, later(shape) | far)


class PaddingSeen:
    """It takes padding for keys."""

    features = ("padding",)

    def forward(self, query, key, value, shape):
        return right(query, key, value, shape)


def raises(query, key, value, shape):
    raise FloatingPointError("cosmic ray")


def wrong_shape(query, key, value, shape):
    return right(query, key, value, shape)[..., :-1]


def wrong_dtype(query, key, value, shape):
    return right(query, key, value, shape).double()


def answers_two(query, key, value, shape):
    return right(query, key, value, shape), None


def crashes(query, key, value, shape):
    signal.signal(signal.SIGSEGV, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGSEGV)


def hangs(query, key, value, shape):
    time.sleep(600)


class RunsNowhere:
    def supports(self, shape, mode, params, device_type):
        return "it waits for better hardware"

    def forward(self, query, key, value, shape):
        return query
