"""Explains a log of llama.cpp, which prints all that its caches are made of."""

from collections.abc import Iterator

from attnbench.calc.engine_kinds import placed
from attnbench.catalog import load_model
from attnbench.catalog.engine_log import Server
from attnbench.catalog.loose_names import profile_for
from attnbench.engines import llama_cpp
from attnbench.engines.explained import Explained, Figure
from attnbench.spec.model import ModelSpec
from attnbench.units import MIB

_NEAR = 0.003
_ROUNDING_MIB = 0.01
_INPUTS = ("n_ctx", "n_ubatch", "n_seq_max", "n_layer", "n_embd_k_gqa", "n_embd_v_gqa", "n_swa")
_TERM = "sequences with caches of their own, or widths by layer"


def explain_llama(server: Server) -> Explained:
    """Each cache that llama.cpp printed, rebuilt from widths that it printed or a profile's."""
    name = server.text("model")
    known = profile_for(name) if name else None
    model = load_model(known) if known else None
    made = (*_caches(server, model), *_whole(server), *_states(server, model))
    figures = tuple(dict.fromkeys(made))  # --fit prints them twice
    missing = [] if figures else ["no cache of llama.cpp is in the log"]
    unknown = [figure for figure in figures if figure.rebuilt is None]
    if unknown and model is None:
        missing.append(
            f"no profile is known for the model {name!r}" if name else "the model's name"
        )
    return Explained(
        engine=server.engine,
        version=server.text("version"),
        model=name,
        line=server.line,
        inputs={key: server.number(key) for key in _INPUTS},
        figures=figures,
        warnings=(*server.notes, *_warnings(server)),
        missing=tuple(missing),
    )


def _figure(name: str, printed: float, made: float | None, term: str = _TERM) -> Figure:
    if made is None:
        return Figure(name=name, printed=printed, term="not rebuilt: widths not printed")
    agrees = abs(made - printed) <= max(_ROUNDING_MIB, printed * _NEAR)
    return Figure(
        name=name,
        printed=printed,
        rebuilt=round(made, 2),
        relative_error=round(made / printed - 1, 6) if printed else None,
        agrees=agrees,
        term=None if agrees else term,
    )


def _caches(server: Server, model: ModelSpec | None) -> Iterator[Figure]:
    """Each cache: cells · streams · layers · (width of keys and of values · their bytes)."""
    cells, layers = server.numbers("cells"), server.numbers("cache_layers")
    separate, values = server.numbers("streams"), server.numbers("v_mib")
    for at, printed in enumerate(server.numbers("cache_mib")):
        if at >= min(len(cells), len(layers)) or not printed:
            continue
        streams = separate[at] if at < len(separate) else 1.0
        keys_only = at < len(values) and values[at] == 0
        token = _token_bytes(server, model, at, layers[at], keys_only=keys_only)
        made = None if token is None else cells[at] * streams * layers[at] * token / MIB
        yield _figure("cache_mib", printed, made)


def _token_bytes(
    server: Server, model: ModelSpec | None, at: int, layers: float, *, keys_only: bool
) -> float | None:
    """Bytes of one cell in one layer; values are none beside a latent."""
    bytes_of = []
    for key in ("k_type", "v_type"):
        kinds = server.facts.get(key, [])
        bytes_of.append(llama_cpp.CACHE_BYTES.get(str(kinds[at]) if at < len(kinds) else "f16", 2))
    widths = server.number("n_embd_k_gqa"), server.number("n_embd_v_gqa")
    if widths[0] is not None and widths[1] is not None:
        return widths[0] * bytes_of[0] + (0 if keys_only else widths[1] * bytes_of[1])
    if model is None:
        return None
    latents = llama_cpp.Latents.ONCE if keys_only else llama_cpp.Latents.TWICE
    of = llama_cpp.caches(placed(model), ctx=1, ubatch=1, element_bytes=1, latents=latents)
    for cache in of:
        if cache.layers == layers and cache.name != "recurrent":
            width = cache.cells * cache.layers
            return (cache.keys * bytes_of[0] + cache.values * bytes_of[1]) / width
    return None


def _whole(server: Server) -> Iterator[Figure]:
    """The older line, of one cache alone: n_ctx cells in n_layer layers."""
    widths = server.number("n_embd_k_gqa"), server.number("n_embd_v_gqa")
    length, layers = server.number("n_ctx"), server.number("n_layer")
    for at, printed in enumerate(server.numbers("self_mib")):
        made = None
        if widths[0] is not None and widths[1] is not None and length and layers:
            first, second = (
                llama_cpp.CACHE_BYTES.get(str(server.facts[key][at]), 2.0)
                for key in ("k_type", "v_type")
            )
            made = length * layers * (widths[0] * first + widths[1] * second) / MIB
        yield _figure("cache_mib", printed, made, "layers without keys, or latents kept by head")


def _states(server: Server, model: ModelSpec | None) -> Iterator[Figure]:
    """States of recurrent layers in fp32, one a sequence."""
    cells = server.numbers("state_cells")
    for at, printed in enumerate(server.numbers("state_mib")):
        made = None
        if model is not None and at < len(cells):
            of = llama_cpp.caches(placed(model), ctx=1, sequences=max(1, int(cells[at])))
            made = sum(cache.bytes for cache in of if cache.name == "recurrent") / MIB
        yield _figure("state_mib", printed, made, "snapshots for rollback (rs_seq)")


def _warnings(server: Server) -> Iterator[str]:
    if server.numbers("cache_mib") or server.numbers("self_mib"):
        yield "Sizes are MiB (2^20 bytes); a cache is allocated whole at the start."
    sequences, length = server.number("n_seq_max"), server.number("n_ctx")
    unified = server.text("unified") == "true" or 1.0 in server.numbers("streams")
    if sequences and sequences > 1 and length and not unified:
        yield (
            f"n_ctx {length:,.0f} is all {sequences:,.0f} sequences' together: "
            f"each has {length // sequences:,.0f} tokens."
        )
    if len(set(server.numbers("cells"))) > 1:
        yield (
            "Layers with a window have fewer cells, a window and a batch in steps of 256: "
            "the sum of the lines is the cache, and none of them alone."
        )
    if 0.0 in server.numbers("v_mib"):
        yield "V of 0 MiB: a latent (MLA) is keys and values in one."
