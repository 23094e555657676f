"""Explains a log of llama.cpp, which prints all that its caches are made of."""

from collections.abc import Iterator

from attnbench.catalog.engine_log import Server
from attnbench.engines import llama_cpp
from attnbench.engines.explained import Explained, Figure
from attnbench.units import MIB

_NEAR = 0.003
_ROUNDING_MIB = 0.01


def explain_llama(server: Server) -> Explained:
    """Each cache that llama.cpp printed, rebuilt from the widths that it printed."""
    figures = tuple(_figures(server))
    missing = [] if figures else ["no cache of llama.cpp is in the log"]
    return Explained(
        engine=server.engine,
        version=server.text("version"),
        model=server.text("model"),
        line=server.line,
        inputs={
            key: server.number(key)
            for key in ("n_ctx", "n_ubatch", "n_seq_max", "n_layer", "n_embd_k_gqa", "n_embd_v_gqa")
        },
        figures=figures,
        warnings=tuple(server.notes),
        missing=tuple(missing),
    )


def _figures(server: Server) -> Iterator[Figure]:
    """Each cache: cells · streams · layers · (width of keys and of values · their bytes)."""
    widths = server.number("n_embd_k_gqa"), server.number("n_embd_v_gqa")
    types = server.facts.get("k_type", []), server.facts.get("v_type", [])
    sizes = server.numbers("cache_mib")
    columns = [server.numbers(key) for key in ("cells", "cache_layers")]
    separate = server.numbers("streams")
    for at, printed in enumerate(sizes):
        if widths[0] is None or widths[1] is None or any(at >= len(c) for c in columns):
            yield Figure(name="cache_mib", printed=printed, term="not rebuilt: widths not printed")
            continue
        cells, layers = (column[at] for column in columns)
        streams = separate[at] if at < len(separate) else 1.0
        bytes_of = [
            llama_cpp.CACHE_BYTES.get(str(kind[at]) if at < len(kind) else "f16", 2.0)
            for kind in types
        ]
        token = widths[0] * bytes_of[0] + widths[1] * bytes_of[1]
        made = cells * streams * layers * token / MIB
        error = made / printed - 1 if printed else None
        agrees = abs(made - printed) <= max(_ROUNDING_MIB, printed * _NEAR)
        yield Figure(
            name="cache_mib",
            printed=printed,
            rebuilt=round(made, 2),
            relative_error=None if error is None else round(error, 6),
            agrees=agrees,
            term=None if agrees else "sequences with caches of their own, or widths by layer",
        )
