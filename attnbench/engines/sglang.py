"""SGLang: a pool of tokens, all of one size, for keys and again for values.

It prints "GB" and means GiB (2^30). Source: SGLang, `mem_cache/memory_pool.py`.
"""

from collections.abc import Sequence

from attnbench.calc.engine_kinds import DS_MLA_TOKEN_BYTES, Placed
from attnbench.spec.dtype import Dtype
from attnbench.spec.model import Attention, Latent, Recurrent

NAME = "sglang"
PAGE = 1
_INDEX_GROUP, _INDEX_SCALE_BYTES = 128, 4


def bytes_per_token(layers: Sequence[Placed], *, tp: int, kv: Dtype, packed: bool = True) -> int:
    """Bytes that a token takes on one GPU in the pool.

        layers · max(1, kv_heads // tp) · (key_dim + value_dim) · bytes

    Windows are kept at full length in this pool. MLA keeps its latent whole on every
    rank; with a sparse indexer 656 bytes in fp8, and 132 of the indexer's key. `packed`
    False: the latent at its own width in fp8 too, as releases before 0.5.17 budget it.

    Unit: bytes a token and GPU.
    """
    total = 0.0
    for mixer, indices in layers:
        if isinstance(mixer, Latent):
            sparse = packed and bool(mixer.index_dim) and kv.bits == 8
            width = (mixer.kv_rank + mixer.rope_dim) * kv.bits / 8
            token = float(DS_MLA_TOKEN_BYTES) if sparse else width
            if mixer.index_dim:
                scales = -(-mixer.index_dim // _INDEX_GROUP) * _INDEX_SCALE_BYTES
                token += mixer.index_dim + scales
        elif isinstance(mixer, Attention):
            heads = max(1, mixer.kv_heads // tp)
            token = heads * (mixer.key_dim + mixer.value_dim) * kv.bits / 8
        else:
            assert isinstance(mixer, Recurrent)
            continue
        total += token * len(indices)
    return int(total)
