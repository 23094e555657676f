"""The sizes that checks run at."""

import msgspec

from attnbench.spec.dtype import Dtype


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes of a problem, and whether it takes the small settings or the variant's own."""

    seq_q: int
    seq_kv: int
    small: bool = True
    batch: int = 2
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 32


SQUARE = Scene(seq_q=67, seq_kv=67)  # odd: no block length divides it
SHORT = Scene(seq_q=40, seq_kv=67)  # a query after keys: cross-attention, chunked prefill
LONG = Scene(seq_q=67, seq_kv=40)  # causal: the first 27 rows see nothing
ONE = Scene(seq_q=1, seq_kv=67)
NARROW = Scene(seq_q=17, seq_kv=40, head_dim=40)  # tiles are powers of two: a part is padding
WIDE = Scene(seq_q=600, seq_kv=600, small=False, batch=1, heads=2, kv_heads=1)
ALL = (SQUARE, SHORT, LONG, ONE, NARROW, WIDE)


def interpreted_scenes(
    scenes: tuple[Scene, ...], dtype: Dtype, *, whole: bool
) -> tuple[Scene, ...]:
    """What of `scenes` an interpreter gets through, a thousand times slower than a compiler.

    The wide scene is left to who asks for every scene in fp32; the others have one sequence
    and one KV head, save the square one where it is to stay `whole`.
    """
    if scenes is not ALL or dtype is not Dtype.FP32:
        scenes = tuple(scene for scene in scenes if scene is not WIDE) or (SQUARE,)
    return tuple(s if whole and s is SQUARE else _lean(s) for s in scenes)


def _lean(scene: Scene) -> Scene:
    """The scene with one sequence and one KV head: an eighth of the work."""
    return msgspec.structs.replace(scene, batch=1, heads=2, kv_heads=1)
