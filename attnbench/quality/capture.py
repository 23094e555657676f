"""Queries, keys and values of a real model, taken where transformers calls attention.

transformers hands every layer's query, key and value (after RoPE, before KV heads are
repeated) to the function that `attn_implementation` names; ours keeps them and calls
torch's. What a layer attends is read off the mask that it is handed, never assumed.

Source: transformers, `AttentionInterface`, `AttentionMaskInterface`
(https://huggingface.co/docs/transformers/attention_interface).
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from attnbench.calc.patterns import Full, SlidingWindow
from attnbench.errors import UserError, missing_extra

if TYPE_CHECKING:
    from torch import Tensor

_NAME = "attnbench_capture"
# What a layer may be handed that changes its scores in a way no exact attention here has.
_CHANGES = {"softcap": "soft-capped", "s_aux": "sink", "position_bias": "biased"}


class Layer(msgspec.Struct, frozen=True, kw_only=True):
    """One layer's tensors, [sequences, heads, tokens, head_dim], and the pairs it attends.

    `query` is scaled so that the logits are q·k / √head_dim, whatever the model's own
    scale. `output` is what the model's attention gave, before its output projection.
    """

    number: int
    query: "Tensor"
    key: "Tensor"
    value: "Tensor"
    output: "Tensor"
    own: Full | SlidingWindow


def load_checkpoint(folder: Path) -> tuple[Any, Any]:
    """The model (fp32, on the CPU) and the tokenizer in `folder`, from safetensors alone.

    Code that came with the model is never run; nothing is fetched.

    Raises:
        MachineError: transformers is not installed.
        UserError: no such folder, or one that transformers cannot read so.
    """
    try:
        import transformers
    except ImportError:
        raise missing_extra("transformers", "quality") from None
    if not (folder / "config.json").is_file():
        raise UserError(
            f"{folder}: no config.json there",
            hint="--model takes `minilm` or a folder with config.json and safetensors.",
        )
    transformers.utils.logging.disable_progress_bar()
    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **local)
        register(lambda *_: None)  # the name must be known before a model may ask for it
        model = transformers.AutoModel.from_pretrained(
            folder, attn_implementation=_NAME, use_safetensors=True, dtype="float32", **local
        )
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise UserError(f"{folder}: transformers cannot load it: {_first_line(error)}") from None
    if getattr(model.config, "is_encoder_decoder", False):
        raise UserError(f"{folder}: an encoder-decoder; --model takes encoders or decoders")
    return model.eval(), tokenizer


def capture(model: Any, tokens: "Tensor") -> list[Layer]:
    """The layers of one pass over `tokens` [sequences, length], no padding.

    Raises:
        UserError: a layer whose scores are more than q·k, or whose mask is no pattern here;
            a model whose attention does not go through transformers' interface.
    """
    import torch

    layers: list[Layer] = []
    register(lambda *layer: layers.append(_layer(len(layers), *layer)))
    model.set_attn_implementation(_NAME)
    with torch.inference_mode():
        model(input_ids=tokens)
    if not layers:
        raise UserError(
            f"{type(model).__name__}: its attention does not go through transformers'"
            " AttentionInterface, so that nothing was captured"
        )
    return layers


def register(keep: Callable[..., None]) -> None:
    """Make `keep(query, key, value, output, mask, causal, scaling, others)` see each layer."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import sdpa_mask

    def attend(
        module: Any, query: "Tensor", key: "Tensor", value: "Tensor", mask: "Tensor | None",
        **others: Any,
    ) -> tuple["Tensor", None]:  # fmt: skip
        changed = [word for name, word in _CHANGES.items() if others.get(name) is not None]
        if changed:
            raise UserError(f"{type(module).__name__}: {changed[0]} scores are not captured yet")
        out, _ = sdpa_attention_forward(module, query, key, value, mask, **others)
        causal = others.get("is_causal")
        causal = getattr(module, "is_causal", True) if causal is None else causal
        # sdpa answers [sequences, tokens, heads, head_dim].
        kept = [x.detach().clone() for x in (query, key, value, out.transpose(1, 2))]
        keep(*kept, mask, causal, others.get("scaling"), others.get("sliding_window"))
        return out, None

    AttentionInterface.register(_NAME, attend)
    AttentionMaskInterface.register(_NAME, sdpa_mask)


def _layer(
    number: int, query: "Tensor", key: "Tensor", value: "Tensor", output: "Tensor",
    mask: "Tensor | None", causal: bool, scaling: float | None, window: int | None,
) -> Layer:  # fmt: skip
    width = query.shape[-1]
    if scaling is not None:
        query = query * (scaling * math.sqrt(width))
    return Layer(
        number=number, query=query, key=key, value=value, output=output,
        own=_own_pattern(number, mask, causal, window, query.shape[2]),
    )  # fmt: skip


def _own_pattern(
    number: int, mask: "Tensor | None", causal: bool, window: int | None, tokens: int
) -> Full | SlidingWindow:
    """The pattern that the layer's mask is, pair by pair; no mask: full, causal or not.

    Raises:
        UserError: it is none of those.
    """
    import torch

    if mask is None:
        return Full(causal=bool(causal))
    allowed = mask if mask.dtype == torch.bool else mask == 0
    at = torch.arange(tokens, device=mask.device)
    candidates: list[Full | SlidingWindow] = [Full(causal=True), Full(causal=False)]
    if window:
        candidates += [
            SlidingWindow(window=window, causal=True),
            SlidingWindow(window=2 * window, causal=False),
            SlidingWindow(window=window, causal=False),
        ]
    for pattern in candidates:
        wanted = pattern.allows(at[:, None], at[None, :])
        if allowed.shape[-2:] == wanted.shape and bool((allowed == wanted).all()):
            return pattern
    raise UserError(f"layer {number}: its mask is neither full, causal nor a window")


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
