"""How llama.cpp deals a model's weights out to GPUs and the CPU: whole layers, in order.

Source: llama.cpp, `load_tensors` (`--gpu-layers`, `--split-mode layer`).
"""

from collections.abc import Mapping

import msgspec

from attnbench.calc.quantization import Scheme
from attnbench.spec.model import ModelSpec, Place, Role, Tensor

CPU = -1


class Weights(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of a model's parts: each layer's, the embedding's, the output's."""

    layers: tuple[int, ...]
    embedding: int
    output: int

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.layers) + self.embedding + self.output


def weights(model: ModelSpec, scheme: Scheme) -> Weights:
    """Bytes of each part as the file stores it, else as `scheme` does.

    Tied embeddings are loaded again for the output. A vision tower is a file of its own
    (`--mmproj`) and not counted.
    """
    if model.stored_parts is not None:
        return _stored(model, model.stored_parts)
    found = [0] * model.num_layers
    for layer in model.layers:
        for tensor in layer.tensors:
            for index in layer.indices:
                found[index] += scheme.bytes_of(tensor, (index,))
    for layer in model.encoder:  # loaded beside the first layer
        found[0] += sum(scheme.bytes_of(t, layer.indices) for t in layer.tensors)
    embedding = output = 0
    for tensor in model.outside:
        if tensor.role is Role.VISION:
            continue
        size = scheme.bytes_of(tensor)
        if _is_embedding(tensor, model):
            embedding += size
            output += size if model.tied_embeddings else 0
        elif tensor.place is Place.FIRST and tensor.role is not Role.OUTPUT:
            embedding += size
        else:
            output += size
    return Weights(layers=tuple(found), embedding=embedding, output=output)


def _is_embedding(tensor: Tensor, model: ModelSpec) -> bool:
    return tensor.role is Role.EMBEDDING and tensor.shape[0] == model.vocab_size


def _stored(model: ModelSpec, parts: Mapping[str, int]) -> Weights:
    layers = tuple(parts.get(f"blk.{i}", 0) for i in range(model.num_layers))
    embedding = parts.get("token_embd", 0)
    output = sum(parts.values()) - sum(layers) - embedding
    if "output" not in parts:
        output += embedding  # tied: loaded again
    return Weights(layers=layers, embedding=embedding, output=output)


def devices(layers: int, *, gpus: int, offloaded: int | None) -> tuple[int, ...]:
    """The GPU of each layer and, last, of the output; -1 for the CPU.

    The last `offloaded` of layers and output (None: all) are dealt out evenly, in order.

    >>> devices(4, gpus=2, offloaded=None)
    (0, 0, 0, 1, 1)
    >>> devices(4, gpus=1, offloaded=2)
    (-1, -1, -1, 0, 0)
    """
    whole = layers + 1
    count = whole if offloaded is None else min(offloaded, whole)
    start = whole - count
    return tuple(
        CPU if at < start else min(gpus - 1, (at - start) * gpus // count) for at in range(whole)
    )
