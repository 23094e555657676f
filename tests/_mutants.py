"""Planted faults, as kernels of a user: tests/test_verify.py wants each caught by name."""

import math
import os
import signal
import time

import torch

from attnbench.calc.score_features import alibi_slopes, documents, kv_lens, sink_logits

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


def edge_leak(query, key, value, shape):
    """One row sees the next key, to a part in 10⁶: at no edge of a block."""
    out = right(query, key, value, shape)
    at = 20 + shape.offset + 1
    if shape.causal and shape.seq_q > 20 and 0 <= at < shape.seq_kv:
        leak = torch.zeros_like(out)
        leak[:, :, 20] = 1e-6 * value[:, :1, at]
        out = out + leak
    return out


def scaled_by_the_tile(query, key, value, shape):
    """By the width that a tile has, the next power of two."""
    tile = 2 ** math.ceil(math.log2(shape.head_dim))
    return attend(query, key, value, later(shape), scale=tile**-0.5)


def diagonal_hidden(query, key, value, shape):
    return attend(query, key, value, later(shape, by=0))


def aligned_top_left(query, key, value, shape):
    """Causal from the first key, not up to the last."""
    ones = torch.ones(shape.seq_q, shape.seq_kv, dtype=torch.bool)
    return attend(query, key, value, ones.triu(1) if shape.causal else None)


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


class _Featured:
    """Every feature done, one after another; a mutant leaves something out."""

    features = ("alibi", "soft_cap", "sink_logit", "padding", "varlen")

    def prepare(self, shape, params, device):
        return shape, params

    def slopes(self, shape):
        return torch.tensor(alibi_slopes(shape.heads))

    def cap(self, scores, cap):
        return cap * torch.tanh(scores / cap)

    def normalised(self, scores, sinks):
        sinks = sinks.view(-1, 1, 1).expand(*scores.shape[:-1], 1)
        return torch.softmax(torch.cat([scores, sinks], -1), -1)[..., :-1]

    def visible(self, row, key, start_q, start_kv):
        """Whether row and key are of one document, and where the row stands among keys."""
        of_row = torch.bucketize(row, start_q, right=True) - 1
        of_key = torch.bucketize(key, start_kv, right=True) - 1
        return of_row == of_key

    def forward(self, query, key, value, state):
        shape, params = state
        key, value = (x.repeat_interleave(shape.group, 1) for x in (key, value))
        count = params.get("varlen", 0) or 1
        q_at, k_at = documents(shape.seq_q, count), documents(shape.seq_kv, count)
        row, column = torch.arange(shape.seq_q)[:, None], torch.arange(shape.seq_kv)[None, :]
        seen = self.visible(
            row, column, *(torch.tensor([r.start for r in x]) for x in (q_at, k_at))
        )
        # The last row of a document stands at its last key.
        shift = torch.cat(
            [torch.full((len(q),), k.stop - q.stop) for q, k in zip(q_at, k_at, strict=True)]
        )
        distance = column - row - shift[:, None]
        if shape.causal:
            seen = seen & (distance <= 0)
        seen = seen.expand(shape.batch, 1, -1, -1)
        if "padding" in params:
            lens = torch.tensor(kv_lens(shape.batch, shape.seq_kv, params["padding"]))
            seen = seen & (column < lens.view(-1, 1, 1, 1))
            padded = (torch.arange(shape.seq_kv) >= lens[:, None])[:, None, :, None]
            key, value = (x.masked_fill(padded, 0.0) for x in (key, value))
        scores = query @ key.mT / math.sqrt(shape.head_dim)
        if "soft_cap" in params:
            scores = self.cap(scores, params["soft_cap"])
        if "alibi" in params:
            scores = scores - self.slopes(shape)[:, None, None] * distance.abs()
        scores = scores.masked_fill(~seen, -math.inf)
        if "sink_logit" in params:
            weights = self.normalised(scores, torch.tensor(sink_logits(shape.heads)))
        else:
            weights = torch.softmax(scores, -1)
        return weights.nan_to_num(0.0) @ value


class EveryFeature(_Featured):
    pass


class WrongSlope(_Featured):
    """The slopes of the next head."""

    def slopes(self, shape):
        return super().slopes(shape).roll(1)


class SoftCapDropped(_Featured):
    def cap(self, scores, cap):
        return scores


class SinkLeftOut(_Featured):
    """Of the denominator."""

    def normalised(self, scores, sinks):
        return torch.softmax(scores, -1)


class DocumentLeak(_Featured):
    """A document's first row sees the one before."""

    def visible(self, row, key, start_q, start_kv):
        inside = super().visible(row, key, start_q, start_kv)
        before = super().visible(row - 1, key, start_q, start_kv)
        return inside | (torch.isin(row, start_q[1:]) & before)


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
