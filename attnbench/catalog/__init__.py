"""Reads profiles, configurations and checkpoints into spec types; one adapter a model family."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attnbench.spec.model import ModelSpec


def load_model(reference: str) -> "ModelSpec":
    """The model that `reference` names.

    A profile's name; a path to a `config.json`, a folder that holds one, a GGUF or a
    safetensors file; or a hub id (`org/name`), local cache first.

    Raises:
        UserError: nothing of that name, or what is there is not readable.
        MachineError: reading it needs an extra that is not installed.

    >>> load_model("llama-3-8b").num_layers
    32
    """
    from attnbench.catalog.resolve import resolve

    return resolve(reference)
