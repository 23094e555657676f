"""A causal language model of transformers, ready to be timed: from weights, or drawn.

Times do not depend on the weights' values, so a profile or a bare `config.json` is built
with weights as transformers draws them. Only safetensors are read, and code that came
with a model is never run.
"""

from pathlib import Path
from typing import Any

import msgspec

from attnbench.calc.params import count
from attnbench.catalog import profiles
from attnbench.catalog.adapters import from_config
from attnbench.catalog.config_json import read_json
from attnbench.errors import MachineError, UserError, missing_extra, unknown_name
from attnbench.measure.environment import Device
from attnbench.spec.dtype import Dtype
from attnbench.spec.model import ModelSpec

_ROOM = 0.9  # of the free memory, that weights and cache may take


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """What a MODEL argument gave: a configuration, and a folder of weights or None."""

    label: str
    config: Any
    weights: Path | None

    def spec(self) -> ModelSpec:
        """The configuration as the calculators have it."""
        return from_config(self.config.to_dict(), label=self.label, name=self.label)


def find_source(reference: str, *, layers: int | None) -> Source:
    """The model that `reference` names: a profile, a config.json, a folder, or a hub id.

    With `layers` only its first so many are kept; weights are drawn then.

    Raises:
        MachineError: transformers is not installed.
        UserError: no such model, no causal language model, or too many layers.
    """
    try:
        import transformers
    except ImportError:
        raise missing_extra("transformers", "quality") from None
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    fields, folder = _read(reference)
    kind = fields.get("model_type")
    try:
        config = transformers.AutoConfig.for_model(**fields)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{reference}: transformers knows no such config: {_line(error)}") from None
    if type(config) not in transformers.MODEL_FOR_CAUSAL_LM_MAPPING:
        raise UserError(f"{reference}: model_type: {kind!r} has no causal language model")
    if layers is not None:
        _keep(config, layers, reference)
    stored = folder is not None and any(folder.glob("*.safetensors"))
    return Source(
        label=reference, config=config, weights=folder if stored and layers is None else None
    )


def _read(reference: str) -> tuple[dict[str, Any], Path | None]:
    """The fields of the config, and the folder that it stands in."""
    profile = profiles.find(reference)
    if profile is not None:
        return dict(profiles.read(profile).config), None
    path = Path(reference).expanduser()
    if path.is_dir():
        path = path / "config.json"
    if path.is_file():
        return read_json(path), path.parent
    looks_like_path = reference.startswith((".", "/", "~")) or reference.endswith(".json")
    if reference.count("/") == 1 and not looks_like_path:
        from attnbench.catalog import hub

        cached = hub.config_file(reference)
        return read_json(cached, label=reference), cached.parent
    if looks_like_path or "/" in reference:
        raise UserError(f"{reference}: no such file or folder")
    raise unknown_name("model", reference, profiles.names(), see="attnbench models")


def _keep(config: Any, layers: int, label: str) -> None:
    """Cut `config` down to its first `layers` layers."""
    there_are = config.num_hidden_layers
    if not 1 <= layers <= there_are:
        raise UserError(f"--layers: {layers}: {label} has {there_are}")
    for name, value in vars(config).items():
        if isinstance(value, list) and len(value) == there_are:
            setattr(config, name, value[:layers])
    config.num_hidden_layers = layers


def build(source: Source, *, dtype: Dtype, device: Device, needed_bytes: int) -> Any:
    """The model in `dtype` on `device`, in evaluation mode.

    `needed_bytes` is what it and its cache will hold; it is refused before it is built.

    Raises:
        MachineError: the device has not that much free memory.
        UserError: transformers cannot build it, or its weights are no safetensors.
    """
    import torch
    import transformers

    room = int(_ROOM * device.free_bytes)
    if needed_bytes > room:
        raise MachineError(
            f"{source.label}: weights and cache take {needed_bytes / 2**30:.1f} GiB;"
            f" {room / 2**30:.1f} GiB of {device.name} may be used",
            hint="Keep its first layers alone with --layers N, or take a shorter prompt.",
        )
    kind = getattr(torch, _TORCH[dtype])
    try:
        with torch.device(device.type):
            torch.manual_seed(0)
            if source.weights is None:
                model = transformers.AutoModelForCausalLM.from_config(
                    source.config, dtype=kind, trust_remote_code=False
                )
            else:
                model = transformers.AutoModelForCausalLM.from_pretrained(
                    source.weights, config=source.config, dtype=kind, use_safetensors=True,
                    local_files_only=True, trust_remote_code=False,
                )  # fmt: skip
    except (OSError, ValueError, ImportError, KeyError, AttributeError) as error:
        raise UserError(f"{source.label}: transformers cannot build it: {_line(error)}") from None
    return model.to(device.type).eval()


_TORCH = {Dtype.FP32: "float32", Dtype.BF16: "bfloat16", Dtype.FP16: "float16"}


def torch_dtype(dtype: Dtype) -> Dtype:
    """`dtype`, where a model can be run in it.

    Raises:
        UserError: it cannot.
    """
    if dtype not in _TORCH:
        raise UserError(f"--dtype: {dtype}: a model runs here in {', '.join(map(str, _TORCH))}")
    return dtype


def weight_bytes(spec: ModelSpec, dtype: Dtype) -> int:
    """Bytes of all its parameters in `dtype`."""
    return dtype.bytes_of(count(spec).total)


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
