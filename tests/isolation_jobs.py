"""Jobs for test_isolation, in a module that a child process can import."""

import os
import signal
import time
from typing import Any

from attnbench.measure.isolation import Say


def double(value: int, say: Say) -> int:
    say("doubling")
    return 2 * value


def fail(text: str, say: Say) -> None:
    raise ValueError(text)


def crash(_: Any, say: Say) -> None:
    say("about to crash")
    signal.signal(signal.SIGSEGV, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGSEGV)


def hang(seconds: float, say: Say) -> None:
    time.sleep(seconds)


def talk(times: int, say: Say) -> int:
    for i in range(times):
        time.sleep(0.25)
        say(str(i))
    return times


def allocate(size: int, say: Say) -> int:
    return len(bytearray(size))
