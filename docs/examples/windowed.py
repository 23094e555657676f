"""A kernel of one's own in attnbench: a causal local window, by torch and by hand.

attnbench verify --variant docs/examples/windowed.py:Banded
attnbench sweep --variants naive,sliding_window --variant docs/examples/windowed.py:Banded
"""

import math

import torch


class Banded:
    """Softmax over a window of 256 keys: rows in blocks, each with the keys it can see.

    `computes` names the built-in variant whose mathematics this is: outputs and gradients
    are held to that one's in float64. `params` are its settings, where not the defaults.
    """

    computes = "sliding_window"
    params = {"window": 256}  # noqa: RUF012 - read, never written
    rows = 128

    def supports(self, shape, mode, params, device_type):
        """Why it cannot run this problem, or None. (Optional.)"""
        if not shape.causal or shape.seq_q != shape.seq_kv:
            return "Banded is causal self-attention"
        return None

    def prepare(self, shape, params, device):
        """What does not depend on the values; timed as `setup_ms`. (Optional.)"""
        ranges, masks = [], []
        for start in range(0, shape.seq_q, self.rows):
            stop = min(start + self.rows, shape.seq_q)
            first = max(0, start - params["window"] + 1)
            row = torch.arange(start, stop, device=device)[:, None]
            key = torch.arange(first, stop, device=device)[None, :]
            ranges.append((start, stop, first))
            masks.append((key > row) | (key <= row - params["window"]))
        return ranges, masks

    def forward(self, query, key, value, state):
        """Query [batch, heads, seq_q, head_dim] to output; key, value [batch, kv_heads, ...]."""
        group = query.shape[1] // key.shape[1]
        key, value = (x.repeat_interleave(group, 1) for x in (key, value))
        outputs = []
        for (start, stop, first), mask in zip(*state, strict=True):
            scores = query[:, :, start:stop] @ key[:, :, first:stop].mT
            scores = (scores / math.sqrt(query.shape[-1])).masked_fill(mask, -math.inf)
            outputs.append(torch.softmax(scores, -1) @ value[:, :, first:stop])
        return torch.cat(outputs, 2)


def plain(query, key, value, shape):
    """One function is enough: without `prepare` its state is the shape; it computes flash."""
    group = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(group, 1) for x in (key, value))
    scores = query @ key.mT / math.sqrt(query.shape[-1])
    if shape.causal:  # bottom-right: row i sees keys up to i + seq_kv - seq_q
        hidden = torch.ones_like(scores, dtype=torch.bool).triu(1 + shape.seq_kv - shape.seq_q)
        scores = scores.masked_fill(hidden, -math.inf)
    return torch.softmax(scores, -1).nan_to_num(0.0) @ value
