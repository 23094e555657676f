"""A user's kernels that are called as a YAML file says, and one that cannot be compiled."""

import os
import time

import triton
import triton.language as tl


@triton.jit
def copy(X, Y, N: tl.constexpr):
    at = tl.arange(0, N)
    tl.store(Y + at, tl.load(X + at))


@triton.jit
def wrong(X, N: tl.constexpr):
    tl.store(X + tl.arange(0, N), nowhere)  # noqa: F821 - what makes it wrong


def hangs_call(target: str) -> dict:
    time.sleep(600)
    raise AssertionError


def aborts_call(target: str) -> dict:
    os.abort()  # as an assertion in MLIR does


hangs = aborts = copy
wrong_call = {"arguments": {"X": {"tensor": "fp32", "shape": [64]}, "N": 64}}
