"""What an engine's cache holds and asks for, as `kv-cache --semantics ENGINE` answers it."""

from typing import Any

import msgspec

from attnbench.calc.engine_kinds import placed
from attnbench.calc.engine_pages import Held, Kind, Load, Plan, blocks_held, blocks_needed
from attnbench.calc.kv_answer import KvAnswer
from attnbench.calc.kv_report import KindRow
from attnbench.catalog.quantization_config import own_dtype
from attnbench.engines import sglang, vllm
from attnbench.engines.cache_ask import Ask, about, mode_of, name
from attnbench.engines.cache_pools import llama_answer, sglang_answer
from attnbench.engines.launch import Launch, layout, state_dtype
from attnbench.errors import UserError
from attnbench.spec.dtype import Dtype
from attnbench.spec.model import Latent, ModelSpec

_INFLATED = 3


def answer(base: KvAnswer, model: ModelSpec, ask: Ask) -> KvAnswer:
    """`base`, the ideal answer, with what the engine holds while decoding and admits by.

    Totals are summed over GPUs; `per_gpu_bytes` is the fullest one's.

    Raises:
        UserError: a split or a dtype that the engine does not have.
    """
    if ask.engine == vllm.NAME:
        return _vllm(base, model, ask)
    other = sglang_answer if ask.engine == sglang.NAME else llama_answer
    return other(base, model, ask)


def launch_of(base: KvAnswer, model: ModelSpec, ask: Ask) -> Launch:
    """The start of vLLM that `ask` means."""
    return Launch(
        layers=placed(model),
        version=vllm.version_of(ask.version),
        tp=base.tp,
        pp=base.pp,
        dcp=ask.options.dcp,
        kv=Dtype(base.kv_dtype),
        model_dtype=own_dtype(model),
        state_dtype=state_dtype(model),
        block=ask.options.page_size or vllm.BLOCK,
        max_model_len=base.seq_len,
        max_num_batched_tokens=ask.max_num_batched_tokens,
        ds_mla=ask.options.ds_mla,
        speculative=ask.options.speculative,
        drafts=ask.options.drafts,
        drafter=ask.drafter,
        state_mode=mode_of(ask.options),
        encoder_len=base.encoder_len or model.encoder_length or base.seq_len,
    )


def _vllm(base: KvAnswer, model: ModelSpec, ask: Ask) -> KvAnswer:
    launch = launch_of(base, model, ask)
    if ask.options.ds_mla and not any(isinstance(m, Latent) for m, _ in launch.layers):
        raise UserError(f"--kv-dtype fp8_ds_mla: {model.name} has no MLA layer")
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
        semantics=name(ask),
        total_bytes=steady,
        kv_bytes=steady - parts[Held.STATE] - parts[Held.CROSS],
        state_bytes=parts[Held.STATE],
        cross_attention_bytes=parts[Held.CROSS],
        bytes_per_token=growing,
        per_gpu_bytes=max(planned.block_bytes) * held * base.batch,
        steady_bytes=steady,
        admission_bytes=block * asked * base.batch,
        layers=rows,
        assumptions=(about(base), *said),
        kv_dtype="fp8_ds_mla" if ask.options.ds_mla else base.kv_dtype,
        engine=_engine(launch, planned, tokens),
        warnings=(*base.warnings, *_inflation(base, planned, steady, load)),
    )


def _engine(launch: Launch, planned: Plan, tokens: int) -> dict[str, Any]:
    """The pages and groups behind the bytes, for JSON; blocks are one request's."""
    load = launch.load
    groups = []
    for group in planned.groups:
        alone = msgspec.structs.replace(planned, groups=(group,))
        groups.append(
            {
                "kind": group.kind.name,
                "layers": len(group.indices),
                "padding_layers": group.padding,
                "block_tokens": group.kind.block,
                "page_bytes": group.kind.page_bytes,
                "blocks_steady": blocks_held(alone, tokens, load),
                "blocks_admission": blocks_needed(alone, tokens, load),
            }
        )
    return {
        "block_tokens": planned.block,
        "block_bytes_by_stage": list(planned.block_bytes),
        "deciding_stage": planned.block_bytes.index(max(planned.block_bytes)),
        "padding_layers": planned.padding,
        "blocks_of_shortest": blocks_needed(planned, 1, load),
        "step_tokens": load.step_tokens,
        "dcp": load.dcp,
        "speculative_tokens": load.speculative,
        "draft_layers": launch.drafts,
        "state_mode": str(load.mode),
        "groups": groups,
    }


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
