"""Models whose code came with them: InternLM, Baichuan, MiniCPM, Qwen 1, ChatGLM."""

from attnbench.catalog.decoder import decoder
from attnbench.catalog.fields import Fields
from attnbench.catalog.shape import Sizes, Style
from attnbench.spec.model import ModelSpec

MODEL_TYPES = ("internlm", "internlm2", "baichuan", "minicpm", "qwen", "chatglm")


def build(c: Fields) -> ModelSpec:
    """All are Llama but for their biases and the names of their fields."""
    kind = c.text("model_type")
    if kind == "qwen":
        # `intermediate_size` is that of gate and up together.
        c.require("intermediate_size")
        inner = c.divided("intermediate_size", c.integer("intermediate_size"), "2", 2)
        bias = not c.flag("no_bias", True)
        return decoder(c, Sizes.read(c, inner=inner), Style(qkv_bias=True, out_bias=bias))
    if kind == "chatglm":
        return _chatglm(c)
    bias = c.flag("bias", kind.startswith("internlm")) or c.flag("attention_bias")
    style = Style(qkv_bias=bias, out_bias=bias, tied=kind == "minicpm")
    return decoder(c, Sizes.read(c), style)


def _chatglm(c: Fields) -> ModelSpec:
    if not c.flag("multi_query_attention", True):
        c = c.also(multi_query_group_num=None, num_key_value_heads=None)
    bias = c.flag("add_bias_linear")
    style = Style(
        qkv_bias=c.flag("add_qkv_bias") or bias,
        out_bias=bias,
        mlp_bias=bias,
        final_norm=c.flag("post_layer_norm", True),
    )
    return decoder(c, Sizes.read(c), style)
