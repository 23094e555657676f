"""A child that crashes, hangs or eats memory costs its job and no more."""

import importlib
import sys

import pytest

from attnbench.measure.isolation import run_isolated

jobs = importlib.import_module("isolation_jobs")


def test_a_job_answers_and_tells_where_it_was() -> None:
    ended = run_isolated(jobs.double, 21)
    assert (ended.result, ended.failed, ended.at) == (42, None, "doubling")


def test_an_exception_is_named() -> None:
    ended = run_isolated(jobs.fail, "no such thing")
    assert ended.failed == "error"
    assert ended.reason == "ValueError: no such thing"


def test_a_crash_is_told_apart_with_the_last_word() -> None:
    ended = run_isolated(jobs.crash, None)
    assert ended.failed == "crash"
    assert "SIGSEGV" in ended.reason
    assert ended.at == "about to crash"


def test_a_silent_job_is_killed_but_a_talking_one_is_not() -> None:
    assert run_isolated(jobs.hang, 60.0, time_limit_s=0.5).failed == "timeout"
    assert run_isolated(jobs.talk, 6, time_limit_s=0.8).result == 6


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's RLIMIT_DATA")
def test_memory_beyond_the_limit_is_refused_in_the_child() -> None:
    ended = run_isolated(jobs.allocate, 1 << 30, memory_limit_bytes=200 << 20)
    assert ended.failed == "error"
    assert ended.reason.startswith("MemoryError")
