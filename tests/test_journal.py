"""A run folder survives a kill at any byte, and belongs to one sweep at a time."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from attnbench.errors import UserError
from attnbench.measure.journal import (
    RESULTS,
    RUN,
    SAMPLES,
    open_journal,
    read_run,
    read_samples,
)
from attnbench.spec.result import ResultRow

CONFIGURATION = {"preset": "test", "grids": [{"heads": 2}]}


def row(seq: int, **changes: object) -> ResultRow:
    fields = {
        "variant": "naive", "backend": "eager", "mode": "fwd", "device": "test", "dtype": "fp32",
        "batch": 1, "heads": 2, "kv_heads": 2, "seq_q": seq, "seq_kv": seq, "head_dim": 64,
        "causal": True, "params": '{"window":512}', "status": "ok", "time_ms": 1.5, "note": "",
    }  # fmt: skip
    return ResultRow(**{**fields, **changes})  # type: ignore[arg-type]


def write(folder: Path, *seqs: int, resume: bool = False) -> list[ResultRow]:
    with open_journal(folder, CONFIGURATION, resume=resume) as journal:
        for seq in seqs:
            made = row(seq)
            if made.key not in journal.finished():
                journal.append([made], {made.key: [[1.0, 2.0], [3.0]]})
        return journal.rows


def test_rows_and_samples_come_back(tmp_path: Path) -> None:
    write(tmp_path / "run", 1024, 2048)
    assert write(tmp_path / "run", 1024, 2048, 4096, resume=True) == [
        row(1024),
        row(2048),
        row(4096),
    ]
    samples = read_samples(tmp_path / "run")
    assert samples == {row(n).key: {0: [1.0, 2.0], 1: [3.0]} for n in (1024, 2048, 4096)}
    assert read_run(tmp_path / "run")["configuration"] == CONFIGURATION


@pytest.mark.parametrize("name", [RESULTS, SAMPLES])
def test_a_kill_at_any_byte_of_a_write_loses_that_group_alone(tmp_path: Path, name: str) -> None:
    write(tmp_path / "run", 1024)
    path = tmp_path / "run" / name
    before = path.read_bytes()
    write(tmp_path / "run", 2048, resume=True)
    after = path.read_bytes()
    for cut in range(len(before), len(after) + 1):
        path.write_bytes(after[:cut])
        if name == SAMPLES:  # samples are written first: their rows are not there yet
            text = (tmp_path / "run" / RESULTS).read_bytes().splitlines(keepends=True)
            (tmp_path / "run" / RESULTS).write_bytes(b"".join(text[:2]))
        assert write(tmp_path / "run", 1024, 2048, resume=True) == [row(1024), row(2048)]
        assert len(read_samples(tmp_path / "run")[row(2048).key]) == 2, "samples twice or lost"


FILLS = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from attnbench.errors import MachineError
from test_journal import row, write
limit = int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    write(Path(sys.argv[2]), 1024, 2048, resume=True)
except MachineError as error:
    print(error, error.hint, error.exit_code)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a limit on file sizes is POSIX's")
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_full_disk_loses_nothing_that_had_ended(tmp_path: Path, share: float) -> None:
    """The kernel itself stops a write in the middle, at a limit on the size of files."""
    write(tmp_path / "whole", 1024)
    before = (tmp_path / "whole" / RESULTS).stat().st_size
    write(tmp_path / "whole", 2048, resume=True)
    after = (tmp_path / "whole" / RESULTS).stat().st_size
    run = tmp_path / "run"
    write(run, 1024)
    limit = before + int(share * (after - before))
    told = subprocess.run(
        [sys.executable, "-c", FILLS, str(Path(__file__).parent), str(run), str(limit)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "File too large" in told.stdout, told.stderr
    assert "--resume" in told.stdout
    assert told.stdout.endswith(" 3\n")
    assert (run / RESULTS).stat().st_size == limit, "the write was to be torn"
    assert write(run, 1024, 2048, resume=True) == [row(1024), row(2048)]
    assert {len(rounds) for rounds in read_samples(run).values()} == {2}


def test_a_full_disk_leaves_no_half_written_file(tmp_path: Path) -> None:
    import errno
    from unittest import mock

    from attnbench.errors import MachineError
    from attnbench.files import write_atomically

    path = tmp_path / "table.md"
    path.write_text("before")
    full = OSError(errno.ENOSPC, "No space left on device")
    with (
        mock.patch("os.fsync", side_effect=full),
        pytest.raises(MachineError, match="No space left"),
    ):
        write_atomically(path, "after")
    assert [p.name for p in tmp_path.iterdir()] == ["table.md"]
    assert path.read_text() == "before"


def test_resume_on_a_missing_folder_starts_afresh(tmp_path: Path) -> None:
    assert write(tmp_path / "a" / "run", 1024, resume=True) == [row(1024)]


def test_a_kill_before_the_first_row_can_be_resumed(tmp_path: Path) -> None:
    write(tmp_path / "run")
    (tmp_path / "run" / RESULTS).unlink()
    (tmp_path / "run" / SAMPLES).unlink(missing_ok=True)
    assert write(tmp_path / "run", 1024, resume=True) == [row(1024)]


def test_a_run_is_not_overwritten_nor_resumed_with_other_options(tmp_path: Path) -> None:
    write(tmp_path / "run", 1024)
    with pytest.raises(UserError, match="holds a run already"):
        write(tmp_path / "run", 1024)
    with (
        pytest.raises(UserError, match="other options: grids"),
        open_journal(tmp_path / "run", {**CONFIGURATION, "grids": []}, resume=True),
    ):
        pass


def test_a_second_sweep_is_refused_while_the_first_lives(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    code = (
        "import sys; from pathlib import Path; from attnbench.measure.journal import open_journal\n"
        "with open_journal(Path(sys.argv[1]), {}, resume=False):\n"
        "    print('locked', flush=True); sys.stdin.readline()\n"
    )
    first = subprocess.Popen(
        [sys.executable, "-c", code, folder],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert first.stdout is not None
    assert first.stdout.readline() == "locked\n"
    with pytest.raises(UserError, match="in use"):
        write(folder, 1024, resume=True)
    first.kill()  # the lock dies with its process
    first.communicate()
    with open_journal(folder, {}, resume=True) as journal:
        assert journal.rows == []


def test_a_folder_that_cannot_be_written_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Not a directory"):
        write(tmp_path / "file" / "run", 1024)


def test_a_malformed_run_is_named(tmp_path: Path) -> None:
    write(tmp_path / "run", 1024)
    (tmp_path / "run" / RUN).write_text('{"schema": "other/1"}')
    with pytest.raises(UserError, match=r"run\.json: schema"):
        write(tmp_path / "run", resume=True)
    (tmp_path / "run" / RUN).write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        write(tmp_path / "run", resume=True)


def test_samples_are_json_lines(tmp_path: Path) -> None:
    write(tmp_path / "run", 1024)
    first = (tmp_path / "run" / SAMPLES).read_text().splitlines()[0]
    assert json.loads(first) == {
        "key": list(row(1024).key), "round": 0, "samples_ms": [1.0, 2.0],
    }  # fmt: skip
