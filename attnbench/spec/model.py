"""What a model is made of: layers with their mixers, and every parameter tensor.

A `ModelSpec` says nothing of bytes: `calc` computes those. Only `catalog` makes one,
and checks it there; everything else trusts it.
"""

import enum
import math
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from attnbench.errors import UserError
from attnbench.spec.dtype import Dtype


class Role(enum.StrEnum):
    """What a parameter tensor is for."""

    EMBEDDING = "embedding"
    OUTPUT = "output"
    ATTENTION = "attention"
    MLP = "mlp"
    ROUTER = "router"
    ROUTED_EXPERT = "routed_expert"
    SHARED_EXPERT = "shared_expert"
    NORM = "norm"
    RECURRENT = "recurrent"
    VISION = "vision"
    OTHER = "other"


class Shard(enum.StrEnum):
    """How tensor parallelism splits a tensor.

    `column` and `row` split the output and the input features, `kv` the output
    features by KV head (ranks beyond the KV heads hold copies), `vocab` the
    vocabulary, `expert` whole experts or each expert's inner width. `replicated`
    stands whole on every rank.
    """

    COLUMN = "column"
    ROW = "row"
    KV = "kv"
    VOCAB = "vocab"
    EXPERT = "expert"
    REPLICATED = "replicated"


class Place(enum.StrEnum):
    """Which pipeline stages hold a tensor: its layer's, the first, the last, or all."""

    LAYER = "layer"
    FIRST = "first"
    LAST = "last"
    EVERY = "every"


class Tensor(msgspec.Struct, frozen=True, kw_only=True):
    """A group of parameter tensors alike: `count` of them in one layer (or outside).

    `name` is the checkpoint's, `*` standing for layer and expert numbers. `shape`
    is that of one tensor: [out features, in features] for a linear layer.
    """

    name: str
    shape: tuple[int, ...]
    role: Role
    shard: Shard = Shard.REPLICATED
    count: int = 1
    place: Place = Place.LAYER

    @property
    def elements(self) -> int:
        """Numbers in all `count` tensors together."""
        return math.prod(self.shape) * self.count


class Attention(msgspec.Struct, frozen=True, kw_only=True):
    """Softmax attention: `heads` query heads read `kv_heads` cached keys and values."""

    heads: int
    kv_heads: int
    key_dim: int
    value_dim: int


class Full(Attention, frozen=True, kw_only=True, tag="full"):
    """Sees every earlier token.

    `transformers_kv_heads`: heads that Hugging Face caches where it broadcasts K
    and V before caching (Falcon); None where it caches `kv_heads`.
    """

    transformers_kv_heads: int | None = None


class Sliding(Attention, frozen=True, kw_only=True, tag="sliding"):
    """Sees the last `window` tokens, itself among them.

    `transformers_keeps_all`: Hugging Face masks but does not drop older tokens
    (GPT-Neo).
    """

    window: int
    transformers_keeps_all: bool = False


class Chunked(Attention, frozen=True, kw_only=True, tag="chunked"):
    """Sees the tokens of its own chunk of `chunk` tokens (Llama 4)."""

    chunk: int


class Cross(Attention, frozen=True, kw_only=True, tag="cross"):
    """Reads keys and values of an encoder's output: `length` tokens unless asked otherwise.

    None is as many as the decoder's; 0 where there are none without an image.
    """

    length: int | None = None


class Latent(msgspec.Struct, frozen=True, kw_only=True, tag="mla"):
    """Multi-head latent attention: one cached vector of `kv_rank` + `rope_dim` a token.

    `index_dim` is the width of a sparse indexer's key, cached beside it (DeepSeek-V3.2).
    Decompressed, a head has keys of `nope_dim` + `rope_dim` and values of `value_dim`.
    """

    heads: int
    kv_rank: int
    rope_dim: int
    nope_dim: int
    value_dim: int
    index_dim: int = 0


class StateKind(enum.StrEnum):
    """What a state tensor holds, which decides its dtype and width conventions."""

    CONV = "conv"
    RECURRENT = "recurrent"


class State(msgspec.Struct, frozen=True, kw_only=True):
    """A state tensor of one sequence, the same size at any length.

    A convolution's last axis is time, at the width that transformers keeps;
    `kernel` is its kernel, of which kernel - 1 inputs must be kept. `fp32` says that
    transformers keeps it in fp32 whatever the model's dtype, `engine_fp32` that serving
    engines do. `split` says that tensor parallelism divides it.
    """

    name: str
    shape: tuple[int, ...]
    kind: StateKind = StateKind.RECURRENT
    kernel: int = 0
    fp32: bool = False
    engine_fp32: bool = False
    split: bool = True

    @property
    def elements(self) -> int:
        """Numbers in the state of one sequence."""
        return math.prod(self.shape)


class Recurrent(msgspec.Struct, frozen=True, kw_only=True, tag="recurrent"):
    """A mixer with a state instead of a cache; `name` is its kind: mamba, mamba2, ...

    `scan` tokens are read at once, where the configuration says so.
    """

    name: str
    states: tuple[State, ...]
    heads: int = 0
    scan: int = 0


class Shared(msgspec.Struct, frozen=True, kw_only=True, tag="shared"):
    """Attention `like` another layer's, whose cache it reads: it keeps none itself."""

    like: Full | Sliding


Mixer = Full | Sliding | Chunked | Cross | Latent | Recurrent | Shared


class Experts(msgspec.Struct, frozen=True, kw_only=True):
    """Routed experts of a layer: `per_token` of `total` are visited, each `inner` wide."""

    total: int
    per_token: int
    inner: int


class Layer(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of layer, and the positions (`indices`) at which the model has it.

    `inner` is the width inside its dense or shared MLP, 0 where it has none.
    """

    indices: tuple[int, ...]
    mixers: tuple[Mixer, ...]
    tensors: tuple[Tensor, ...]
    inner: int = 0
    experts: Experts | None = None

    @property
    def count(self) -> int:
        """Layers of this kind."""
        return len(self.indices)


class ModelSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A model: what it is called, its sizes, its layers, its parameters.

    `layers` are the decoder's, `encoder` those of an encoder (they keep no cache).
    `outside` are the tensors of no layer: embeddings, output, last norm, vision.
    `heads` is the largest number of query heads of a layer. `max_position` is the
    longest context the configuration states. `encoder_length` and `decoder_length`
    are fixed lengths (Whisper: 1,500 and 448). `quantization` is the configuration's
    `quantization_config` as published. `rotary` are the numbers in each table of cosines
    and sines that an engine makes. `pictures_of_any_size`: a vision tower takes as many
    patches as a picture has. `stored_bytes` are the weights' bytes in the file the
    spec was read from, where it was a checkpoint; `stored_parts` those of a GGUF file by
    the first part of the tensors' names (`blk.0`, `token_embd`, `output`).
    """

    name: str
    model_type: str
    source: str
    hidden_size: int
    vocab_size: int
    heads: int
    layers: tuple[Layer, ...]
    outside: tuple[Tensor, ...]
    encoder: tuple[Layer, ...] = ()
    architecture: str | None = None
    max_position: int | None = None
    tied_embeddings: bool = False
    weight_dtype: Dtype | None = None
    encoder_length: int | None = None
    decoder_length: int | None = None
    quantization: Mapping[str, Any] | None = None
    rotary: tuple[int, ...] = ()
    pictures_of_any_size: bool = False
    stored_bytes: int | None = None
    stored_parts: Mapping[str, int] | None = None
    warnings: tuple[str, ...] = ()

    @property
    def num_layers(self) -> int:
        """Decoder layers."""
        return sum(layer.count for layer in self.layers)

    def parameters(self) -> Iterator[tuple[Tensor, int]]:
        """Every tensor group with how many times the model holds it (its layers)."""
        for layer in (*self.encoder, *self.layers):
            for tensor in layer.tensors:
                yield tensor, layer.count
        for tensor in self.outside:
            yield tensor, 1


def attention_shape(model: ModelSpec) -> Attention:
    """The heads of the softmax attention that most of `model`'s layers have.

    Latent attention counts as it computes: a key and a value of each head.

    Raises:
        UserError: no layer of the model has softmax attention.
    """
    counts: dict[Attention, int] = {}
    for layer in model.layers:
        for mixer in layer.mixers:
            if isinstance(mixer, Recurrent):
                continue
            of = mixer.like if isinstance(mixer, Shared) else mixer
            if isinstance(of, Latent):
                key, value = of.nope_dim + of.rope_dim, of.value_dim
            else:
                key, value = of.key_dim, of.value_dim
            kv_heads = of.heads if isinstance(of, Latent) else of.kv_heads
            shape = Attention(heads=of.heads, kv_heads=kv_heads, key_dim=key, value_dim=value)
            counts[shape] = counts.get(shape, 0) + layer.count
    if not counts:
        raise UserError(f"{model.name} has no softmax attention: no heads to take")
    return max(counts, key=lambda shape: counts[shape])
