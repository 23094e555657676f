"""Two sweeps take turns: strictly, without waiting for one that has left."""

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from attnbench.measure import turns
from attnbench.measure.turns import VARIABLE, Turns, leave, same_cores, two_sides

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")


def silent() -> None:
    """Said by one who waits."""


def side(environment: dict[str, str]) -> Turns:
    return Turns(*map(Path, environment[VARIABLE].split(":")))


def work(name: str, environment: dict[str, str], rounds: int, done: list[str]) -> None:
    """What a group does: take, some rounds, give; and its sweep leaves."""
    mine = side(environment)
    mine.take(silent)
    for number in range(rounds):
        done.append(f"{name}{number}")
        time.sleep(0.005)
        done.append(f"{name}{number}")
        mine.pass_on(silent)
    mine.give()
    leave(environment)


@pytest.mark.parametrize(("first", "second"), [(4, 4), (5, 2), (1, 3), (0, 2)])
def test_rounds_alternate_and_never_overlap(tmp_path: Path, first: int, second: int) -> None:
    done: list[str] = []
    with two_sides(tmp_path) as (one, other):
        threads = [
            threading.Thread(target=work, args=("b", other, second, done)),
            threading.Thread(target=work, args=("a", one, first, done)),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive()
    assert len(done) == 2 * (first + second)
    assert all(begun == ended for begun, ended in zip(done[::2], done[1::2], strict=True))
    both = min(first, second)
    expected = [f"{name}{n}" for n in range(both) for name in "ab"]
    assert done[::2][: 2 * both] == expected
    assert list(tmp_path.iterdir()) == [], "pipes are removed"


def test_alone_nothing_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    mine = Turns.of_environment()
    mine.take(silent)
    mine.pass_on(silent)
    mine.give()


def test_every_later_process_of_a_sweep_is_alone_once_the_other_left(tmp_path: Path) -> None:
    with two_sides(tmp_path) as (one, other):
        leave(one)
        for _ in range(3):
            later = side(other)
            later.take(silent)
            later.pass_on(silent)


def test_one_who_waits_says_so_and_gives_up_on_the_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "_PATIENCE_S", 0.2)
    monkeypatch.setattr(turns, "_WORD_S", 0.05)
    said: list[int] = []
    with two_sides(tmp_path) as (_, other):
        waiting = side(other)
        waiting.take(lambda: said.append(1))
        assert len(said) >= 2
        waiting.pass_on(silent)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="Linux alone says which cores")
def test_fewer_threads_than_cores_share_the_same_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    all_cores = os.sched_getaffinity(0)
    count = "import os; print(sorted(os.sched_getaffinity(0)))"

    def cores_of_a_child() -> str:
        with same_cores(), ThreadPoolExecutor(1) as pool:
            ran = pool.submit(subprocess.run, [sys.executable, "-c", count], stdout=subprocess.PIPE)
            return ran.result().stdout.decode().strip()

    for threads in ("", "many", "0", str(len(all_cores))):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        assert cores_of_a_child() == str(sorted(all_cores))
    if len(all_cores) > 1:
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        assert cores_of_a_child() == str(sorted(all_cores)[-1:])
    assert os.sched_getaffinity(0) == all_cores
