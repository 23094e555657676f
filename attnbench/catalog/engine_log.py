"""Reads the start-up log of vLLM, SGLang or llama.cpp as a stream, however long.

Only lines that hold one of a few phrases are looked at; the rest is skipped by substring
search, a block at a time, so memory does not grow with the log.
"""

import codecs
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from attnbench.catalog.log_patterns import ANSI, PHRASES, Facts, facts_of
from attnbench.errors import UserError

_BLOCK = 1 << 20
_LONGEST_LINE = 1 << 16
_MOST_SERVERS = 64
_MOST_VALUES = 256
_MOST_LINES = 4096  # of one phrase: 64 servers of 64 ranks
_PID = re.compile(r"\bpid=(\d{1,9})")
# What compose and kubectl put before a line: the service's name, or the pod's.
_SERVICE = re.compile(r"^([\w.-]{1,80})\s{1,40}\| |^\[(pod/[\w./-]{1,160})\] ")
_BEGINNING = frozenset(
    {"engine_line", "server_line", "model", "version", "dtype", "quantization", "kv_dtype", "tp",
     "pp", "dcp", "utilization", "max_model_len", "max_num_seqs", "max_num_batched_tokens",
     "speculative", "enforce_eager", "prefix_caching"}
)  # fmt: skip
_BOMS = ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


class Server(msgspec.Struct, kw_only=True):
    """What one server in a log said: each figure, in the order it was printed."""

    engine: str
    line: int
    facts: dict[str, list[str | float]] = {}
    notes: list[str] = []

    def first(self, key: str) -> str | float | None:
        """The first value of `key`, or None."""
        values = self.facts.get(key)
        return values[0] if values else None

    def number(self, key: str) -> float | None:
        """The first value of `key` as a number, or None."""
        value = self.first(key)
        return value if isinstance(value, float) else None

    def numbers(self, key: str) -> list[float]:
        """Every value of `key` that is a number."""
        return [value for value in self.facts.get(key, []) if isinstance(value, float)]

    def text(self, key: str) -> str | None:
        """The first value of `key` as text, or None."""
        value = self.first(key)
        return value if isinstance(value, str) else None


class ReadLog(msgspec.Struct, kw_only=True):
    """A log's servers, and what of it could not be read."""

    servers: list[Server] = []
    bytes_read: int = 0
    notes: list[str] = []


def read_log(path: str) -> ReadLog:
    """The servers in the log at `path`, or on standard input where it is `-`.

    Raises:
        UserError: there is no such file, or it cannot be read.
    """
    try:
        if path == "-":
            return _read(sys.stdin.buffer)
        if Path(path).is_dir():
            raise UserError(f"{path}: is a folder, not a log")
        with open(path, "rb") as file:
            return _read(file)
    except (OSError, ValueError) as error:
        problem = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{path}: {problem}") from None


def _read(file: BinaryIO) -> ReadLog:
    log = ReadLog(servers=[], notes=[])
    owners: dict[str, Server] = {}
    binary = False
    for number, line in _lines(file, log):
        binary = binary or "\0" in line
        plain = ANSI.sub("", line)
        for facts in facts_of(plain):
            _keep(log, owners, facts, number, plain)
    _unmarked(log)
    if binary:
        log.notes.append("the log holds bytes that are no text; lines around them were read")
    if len(log.servers) >= _MOST_SERVERS:
        log.notes.append(f"only the first {_MOST_SERVERS} servers were read")
    return log


def _keep(log: ReadLog, owners: dict[str, Server], facts: Facts, number: int, line: str) -> None:
    """Add `facts` to the server that the line is of: its process's, else the newest."""
    pid = _owner(line)
    same = [known for known in log.servers if known.engine == facts.engine]
    server = owners.get(pid) if pid else None
    if server is None or server not in same or _repeats(server, facts):
        server = _unclaimed(same, facts) if facts.starts else (same[-1] if same else None)
    if server is None:
        if len(log.servers) >= _MOST_SERVERS:
            return
        server = Server(engine=facts.engine, line=number, facts={}, notes=[])
        log.servers.append(server)
        same.append(server)
    if pid:
        owners[pid] = server
    if server is not same[-1] and not server.notes:
        server.notes.append("its lines stand between those of another server")
    for key, value in facts.values.items():
        values = server.facts.setdefault(key, [])
        if len(values) < _MOST_VALUES:
            values.append(value)


def _owner(line: str) -> str:
    """What marks the server that a line is of: its service, else its process; or nothing."""
    service = _SERVICE.search(line)
    if service is not None:
        return f"service {service[1] or service[2]}"
    found = _PID.search(line)
    return found[1] if found else ""


def _unmarked(log: ReadLog) -> None:
    """Say where servers began one after the other and their figures may be mixed."""
    for engine in {server.engine for server in log.servers}:
        same = [server for server in log.servers if server.engine == engine]
        bare = [server for server in same if not server.facts.keys() - _BEGINNING]
        if bare and any(len(set(server.numbers("kv_tokens"))) > 1 for server in same):
            log.notes.append(
                f"{engine}: {len(bare)} of {len(same)} servers print no figures and another prints "
                "several: their lines carry no mark of the server, so figures may be mixed"
            )


def _repeats(server: Server, facts: Facts) -> bool:
    """Whether the line begins a server and this one has begun."""
    return facts.starts and bool(server.facts.keys() & facts.once)


def _unclaimed(servers: list[Server], facts: Facts) -> Server | None:
    """The server that a beginning line of a new process belongs to: of its model, or the last."""
    begun = [server for server in servers if not _repeats(server, facts)]
    model = facts.values.get("model")
    mine = [server for server in begun if model is None or server.text("model") in (None, model)]
    return mine[0] if mine else None


def _lines(file: BinaryIO, log: ReadLog) -> Iterator[tuple[int, str]]:
    """Lines that hold one of the phrases, with their numbers."""
    rest, before = b"", 0
    left = dict.fromkeys(PHRASES, _MOST_LINES)
    decoder: codecs.IncrementalDecoder | None = None
    first = True
    while True:
        block = file.read(_BLOCK)
        log.bytes_read += len(block)
        if first:
            wide = next((name for bom, name in _BOMS if block.startswith(bom)), None)
            decoder = codecs.getincrementaldecoder(wide)("replace") if wide else None
            first = False
        ended = not block
        if decoder is not None:
            block = decoder.decode(block, final=ended).encode("utf-8", "replace")
        text = rest + block
        if not text:
            return
        cut = len(text) if ended else text.rfind(b"\n") + 1
        if cut == 0 and len(text) > _LONGEST_LINE:
            cut = len(text) - _LONGEST_LINE // 2  # one endless line: a piece at a time
        yield from _hits(text[:cut], before, left)
        before += text.count(b"\n", 0, cut)
        rest = text[cut:]
        if ended:
            if not all(left.values()):
                log.notes.append(
                    f"a phrase stands in over {_MOST_LINES:,} lines; the rest is skipped"
                )
            return


def _hits(text: bytes, before: int, left: dict[bytes, int]) -> Iterator[tuple[int, str]]:
    """Lines of a block that hold a phrase; `left` counts down the lines of each."""
    starts: set[int] = set()
    for phrase in PHRASES:
        at = text.find(phrase) if left[phrase] else -1
        while at >= 0 and left[phrase]:
            left[phrase] -= 1
            start = text.rfind(b"\n", 0, at) + 1
            starts.add(max(start, at - _LONGEST_LINE // 2))
            at = text.find(b"\n", at)
            at = text.find(phrase, at) if at >= 0 else -1
    number, counted = before + 1, 0
    for start in sorted(starts):
        number += text.count(b"\n", counted, start)
        counted = start
        end = text.find(b"\n", start)
        end = len(text) if end < 0 else end
        yield number, text[start : min(end, start + _LONGEST_LINE)].decode("utf-8", "replace")
