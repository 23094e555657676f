"""Arithmetic of a paged cache: pages, groups of layers, blocks, and what a request takes.

A page holds `block` tokens of one layer, or one state. A block is one page in each of
`size` layers of a group. Everything is counted on one rank of one pipeline stage.
"""

import enum
from collections.abc import Sequence

import msgspec


class Held(enum.StrEnum):
    """How many tokens a kind of layer keeps."""

    FULL = "full"
    SLIDING = "sliding"
    CHUNKED = "chunked"
    CROSS = "cross"
    STATE = "state"


class StateMode(enum.StrEnum):
    """States a sequence holds: one, one and a checkpoint, or one a block."""

    NONE = "none"
    ALIGN = "align"
    ALL = "all"


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """Layers alike, at the positions `indices` of the model.

    `token_bytes` of one token in one layer on one rank; `state_bytes` of one sequence,
    for states. `window` is a window's or a chunk's length. `block` tokens fill a page.
    """

    name: str
    held: Held
    indices: tuple[int, ...]
    token_bytes: int = 0
    state_bytes: int = 0
    window: int = 0
    block: int = 16
    page_bytes: int = 0


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Layers that share one block table. `padding` layers are allocated and hold nothing."""

    kind: Kind
    indices: tuple[int, ...]
    padding: int = 0


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How a model's cache is laid out: its groups, and a block's bytes a stage.

    `uniform`: every layer keeps the same tokens, so all stand in one group and a block
    is the sum of their pages.
    """

    groups: tuple[Group, ...]
    block_bytes: tuple[int, ...]
    uniform: bool

    @property
    def block(self) -> int:
        """Tokens of a block of the first group, which attends to everything."""
        return self.groups[0].kind.block

    @property
    def padding(self) -> int:
        """Layers that are allocated and hold nothing."""
        return sum(group.padding for group in self.groups)


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What decides the blocks of a request besides its length.

    `step_tokens`: tokens that may be in flight. `dcp` ranks share a sequence's tokens.
    """

    step_tokens: int
    dcp: int = 1
    speculative: int = 0
    mode: StateMode = StateMode.NONE
    encoder_len: int = 0


def aligned_block(state_bytes: int, token_bytes: int, *, align: int, least: int) -> int:
    """Tokens of the attention block that is as large as a state.

        align · ceil(state_bytes / (align · token_bytes)), and at least `least`

    >>> aligned_block(3_268_608, 4096, align=16, least=16)
    800
    """
    return max(least, align * -(-state_bytes // (align * token_bytes)))


def plan(
    kinds: Sequence[Kind], stages: Sequence[range], *, pad_below: float, align: int = 16
) -> Plan:
    """The groups of a model's layers, and what a block takes on each stage.

    Attention blocks are raised until a page holds a state; where pages still differ,
    the smaller page's block is. `group_size` is the least number of layers of a kind,
    or the greatest where that is under `pad_below` times the least; each kind is split
    into ceil(layers / group_size) groups, layer i to group i modulo their number.

    Source: vLLM, `get_kv_cache_groups` and `unify_kv_cache_spec_page_size`.
    """
    kinds = _with_pages(kinds, align)
    if _uniform(kinds):
        return _one_group(kinds, stages)
    kinds = _equal_pages(kinds)
    merged = _merge(kinds)
    counts = [len(kind.indices) for kind in merged]
    size = max(counts) if max(counts) < min(counts) * pad_below else min(counts)
    groups = []
    for kind in merged:
        parts = -(-len(kind.indices) // size)
        for part in range(parts):
            indices = kind.indices[part::parts]
            groups.append(Group(kind=kind, indices=indices, padding=size - len(indices)))
    page = max(kind.page_bytes for kind in merged)
    widest = [max(sum(i in stage for i in group.indices) for group in groups) for stage in stages]
    return Plan(groups=tuple(groups), block_bytes=tuple(page * n for n in widest), uniform=False)


def _with_pages(kinds: Sequence[Kind], align: int) -> list[Kind]:
    state = max((kind.state_bytes for kind in kinds), default=0)
    token = max((kind.token_bytes for kind in kinds), default=0)
    made = []
    for kind in kinds:
        if state and token:
            block = aligned_block(state, token, align=align, least=kind.block)
            page = block * token  # a state, or a page of narrower layers, is padded to it
        elif kind.held is Held.STATE:
            block, page = kind.block, state
        else:
            block, page = kind.block, kind.block * kind.token_bytes
        made.append(msgspec.structs.replace(kind, block=block, page_bytes=page))
    return made


def _uniform(kinds: Sequence[Kind]) -> bool:
    first = kinds[0]
    same = all(
        (k.held, k.window, k.block) == (first.held, first.window, first.block) for k in kinds
    )
    return same and first.held is not Held.CROSS


def _one_group(kinds: Sequence[Kind], stages: Sequence[range]) -> Plan:
    indices = tuple(sorted({i for kind in kinds for i in kind.indices}))
    bytes_of = [
        sum(kind.page_bytes * sum(i in stage for i in kind.indices) for kind in kinds)
        for stage in stages
    ]
    group = Group(kind=kinds[0], indices=indices)
    return Plan(groups=(group,), block_bytes=tuple(bytes_of), uniform=True)


def _equal_pages(kinds: Sequence[Kind]) -> list[Kind]:
    """Blocks raised, or where that does not go round pages padded, to the largest page."""
    largest = max(kind.page_bytes for kind in kinds)
    made = []
    for kind in kinds:
        ratio = largest // kind.page_bytes if largest % kind.page_bytes == 0 else 1
        made.append(msgspec.structs.replace(kind, block=kind.block * ratio, page_bytes=largest))
    return made


def _merge(kinds: Sequence[Kind]) -> list[Kind]:
    """Kinds that keep the same tokens in the same blocks, as one."""
    merged: dict[tuple[Held, int, int], Kind] = {}
    for kind in kinds:
        key = (kind.held, kind.window, kind.block)
        if key in merged:
            indices = tuple(sorted((*merged[key].indices, *kind.indices)))
            merged[key] = msgspec.structs.replace(merged[key], indices=indices)
        else:
            merged[key] = kind
    return list(merged.values())


def blocks_needed(planned: Plan, tokens: int, load: Load) -> int:
    """Blocks that the engine asks to be free for a request of `tokens`, over all groups.

        full     ceil(ceil(tokens / dcp) / block)
        sliding  ceil(min(window - 1 + step_tokens, tokens) / block) + 1
        chunked  ceil(min(chunk + step_tokens, tokens) / block)
        state    1 + speculative (none), 2 + speculative (align), ceil(tokens / block) (all)
        cross    ceil(encoder_len / block)

    Source: vLLM, `max_memory_usage_bytes` of each `KVCacheSpec`.
    """
    return sum(_asked(group.kind, tokens, load) for group in planned.groups)


def _asked(kind: Kind, tokens: int, load: Load) -> int:
    if kind.held is Held.STATE:
        if load.mode is StateMode.ALL:
            return -(-tokens // kind.block)
        return (1 if load.mode is StateMode.NONE else 2) + load.speculative
    if kind.held is Held.CROSS:
        return -(-load.encoder_len // kind.block)
    if kind.held is Held.SLIDING:
        return -(-min(kind.window - 1 + load.step_tokens, tokens) // kind.block) + 1
    if kind.held is Held.CHUNKED:
        return -(-min(kind.window + load.step_tokens, tokens) // kind.block)
    shared = -(-tokens // load.dcp)
    return -(-shared // kind.block)


def blocks_held(planned: Plan, tokens: int, load: Load) -> int:
    """Blocks that a sequence of `tokens` holds while it decodes, over all groups.

    A window's blocks that lie wholly behind it have been given back.
    """
    return sum(_kept(group.kind, tokens, load) for group in planned.groups)


def _kept(kind: Kind, tokens: int, load: Load) -> int:
    blocks = -(-tokens // kind.block)
    if kind.held is Held.SLIDING:
        return blocks - max(0, tokens - kind.window + 1) // kind.block
    if kind.held is Held.CHUNKED:
        return blocks - (tokens - 1) // kind.window * kind.window // kind.block
    return _asked(kind, tokens, load)


def longest(planned: Plan, blocks: int, load: Load, limit: int) -> int:
    """The longest request, up to `limit` tokens, that `blocks` blocks admit; 0 for none.

    The "estimated maximum model length" of vLLM's refusal to start.
    """
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        if blocks_needed(planned, middle, load) <= blocks:
            low = middle
        else:
            high = middle - 1
    return low
