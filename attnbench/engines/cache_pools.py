"""What SGLang's pools and llama.cpp's cells hold, as `kv-cache --semantics` answers it."""

import msgspec

from attnbench.calc.engine_kinds import Placed, Widths, state_bytes
from attnbench.calc.kv_answer import KvAnswer
from attnbench.calc.kv_report import KindRow, kind_of
from attnbench.calc.stages import stage_ranges
from attnbench.catalog.quantization_config import own_dtype
from attnbench.engines import llama_cpp, sglang, sglang_policy
from attnbench.engines._versions import parse_version
from attnbench.engines.cache_ask import Ask, about, ggml_type, name, on, own
from attnbench.engines.launch import state_dtype
from attnbench.errors import UserError
from attnbench.spec.dtype import Dtype
from attnbench.spec.model import Full, Latent, Mixer, ModelSpec, Recurrent

_LARGE_MIB = 81559  # an 80 GB GPU, whose default step stands where none is given


def sglang_answer(base: KvAnswer, model: ModelSpec, ask: Ask) -> KvAnswer:
    """What SGLang's pools hold while decoding, and what admits a request.

    A window that has a pool of its own is admitted with a prefill step beside it.
    """
    rules = sglang_policy.policy(parse_version(ask.version))
    layers, kv = own(model), Dtype(base.kv_dtype)
    sparse = any(isinstance(m, Latent) and m.index_dim for m, _ in layers)
    page = ask.options.page_size or (sglang_policy.SPARSE_PAGE if sparse else sglang.PAGE)
    step = ask.max_num_batched_tokens or sglang_policy.steps(None, _LARGE_MIB, base.tp).chunk
    tokens = _paged(base.seq_len, page)
    apart = model.architecture in rules.windowed
    rank = Widths(
        kv=kv.bits / 8,
        model=own_dtype(model).bits // 8,
        state=state_dtype(model).bits // 8,
        tp=base.tp,
    )

    def kept(mixer: Mixer, *, admitted: bool) -> int:
        """Tokens of one layer: all, or the window and, while a prompt is read, a step."""
        window = _window(mixer)
        if not apart or window is None:
            return tokens
        return _paged(min(base.seq_len, window + (step if admitted else page)), page)

    def held(mixer: Mixer, indices: tuple[int, ...], *, admitted: bool = False) -> int:
        """Bytes of one sequence in the layers `indices` on one GPU."""
        if isinstance(mixer, Recurrent):
            return state_bytes(mixer, rank) * len(indices)
        token = sglang.bytes_per_token(((mixer, indices),), tp=base.tp, kv=kv)
        return kept(mixer, admitted=admitted) * token

    last = [m for m, _ in layers if isinstance(m, Full | Latent)]
    added = [*ask.drafter, *((m, tuple(range(ask.options.drafts))) for m in last[-1:])]
    drafts = sum(held(m, at) for m, at in added)
    drafted = sum(len(at) for _, at in added)
    copies, cross = base.tp * base.batch, base.cross_attention_bytes
    steady = copies * (sum(held(m, at) for m, at in layers) + drafts) + cross
    asked = copies * (sum(held(m, at, admitted=True) for m, at in layers) + drafts) + cross
    states = copies * sum(held(m, at) for m, at in layers if isinstance(m, Recurrent))
    stages = [on(layers, stage) for stage in stage_ranges(model.num_layers, base.pp)]
    loads = [sum(held(m, at) for m, at in stage) for stage in stages]
    loads[-1] += drafts
    where = "windows have a pool of their own" if apart else "windows are kept at full length"
    growing = sum(
        held(m, at) // tokens
        for m, at in layers
        if not isinstance(m, Recurrent) and kept(m, admitted=False) == tokens
    )
    return msgspec.structs.replace(
        base,
        semantics=name(ask),
        total_bytes=steady,
        kv_bytes=steady - states - cross,
        state_bytes=states,
        bytes_per_token=base.tp * (growing + drafts // tokens),
        per_gpu_bytes=max(loads) * base.batch + -(-cross // (base.tp * base.pp)),
        steady_bytes=steady,
        admission_bytes=asked,
        layers=_rows(base, [(m, held(m, at) * copies, kept(m, admitted=False)) for m, at in layers])
        + _draft_rows(drafted, drafts * copies, tokens),
        engine={
            "block_tokens": page,
            "step_tokens": step,
            "windows_apart": apart,
            "draft_layers": drafted,
            "deciding_stage": loads.index(max(loads)),
        },
        assumptions=(
            about(base),
            f"SGLang: a pool of tokens in pages of {page}; {where}.",
        ),
    )


def _rows(base: KvAnswer, sizes: list[tuple[Mixer, int, int]]) -> tuple[KindRow, ...]:
    """The ideal answer's rows with an engine's tokens and bytes."""
    rows = {(row.kind, row.window): row for row in base.layers}
    sums: dict[tuple[str, int | None], int] = {}
    for mixer, size, tokens in sizes:
        key = (kind_of(mixer), _window(mixer))
        sums[key] = sums.get(key, 0) + size
        count = None if isinstance(mixer, Recurrent) else tokens
        rows[key] = msgspec.structs.replace(rows[key], tokens=count, bytes=sums[key])
    return tuple(rows.values())


def _draft_rows(count: int, size: int, tokens: int) -> tuple[KindRow, ...]:
    if not count:
        return ()
    row = _bare("draft", count, size)
    return (msgspec.structs.replace(row, tokens=tokens),)


def _bare(kind: str, count: int, size: int) -> KindRow:
    return KindRow(
        kind=kind,
        count=count,
        kv_heads=None,
        head_dim=None,
        value_dim=None,
        window=None,
        tokens=None,
        bytes=size,
    )


def _paged(tokens: int, page: int) -> int:
    return -(-tokens // page) * page


def _window(mixer: Mixer) -> int | None:
    return getattr(mixer, "window", None) or getattr(mixer, "chunk", None)


def llama_answer(base: KvAnswer, model: ModelSpec, ask: Ask) -> KvAnswer:
    """The cells that llama.cpp allocates at its start.

    Raises:
        UserError: tensor parallelism, or a dtype that llama.cpp has no cache of.
    """
    dtype = Dtype(base.kv_dtype)
    if base.tp > 1:
        raise UserError("--tp: llama.cpp deals layers to GPUs", hint="Say --pp instead.")
    size = llama_cpp.CACHE_BYTES[ggml_type(dtype)]
    layers, rules = own(model), llama_cpp.policy(parse_version(ask.version))
    ubatch = ask.max_num_batched_tokens or llama_cpp.UBATCH

    def held(of: tuple[Placed, ...]) -> tuple[llama_cpp.Cache, ...]:
        return llama_cpp.caches(
            of,
            ctx=base.seq_len,
            ubatch=ubatch,
            sequences=base.batch,
            unified=ask.options.unified,
            element_bytes=size,
            full_windows=not rules.windows,
            latents=rules.latents,
        )

    caches = held(layers)
    states = sum(c.bytes for c in caches if c.name == "recurrent")
    kv = sum(c.bytes for c in caches if c.name != "recurrent")
    total = kv + states + base.cross_attention_bytes
    stages = stage_ranges(model.num_layers, base.pp)
    fullest = max(sum(c.bytes for c in held(on(layers, stage))) for stage in stages)
    cells = ", ".join(f"{c.cells:,} cells x {c.layers} layers" for c in caches if c.cells > 1)
    said = (
        f"llama.cpp: allocated whole at the start: {cells or 'states alone'}; "
        f"n_ubatch {ubatch} (--max-num-batched-tokens); states in fp32.",
    )
    return msgspec.structs.replace(
        base,
        semantics=name(ask),
        total_bytes=total,
        kv_bytes=kv,
        state_bytes=states,
        bytes_per_token=sum(
            c.bytes // (c.cells * (1 if ask.options.unified else base.batch))
            for c in caches
            if c.name == "full"
        ),
        per_gpu_bytes=fullest,
        steady_bytes=total,
        admission_bytes=total,
        layers=tuple(row for row in base.layers if row.kind == "cross")
        + tuple(
            msgspec.structs.replace(
                _bare(cache.name, cache.layers, cache.bytes), tokens=cache.cells
            )
            for cache in caches
        ),
        engine={
            "step_tokens": ubatch,
            "streams": 1 if ask.options.unified else base.batch,
            "caches": [
                {
                    "kind": c.name,
                    "cells": c.cells,
                    "layers": c.layers,
                    "key_bytes": c.keys,
                    "value_bytes": c.values,
                }
                for c in caches
            ],
        },
        assumptions=(about(base), *said),
    )
