"""GPT-NeoX and Pythia; GPT-J and CodeGen (one norm a layer); GPT-Neo (local layers)."""

from attnbench.catalog.blocks import Tensors
from attnbench.catalog.decoder import FULL, SLIDING, Block, attention, decoder
from attnbench.catalog.fields import Fields
from attnbench.catalog.shape import Sizes, Style
from attnbench.spec.model import Full, ModelSpec, Sliding

MODEL_TYPES = ("gpt_neox", "gptj", "codegen", "gpt_neo")

_NEOX = {
    "vocab_size": 50432, "hidden_size": 6144, "num_hidden_layers": 44,
    "num_attention_heads": 64, "intermediate_size": 24576, "max_position_embeddings": 2048,
}  # fmt: skip
_J = {
    "vocab_size": 50400, "hidden_size": 4096, "num_hidden_layers": 28,
    "num_attention_heads": 16, "max_position_embeddings": 2048,
}  # fmt: skip
_NEO = {
    "vocab_size": 50257, "hidden_size": 2048, "num_hidden_layers": 24,
    "num_attention_heads": 16, "max_position_embeddings": 2048, "window_size": 256,
    "attention_types": [[["global", "local"], 12]],
}  # fmt: skip


def build(c: Fields) -> ModelSpec:
    """LayerNorm with biases and a plain MLP in all three."""
    kind = c.text("model_type")
    if kind == "gpt_neo":
        return _neo(c.with_defaults(_NEO))
    if kind in ("gptj", "codegen"):
        return _gptj(c.with_defaults(_J))
    c = c.with_defaults(_NEOX)
    bias = c.flag("attention_bias", True)
    style = Style(
        qkv_bias=bias, out_bias=bias, mlp_bias=True, gated=False, norm_bias=True, at="gpt_neox"
    )
    return decoder(c, Sizes.read(c), style)


def _inner(c: Fields) -> int:
    return c.maybe("intermediate_size") or 4 * c.integer("hidden_size")


def _gptj(c: Fields) -> ModelSpec:
    style = Style(
        mlp_bias=True,
        gated=False,
        norms=("ln_1",),
        norm_bias=True,
        head_bias=True,
        at="transformer",
    )
    return decoder(c, Sizes.read(c, inner=_inner(c)), style)


def _neo(c: Fields) -> ModelSpec:
    s = Sizes.read(c, inner=_inner(c))
    style = Style(
        out_bias=True,
        mlp_bias=True,
        gated=False,
        norms=("ln_1", "ln_2"),
        norm_bias=True,
        positions=c.integer("max_position_embeddings"),
        tied=True,
        at="transformer",
    )
    full = Full(heads=s.heads, kv_heads=s.heads, key_dim=s.head_dim, value_dim=s.head_dim)
    tensors: Tensors = attention(s, style, full)
    local = Sliding(
        heads=s.heads,
        kv_heads=s.heads,
        key_dim=s.head_dim,
        value_dim=s.head_dim,
        window=c.integer("window_size"),
        transformers_keeps_all=True,
    )
    blocks: dict[str, Block] = {FULL: ((full,), tensors), SLIDING: ((local,), tensors)}
    return decoder(c, s, style, kinds=_local_layers(c, s.layers), block=blocks.__getitem__)


def _local_layers(c: Fields, layers: int) -> tuple[str, ...]:
    # attention_types: [[["global", "local"], 12]] is that pair, twelve times.
    names = {"global": FULL, "local": SLIDING}
    found: list[str] = []
    for item in c.items("attention_types", c.get("attention_types"), None):
        if not (
            isinstance(item, list)
            and len(item) == 2
            and isinstance(item[0], list)
            and isinstance(item[1], int)
            and 0 <= item[1] * len(item[0]) <= layers
            and all(isinstance(name, str) and name in names for name in item[0])
        ):
            raise c.error("attention_types", "is no list of [[kinds], times]")
        found += [names[name] for name in item[0]] * item[1]
    c.items("attention_types", found, layers)
    return tuple(found)
