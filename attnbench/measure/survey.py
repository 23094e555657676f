"""What each variant and backend would run on here, found without running one."""

import msgspec

from attnbench.measure.environment import Device, describe_device
from attnbench.measure.isolation import Say
from attnbench.spec.attention import AttentionShape, Mode
from attnbench.spec.dtype import Dtype
from attnbench.variants import load_variant, variant_names


class Ability(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a backend runs: "yes", "interpreter" (checked, not timed) or "no", and why."""

    variant: str
    backend: str
    modes: tuple[str, ...]
    runs: str
    reason: str = ""


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    """A machine's device and what would run on it."""

    device: Device
    abilities: tuple[Ability, ...]


def survey(wanted: str, say: Say) -> Survey:
    """Job: describe the device that `wanted` stands for, and ask every backend."""
    device = describe_device(wanted)
    return Survey(
        device=device,
        abilities=tuple(
            ability for name in variant_names() for ability in _abilities(name, device.type)
        ),
    )


def _abilities(name: str, device_type: str) -> list[Ability]:
    variant = load_variant(name)
    shape = AttentionShape(
        batch=1, heads=4, kv_heads=2, seq_q=1024, seq_kv=1024, head_dim=64,
        causal=True in variant.causal_forms, dtype=Dtype.FP32,
    )  # fmt: skip
    found = []
    for backend in variant.backends:
        reasons = {}
        for mode in Mode:
            if mode not in variant.modes:
                continue
            for_mode = shape
            if mode is Mode.DECODE:
                for_mode = msgspec.structs.replace(shape, seq_q=1)
            params = variant.resolve(for_mode, variant.defaults)
            reasons[mode] = backend.supports(for_mode, mode, params, device_type)
        able = tuple(mode.value for mode, reason in reasons.items() if reason is None)
        how = "interpreter" if device_type in backend.interpreted_on else "yes"
        found.append(
            Ability(
                variant=name,
                backend=backend.name,
                modes=able,
                runs=how if able else "no",
                reason="" if able else next(iter(reasons.values())) or "",
            )
        )
    return found
