"""Bytes of key-value cache and recurrent state, by a stated convention."""

import enum

import msgspec

from attnbench.calc.stages import held_by, stage_ranges
from attnbench.spec.dtype import Dtype
from attnbench.spec.model import (
    Chunked,
    Cross,
    Full,
    Latent,
    Layer,
    Mixer,
    ModelSpec,
    Recurrent,
    Shared,
    Sliding,
    State,
    StateKind,
)


class Semantics(enum.StrEnum):
    """Whose bytes are counted."""

    IDEAL = "ideal"
    TRANSFORMERS = "transformers"


class Window(enum.StrEnum):
    """How many tokens a layer with a window of w holds: w, w - 1, or all."""

    W = "w"
    W_MINUS_1 = "w-1"
    ALL = "all"


class ConvWidth(enum.StrEnum):
    """Columns of a convolution's state: its kernel's, or the kernel - 1 that are needed."""

    KERNEL = "kernel"
    KERNEL_MINUS_1 = "kernel-1"


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """The conventions of a count.

    `state_dtype` None keeps each state in the dtype transformers 5.23 does; states
    in the model's dtype take `dtype`, or bf16 where that is narrower than 16 bits.
    `window` None is `semantics`' own; `decompressed` counts MLA's K and V of every head.
    """

    dtype: Dtype = Dtype.BF16
    semantics: Semantics = Semantics.IDEAL
    state_dtype: Dtype | None = None
    window: Window | None = None
    conv: ConvWidth = ConvWidth.KERNEL
    decompressed: bool = False

    @property
    def held(self) -> Window:
        """What a layer with a window holds."""
        if self.window is not None:
            return self.window
        return Window.W if self.semantics is Semantics.IDEAL else Window.W_MINUS_1


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of attention cache, of recurrent and convolution state, of cross-attention."""

    kv: int = 0
    state: int = 0
    cross: int = 0

    @property
    def total(self) -> int:
        """All three."""
        return self.kv + self.state + self.cross

    def __add__(self, other: "Held") -> "Held":
        return Held(
            kv=self.kv + other.kv, state=self.state + other.state, cross=self.cross + other.cross
        )

    def __mul__(self, factor: int) -> "Held":
        return Held(kv=self.kv * factor, state=self.state * factor, cross=self.cross * factor)


def kv_cache_bytes(
    model: ModelSpec, *, seq_len: int, batch: int, rules: Rules, encoder_len: int | None = None
) -> Held:
    """Bytes that `batch` sequences of `seq_len` tokens hold, the whole model on one device.

    Full attention keeps K and V for each layer, KV head and token:
        layers · kv_heads · (key_dim + value_dim) · tokens · batch · bytes(dtype)
    Sliding layers keep min(tokens, window); latent (MLA) layers one vector of
    kv_rank + rope_dim (and an indexer's key); recurrent layers their states, whatever
    the length. Excludes page padding.

    Source: Ainslie et al. 2023, arXiv:2305.13245; DeepSeek-V2, arXiv:2405.04434.

    >>> from attnbench.catalog import load_model
    >>> kv_cache_bytes(load_model("llama-3-8b"), seq_len=8192, batch=1, rules=Rules()).total
    1073741824
    """
    held = Held()
    for layer in model.layers:
        held += layer_bytes(model, layer, seq_len, rules, encoder_len) * (layer.count * batch)
    return held


def layer_bytes(
    model: ModelSpec,
    layer: Layer,
    seq_len: int,
    rules: Rules,
    encoder_len: int | None = None,
    *,
    tp: int = 1,
) -> Held:
    """Bytes that one sequence holds in one layer like `layer`, on one of `tp` ranks."""
    held = Held()
    for mixer in layer.mixers:
        held += mixer_bytes(model, mixer, seq_len, rules, encoder_len, tp=tp)
    return held


def mixer_bytes(
    model: ModelSpec,
    mixer: Mixer,
    seq_len: int,
    rules: Rules,
    encoder_len: int | None = None,
    *,
    tp: int = 1,
) -> Held:
    """Bytes that one sequence holds in one mixer, on one of `tp` ranks.

    KV heads are dealt to ranks and copied where there are fewer of them; the latent
    of MLA stands whole on every rank; states are divided unless they say otherwise.
    """
    if isinstance(mixer, Shared):
        return Held()
    if isinstance(mixer, Recurrent):
        return Held(state=sum(_state_bytes(state, rules, tp) for state in mixer.states))
    tokens = tokens_held(model, mixer, seq_len, rules, encoder_len)
    elements = token_elements(mixer, rules, tp=tp)
    in_bytes = rules.dtype.bytes_of(elements * tokens)
    return Held(cross=in_bytes) if isinstance(mixer, Cross) else Held(kv=in_bytes)


def token_elements(mixer: Mixer, rules: Rules, *, tp: int = 1) -> int:
    """Numbers that one token leaves in the cache of one mixer, on one of `tp` ranks."""
    if isinstance(mixer, Latent):
        if rules.decompressed:
            width = mixer.nope_dim + mixer.rope_dim + mixer.value_dim
            return -(-mixer.heads // tp) * width + mixer.index_dim
        return mixer.kv_rank + mixer.rope_dim + mixer.index_dim
    if isinstance(mixer, Recurrent | Shared):
        return 0
    heads = mixer.kv_heads
    if isinstance(mixer, Full) and rules.semantics is Semantics.TRANSFORMERS:
        heads = mixer.transformers_kv_heads or heads
    return -(-heads // tp) * (mixer.key_dim + mixer.value_dim)


def tokens_held(
    model: ModelSpec, mixer: Mixer, seq_len: int, rules: Rules, encoder_len: int | None = None
) -> int:
    """Tokens whose K and V a mixer holds after `seq_len` tokens.

    Source: transformers 5.23, `DynamicSlidingWindowLayer` (window - 1).
    """
    if isinstance(mixer, Recurrent | Shared):
        return 0
    if isinstance(mixer, Cross):
        fixed = seq_len if mixer.length is None else mixer.length
        return fixed if encoder_len is None else encoder_len
    tokens = min(seq_len, model.decoder_length or seq_len)
    in_transformers = rules.semantics is Semantics.TRANSFORMERS
    if isinstance(mixer, Sliding) and mixer.transformers_keeps_all and in_transformers:
        return tokens
    window = {Sliding: "window", Chunked: "chunk"}.get(type(mixer))
    if window is None or rules.held is Window.ALL:
        return tokens
    size: int = getattr(mixer, window)
    return min(tokens, size if rules.held is Window.W else size - 1)


def _state_bytes(state: State, rules: Rules, tp: int) -> int:
    elements = state.elements
    if state.kind is StateKind.CONV and rules.conv is ConvWidth.KERNEL_MINUS_1:
        elements = elements // state.shape[-1] * min(state.shape[-1], state.kernel - 1)
    dtype = rules.state_dtype if state.kind is StateKind.RECURRENT else None
    if dtype is None:
        dtype = Dtype.FP32 if state.fp32 else model_dtype(rules.dtype)
    return dtype.bytes_of(-(-elements // tp) if state.split else elements)


def model_dtype(kv_dtype: Dtype) -> Dtype:
    """The dtype of states kept in the model's own: `kv_dtype`, or bf16 where it is narrower."""
    return kv_dtype if kv_dtype.bits >= 16 else Dtype.BF16


def bytes_per_token(
    model: ModelSpec, *, seq_len: int, rules: Rules, encoder_len: int | None = None
) -> int:
    """Bytes that one more token of one sequence adds at this length, whole model.

    A sliding layer that is full adds none. The encoder's length stays.
    """
    encoder = encoder_len or seq_len
    now, then = (
        kv_cache_bytes(model, seq_len=n, batch=1, rules=rules, encoder_len=encoder).total
        for n in (seq_len, seq_len + 1)
    )
    return then - now


def per_gpu_bytes(
    model: ModelSpec,
    *,
    seq_len: int,
    batch: int,
    rules: Rules,
    tp: int,
    pp: int,
    encoder_len: int | None = None,
) -> int:
    """Bytes on the fullest GPU of tp · pp: its share of heads, its stage's layers.

    A GPU holds ceil(kv_heads / tp) KV heads, so heads are copied where tp is larger.
    """
    alone = [
        (layer, layer_bytes(model, layer, seq_len, rules, encoder_len, tp=tp).total)
        for layer in model.layers
    ]
    stages = stage_ranges(model.num_layers, pp)
    return batch * max(
        sum(each * len(held_by(stage, layer.indices)) for layer, each in alone) for stage in stages
    )


def with_kv_heads(model: ModelSpec, kv_heads: int | None) -> ModelSpec:
    """The same model with as many KV heads in every attention (None: one a query head).

    Latent attention has no KV heads to choose; with them it would be decompressed, a
    key of nope_dim + rope_dim and a value of value_dim a head.
    """

    def change(mixer: Mixer) -> Mixer:
        if isinstance(mixer, Recurrent | Shared):
            return mixer
        heads = mixer.heads if kv_heads is None else kv_heads
        if isinstance(mixer, Latent):
            width = mixer.nope_dim + mixer.rope_dim
            return Full(heads=mixer.heads, kv_heads=heads, key_dim=width, value_dim=mixer.value_dim)
        changed = msgspec.structs.replace(mixer, kv_heads=heads)
        if isinstance(changed, Full):
            return msgspec.structs.replace(changed, transformers_kv_heads=None)
        return changed

    layers = tuple(
        msgspec.structs.replace(layer, mixers=tuple(change(m) for m in layer.mixers))
        for layer in model.layers
    )
    return msgspec.structs.replace(model, layers=layers)
