"""A start of llama.cpp: weights and cells by GPU, and the lines it prints of them.

Nothing is a share: what is asked for is allocated, and fits or does not.
"""

from collections.abc import Iterator
from functools import cached_property

import msgspec

from attnbench.calc.engine_budget import Band, exactly
from attnbench.calc.engine_kinds import Placed, placed
from attnbench.calc.quantization import Scheme
from attnbench.engines import llama_cpp
from attnbench.engines._versions import Version
from attnbench.engines.engine_memory import EngineMemory, PoolPart
from attnbench.engines.llama_cpp import Cache, Policy, cache_line, caches, policy
from attnbench.engines.llama_split import CPU, Weights, devices, weights
from attnbench.errors import UserError
from attnbench.spec.model import Cross, Layer, ModelSpec
from attnbench.units import GIB, MIB

# CUDA's context and kernels on each GPU; what --fit leaves free unless a share is given.
_CONTEXT = Band(low=0.25 * GIB, middle=0.4 * GIB, high=0.7 * GIB)
_FIT_TARGET = 1 * GIB


class LlamaStart(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """One start of llama.cpp for requests of `length` tokens; None is the default.

    `cards` GPUs take whole layers, of which the last `offloaded` (--gpu-layers). `kind` is
    the cache's ggml type. `unified`: sequences share one stream of cells (--kv-unified).
    """

    model: ModelSpec
    scheme: Scheme
    total: int
    version: Version | None = None
    cards: int = 1
    kind: str = "f16"
    length: int = 4096
    utilization: float | None = None
    ubatch: int = llama_cpp.UBATCH
    unified: bool = False
    offloaded: int | None = None

    @property
    def limit(self) -> int | None:
        """The longest context that the model states."""
        return self.model.max_position

    @property
    def gpus(self) -> int:
        """GPUs that layers are dealt out to."""
        return self.cards

    @property
    def rules(self) -> Policy:
        """The rules of this build."""
        return policy(self.version)

    def of_length(self, tokens: int) -> "LlamaStart":
        """The same start for requests of this length."""
        return msgspec.structs.replace(self, length=tokens)

    def at(self, utilization: float) -> "LlamaStart":
        """The same start with this share of each GPU's memory."""
        return msgspec.structs.replace(self, utilization=utilization)

    def widened(self) -> Iterator["LlamaStart"]:
        """The same start over 1, 2, 3 .. GPUs."""
        for cards in range(1, self.model.num_layers + 2):
            yield msgspec.structs.replace(self, cards=cards)

    @cached_property
    def parts(self) -> Weights:
        """Bytes of the weights by layer."""
        return weights(self.model, self.scheme)

    @cached_property
    def places(self) -> tuple[int, ...]:
        """The GPU of each layer and of the output."""
        return devices(self.model.num_layers, gpus=self.cards, offloaded=self.offloaded)

    def made(self, batch: int) -> EngineMemory:
        """What each GPU holds, the fullest of them, and how many requests would fit.

        Raises:
            UserError: more sequences than llama.cpp takes, or more GPUs than layers.
        """
        if batch > llama_cpp.MOST_SEQUENCES:
            raise UserError(f"--batch: llama.cpp takes at most {llama_cpp.MOST_SEQUENCES}")
        if self.cards > self.model.num_layers + 1:
            raise UserError(f"--pp: {self.cards} GPUs for {self.model.num_layers} layers")
        held = self._caches(batch)
        card = max(range(self.cards), key=lambda gpu: self._load(gpu, held))
        requested, share = self._requested()
        compute, own = self._compute(card, held), self._weights(card)
        left = requested - own - _CONTEXT.middle - compute.middle
        width = (_CONTEXT.high - _CONTEXT.low + compute.high - compute.low) / 2
        alone = self._caches(1)
        least, each = self._on(card, alone), self._cells(alone, 1)
        users = self._users(requested)
        growing = max(1, self._on(card, self._caches(2)) - least)

        def fitting(size: float) -> int:
            if size < least:
                return 0
            return min(int((size - least) // growing) + 1, llama_cpp.MOST_SEQUENCES) * each

        return EngineMemory(
            engine=llama_cpp.NAME,
            length=self.length,
            total=self.total,
            utilization=share,
            requested=requested,
            weights=own,
            activation=compute,
            non_torch=_CONTEXT,
            graphs=exactly(0),
            cache=Band(low=left - width, middle=left, high=left + width),
            block=1,
            unit="cells",
            blocks=fitting(left),
            blocks_low=fitting(left - width),
            blocks_high=fitting(left + width),
            users=users,
            tokens=self._cells(held, batch),
            concurrency=float(fitting(left) // each),
            blocks_of_request=each,
            longest=self.length if users else 0,
            pinned=each,
            groups=len(held),
            pools=tuple(self._pools(held)),
            lines=tuple(self._lines(held, batch)),
            said=self._said(batch),
        )

    def _requested(self) -> tuple[int, float]:
        if self.utilization is None:
            left = max(0, self.total - _FIT_TARGET)
            return left, round(left / self.total, 4)
        return int(self.total * self.utilization), self.utilization

    def _users(self, requested: int) -> int:
        """Sequences that every GPU has room for, up to what llama.cpp takes."""

        def fits(batch: int) -> bool:
            held = self._caches(batch)
            return all(self._load(gpu, held) <= requested for gpu in range(self.cards))

        low, high = 0, llama_cpp.MOST_SEQUENCES
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if fits(middle) else (low, middle - 1)
        return low

    def _load(self, gpu: int, held: tuple[Cache, ...]) -> float:
        compute = self._compute(gpu, held).middle
        return self._weights(gpu) + self._on(gpu, held) + compute + _CONTEXT.middle

    def _caches(self, batch: int) -> tuple[Cache, ...]:
        return caches(
            _own(self.model),
            ctx=self.length,
            ubatch=self.ubatch,
            sequences=batch,
            unified=self.unified,
            element_bytes=llama_cpp.CACHE_BYTES[self.kind],
            full_windows=not self.rules.windows,
            latents=self.rules.latents,
        )

    def _cells(self, held: tuple[Cache, ...], batch: int) -> int:
        """Cells of the longest cache, all streams together."""
        longest = [cache for cache in held if cache.name != "recurrent"] or list(held)
        return max((cache.cells for cache in longest), default=0) * (1 if self.unified else batch)

    def _weights(self, gpu: int) -> int:
        """Bytes of weights on one GPU (-1: the CPU, which keeps the embeddings)."""
        found = sum(
            size for size, at in zip(self.parts.layers, self.places, strict=False) if at == gpu
        )
        if self.places[-1] == gpu:
            found += self.parts.output
        return found + (self.parts.embedding if gpu == CPU else 0)

    def _on(self, gpu: int, held: tuple[Cache, ...]) -> int:
        """Bytes of caches on one GPU: those of its layers."""
        return sum(
            cache.bytes * sum(self.places[i] == gpu for i in cache.indices) // cache.layers
            for cache in held
        )

    def _compute(self, gpu: int, held: tuple[Cache, ...]) -> Band:
        """The compute buffer: a batch's logits, or a layer's insides and its mask, in fp32."""
        rows, layers = 4 * self.ubatch, self.model.layers
        inner = max((_inner(layer) for layer in layers), default=0)
        cells = max((cache.cells for cache in held if cache.name != "recurrent"), default=0)
        inside = rows * (2 * self.model.hidden_size + 3 * inner) + 6 * self.ubatch * cells
        logits = rows * (self.model.vocab_size + self.model.hidden_size)
        middle = max(inside, logits) if self.places[-1] == gpu else inside
        return Band(low=0.5 * inside, middle=middle, high=1.5 * middle + 0.25 * GIB)

    def _names(self) -> Iterator[tuple[int, str]]:
        yield from ((gpu, f"CUDA{gpu}") for gpu in range(self.cards))
        yield CPU, "CPU"

    def _pools(self, held: tuple[Cache, ...]) -> Iterator[PoolPart]:
        for cache in held:
            holds = "states" if cache.name == "recurrent" else "cells"
            yield PoolPart(name=cache.name, holds=holds, count=cache.cells, bytes=cache.bytes)

    def _lines(self, held: tuple[Cache, ...], batch: int) -> Iterator[str]:
        rules = self.rules
        for gpu, name in self._names():
            size, shown = self._weights(gpu), "CPU_Mapped" if gpu == CPU else name
            if size:
                said = f"{rules.weights_name}: {shown:>12} model buffer size = "
                yield f"{said}{size / MIB:8.2f} MiB"
        streams = 1 if self.unified else batch
        for cache in held:
            for gpu, name in self._names():
                size = self._on(gpu, (cache,))
                if not size:
                    continue
                buffer, owner = "KV", rules.cache_name
                if cache.name == "recurrent":
                    buffer, owner = "RS", "llama_memory_recurrent"
                yield f"{owner}: {name:>10} {buffer} buffer size = {size / MIB:8.2f} MiB"
            yield cache_line(
                rules,
                cache,
                kind=self.kind,
                sequences=batch,
                streams=streams,
                layers=self.model.num_layers,
            )

    def _said(self, batch: int) -> tuple[str, ...]:
        how = "share one stream of cells (--kv-unified)" if self.unified else "have cells apart"
        return (
            f"llama.cpp: --ctx-size {self.length * batch:,}, --parallel {batch}: sequences {how}; "
            f"--ubatch-size {self.ubatch}, cache in {self.kind}, flash attention on.",
            "Compute buffer: a band around a batch's logits or a layer's insides in fp32; "
            "builds that ask for fewer logits take less.",
            "Unless --utilization is given, 1 GiB a GPU stays free (its --fit-target).",
        )


def _own(model: ModelSpec) -> tuple[Placed, ...]:
    return tuple((m, at) for m, at in placed(model) if not isinstance(m, Cross))


def _inner(layer: Layer) -> int:
    routed = layer.experts.inner * layer.experts.per_token if layer.experts else 0
    return max(layer.inner, routed + layer.inner)
