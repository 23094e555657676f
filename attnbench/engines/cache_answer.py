"""What an engine's cache holds and asks for, as `kv-cache --semantics ENGINE` answers it."""

import msgspec

from attnbench.calc.engine_kinds import Placed, placed
from attnbench.calc.engine_pages import Held, Kind, Load, Plan, blocks_held, blocks_needed
from attnbench.calc.kv_answer import KvAnswer
from attnbench.calc.kv_report import KindRow, kind_of
from attnbench.calc.stages import held_by, stage_ranges
from attnbench.catalog.quantization_config import own_dtype
from attnbench.engines import llama_cpp, sglang, vllm
from attnbench.engines.launch import Launch, layout, state_dtype
from attnbench.errors import UserError, unknown_name
from attnbench.spec.dtype import Dtype
from attnbench.spec.model import Cross, ModelSpec

ENGINES = (vllm.NAME, sglang.NAME, llama_cpp.NAME)
_INFLATED = 3
_LLAMA_TYPES = {Dtype.INT8: "q8_0", Dtype.INT4: "q4_0", Dtype.FP32: "f32"}


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for: an engine and its release, and its own options."""

    engine: str
    version: str | None = None
    page_size: int | None = None
    max_num_batched_tokens: int | None = None
    dcp: int = 1
    speculative: int = 0
    drafts: int = 0


def parse_engine(text: str, others: tuple[str, ...] = ()) -> tuple[str, str | None]:
    """The engine and release of `vllm@0.12.0`; the release may be left out.

    Raises:
        UserError: no such engine, or no such release.
    """
    engine, at, version = text.partition("@")
    if engine not in ENGINES:
        raise unknown_name("--semantics", text, [*others, *ENGINES])
    if at and vllm.version_of(version) is None:
        raise UserError(f"--semantics: {version!r} is no release", hint="Write vllm@0.12.0.")
    return engine, version or None


def answer(base: KvAnswer, model: ModelSpec, ask: Ask) -> KvAnswer:
    """`base`, the ideal answer, with what the engine holds while decoding and admits by.

    Totals are summed over GPUs; `per_gpu_bytes` is the fullest one's.

    Raises:
        UserError: a split or a dtype that the engine does not have.
    """
    if ask.engine == vllm.NAME:
        return _vllm(base, model, ask)
    if ask.page_size is not None and ask.engine == llama_cpp.NAME:
        raise UserError("--page-size: llama.cpp has no pages: its cells stand for tokens")
    return _sglang(base, model, ask) if ask.engine == sglang.NAME else _llama(base, model, ask)


def launch_of(base: KvAnswer, model: ModelSpec, ask: Ask) -> Launch:
    """The start of vLLM that `ask` means."""
    return Launch(
        layers=placed(model),
        version=vllm.version_of(ask.version),
        tp=base.tp,
        pp=base.pp,
        dcp=ask.dcp,
        kv=Dtype(base.kv_dtype),
        model_dtype=own_dtype(model),
        state_dtype=state_dtype(model),
        block=ask.page_size or vllm.BLOCK,
        max_model_len=base.seq_len,
        max_num_batched_tokens=ask.max_num_batched_tokens,
        speculative=ask.speculative,
        drafts=ask.drafts,
        encoder_len=base.encoder_len or model.encoder_length or base.seq_len,
    )


def _vllm(base: KvAnswer, model: ModelSpec, ask: Ask) -> KvAnswer:
    launch = launch_of(base, model, ask)
    if launch.dcp > 1 and launch.tp % launch.dcp:
        raise UserError(f"--dcp: {launch.dcp} does not divide --tp {launch.tp}")
    planned, load = layout(launch), launch.load
    tokens = min(base.seq_len, model.decoder_length or base.seq_len)
    held, asked = blocks_held(planned, tokens, load), blocks_needed(planned, tokens, load)
    block = base.tp * sum(planned.block_bytes)
    rows, parts = _rows(base, planned, tokens, load)
    steady = block * held * base.batch
    growing = sum(block // group.kind.block for group in planned.groups if _grows(group.kind))
    said = _vllm_words(launch, planned, ask)
    return msgspec.structs.replace(
        base,
        semantics=_name(ask),
        total_bytes=steady,
        kv_bytes=steady - parts[Held.STATE] - parts[Held.CROSS],
        state_bytes=parts[Held.STATE],
        cross_attention_bytes=parts[Held.CROSS],
        bytes_per_token=growing,
        per_gpu_bytes=max(planned.block_bytes) * held * base.batch,
        steady_bytes=steady,
        admission_bytes=block * asked * base.batch,
        layers=rows,
        assumptions=(_about(base), *said),
        warnings=(*base.warnings, *_inflation(base, planned, steady, load)),
    )


def _name(ask: Ask) -> str:
    return f"{ask.engine}@{ask.version}" if ask.version else ask.engine


def _about(base: KvAnswer) -> str:
    return f"Keys and values in {base.kv_dtype}, batch and length as given."


def _grows(kind: Kind) -> bool:
    return kind.held is Held.FULL


def _rows(
    base: KvAnswer, planned: Plan, tokens: int, load: Load
) -> tuple[tuple[KindRow, ...], dict[Held, int]]:
    """A row a kind of layer, and the bytes by how they are held, all GPUs and sequences."""
    block = base.tp * sum(planned.block_bytes) * base.batch
    known = {(row.kind, row.window): row for row in base.layers}
    parts = dict.fromkeys(Held, 0)
    rows: dict[str, KindRow] = {}
    for group in planned.groups:
        kind = group.kind
        alone = msgspec.structs.replace(planned, groups=(group,))
        blocks = blocks_held(alone, tokens, load)
        parts[kind.held] += block * blocks
        like = known.get((kind.name, kind.window or None))
        row = rows.get(kind.name) or KindRow(
            kind=kind.name,
            count=0,
            kv_heads=like.kv_heads if like else None,
            head_dim=like.head_dim if like else None,
            value_dim=like.value_dim if like else None,
            window=kind.window or None,
            tokens=None if kind.held is Held.STATE else blocks * kind.block,
            bytes=0,
        )
        rows[kind.name] = msgspec.structs.replace(
            row, count=row.count + len(group.indices), bytes=row.bytes + block * blocks
        )
    return tuple(rows.values()), parts


def _vllm_words(launch: Launch, planned: Plan, ask: Ask) -> list[str]:
    release = ask.version or "the newest release known"
    said = [
        f"vLLM, {release}: blocks of {planned.block:,} tokens, {len(planned.groups)} group(s) of "
        f"layers, {planned.padding} padding layers.",
        f"Admission: windows count {launch.load.step_tokens:,} tokens in flight "
        "(--max-num-batched-tokens).",
        "One more token: a block's bytes over its tokens, in layers that keep every token.",
    ]
    if any(group.kind.held is Held.STATE for group in planned.groups):
        said.append(f"States in {launch.state_dtype}, mode {launch.load.mode}.")
    if launch.tp > 1:
        said.append("KV heads are copied where there are fewer than ranks; MLA stands on each.")
    return said


def _inflation(base: KvAnswer, planned: Plan, steady: int, load: Load) -> list[str]:
    notes = []
    if base.ideal_bytes and steady > _INFLATED * base.tp * base.ideal_bytes:
        notes.append(
            f"Blocks inflate the cache: {steady / base.ideal_bytes:.1f} times the ideal "
            "at this length."
        )
    least = blocks_needed(planned, 1, load)
    if planned.block > vllm.BLOCK * 8:
        notes.append(
            f"A prompt of one token takes {least} blocks of {planned.block:,} tokens: short "
            "prompts may pin a large part of the pool."
        )
    return notes


def _sglang(base: KvAnswer, model: ModelSpec, ask: Ask) -> KvAnswer:
    layers = _own(model)
    page = ask.page_size or sglang.PAGE
    tokens = -(-base.seq_len // page) * page
    alone = [
        sglang.bytes_per_token(_on(layers, stage), tp=base.tp, kv=Dtype(base.kv_dtype))
        for stage in stage_ranges(model.num_layers, base.pp)
    ]
    token = base.tp * sum(alone)
    kv = token * tokens * base.batch
    total = kv + base.state_bytes + base.cross_attention_bytes
    share = -(-(base.state_bytes + base.cross_attention_bytes) // (base.tp * base.pp))
    said = (
        f"SGLang: a pool of tokens in pages of {page}; windows are kept at full length; "
        "states as in transformers.",
    )
    return msgspec.structs.replace(
        base,
        semantics=_name(ask),
        total_bytes=total,
        kv_bytes=kv,
        bytes_per_token=token,
        per_gpu_bytes=max(alone) * tokens * base.batch + share,
        steady_bytes=total,
        admission_bytes=total,
        layers=_pool_rows(base, layers, tokens),
        assumptions=(_about(base), *said),
    )


def _pool_rows(base: KvAnswer, layers: tuple[Placed, ...], tokens: int) -> tuple[KindRow, ...]:
    """The ideal rows, with every layer that keeps keys at full length in SGLang's pool."""
    kv = Dtype(base.kv_dtype)
    sizes: dict[tuple[str, int | None], int] = {}
    for mixer, indices in layers:
        window = getattr(mixer, "window", None) or getattr(mixer, "chunk", None)
        each = sglang.bytes_per_token(((mixer, indices),), tp=base.tp, kv=kv)
        key = (kind_of(mixer), window)
        sizes[key] = sizes.get(key, 0) + each * tokens * base.tp * base.batch
    return tuple(
        msgspec.structs.replace(row, tokens=tokens, bytes=sizes[row.kind, row.window])
        if sizes.get((row.kind, row.window))
        else row
        for row in base.layers
    )


def _llama(base: KvAnswer, model: ModelSpec, ask: Ask) -> KvAnswer:
    dtype = Dtype(base.kv_dtype)
    if base.tp > 1:
        raise UserError("--tp: llama.cpp deals layers to GPUs", hint="Say --pp instead.")
    if dtype.bits < 16 and dtype not in _LLAMA_TYPES:
        raise UserError(f"--kv-dtype: llama.cpp has no {dtype} cache", hint="Try int8 (q8_0).")
    size = llama_cpp.CACHE_BYTES[_LLAMA_TYPES.get(dtype, "f16")]
    layers = _own(model)
    ubatch = ask.max_num_batched_tokens or llama_cpp.UBATCH

    def held(of: tuple[Placed, ...]) -> tuple[llama_cpp.Cache, ...]:
        return llama_cpp.caches(of, ctx=base.seq_len, ubatch=ubatch, element_bytes=size)

    caches = held(layers)
    states = sum(c.bytes for c in caches if c.name == "recurrent") * base.batch
    kv = sum(c.bytes for c in caches if c.name != "recurrent") * base.batch
    total = kv + states + base.cross_attention_bytes
    stages = stage_ranges(model.num_layers, base.pp)
    fullest = max(sum(c.bytes for c in held(_on(layers, stage))) for stage in stages)
    cells = ", ".join(f"{c.cells:,} cells x {c.layers} layers" for c in caches if c.cells > 1)
    said = (
        f"llama.cpp: allocated whole at the start, a sequence: {cells or 'states alone'}; "
        f"n_ubatch {ubatch} (--max-num-batched-tokens); states in fp32.",
    )
    return msgspec.structs.replace(
        base,
        semantics=_name(ask),
        total_bytes=total,
        kv_bytes=kv,
        state_bytes=states,
        per_gpu_bytes=fullest * base.batch,
        steady_bytes=total,
        admission_bytes=total,
        layers=_cross_rows(base)
        + tuple(
            KindRow(
                kind=cache.name,
                count=cache.layers,
                kv_heads=None,
                head_dim=None,
                value_dim=None,
                window=None,
                tokens=cache.cells,
                bytes=cache.bytes * base.batch,
            )
            for cache in caches
        ),
        assumptions=(_about(base), *said),
    )


def _own(model: ModelSpec) -> tuple[Placed, ...]:
    """Mixers that cache a sequence's own tokens; what an encoder left counts as ideal."""
    return tuple((mixer, at) for mixer, at in placed(model) if not isinstance(mixer, Cross))


def _cross_rows(base: KvAnswer) -> tuple[KindRow, ...]:
    return tuple(row for row in base.layers if row.kind == "cross")


def _on(layers: tuple[Placed, ...], stage: range) -> tuple[Placed, ...]:
    return tuple((mixer, held_by(stage, indices)) for mixer, indices in layers)
