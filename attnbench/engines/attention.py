"""Which attention kernel an engine runs: names as people and benchmarks write them.

A key is `framework-kernel` (`vllm-fa3`, `sglang-flashinfer`), a kernel alone where no
engine surrounds it (`fa2`, `cudnn`), or `trtllm`, whose kernels are its own. Calibrated
constants are kept under these keys, and looked for under the kernel's family where the
engine's own are not known.
"""

import re

import msgspec

_KERNELS = (
    (r"trtllm[ _-]?(gen|mha|prefill|decode)|flashinfer[ _-]?trtllm", "trtllm-gen"),
    (r"flashinfer|fidecode|fiprefill", "flashinfer"),
    (r"\bfa[ _-]?4|_fa4|flash[ _-]?att(entio)?n[ _-]?v?4", "fa4"),
    (r"\bfa[ _-]?3|_fa3|flash[ _-]?att(entio)?n[ _-]?v?3", "fa3"),
    (r"\bfa[ _-]?1|flash[ _-]?att(entio)?n[ _-]?v?1", "fa1"),
    (r"\bfa[ _-]?2|_fa2|flash[ _-]?att(entio)?n[ _-]?v?2", "fa2"),
    (r"cudnn", "cudnn"),
    (r"triton", "triton"),
    (r"xformers", "xformers"),
    (r"naive|eager|megatron|\bmath\b|unfused", "naive"),
    (r"flash[ _-]?att|\bfa\b|sdpa", "fa"),
)
_FRAMEWORKS = (
    (r"sglang", "sglang"),
    (r"vllm", "vllm"),
    (r"trt[ _-]?llm|tensorrt|torch_flow", "trtllm"),
)
# What an engine takes by default, by the GPU's architecture; "" for any other.
_DEFAULTS = {
    "vllm": {"hopper": "fa3", "blackwell": "trtllm-gen", "blackwell-ultra": "trtllm-gen"},
    "sglang": {"hopper": "fa3", "blackwell": "trtllm-gen", "blackwell-ultra": "trtllm-gen"},
}
_OTHERWISE = {"vllm": "fa2", "sglang": "flashinfer"}
_FLASH = {"hopper": "fa3", "blackwell": "fa4", "blackwell-ultra": "fa4"}
WRITES_CACHE = frozenset(["vllm", "sglang", "trtllm"])


# Widths of heads that kernels are compiled for: multiples of so many; 0: powers of two.
_STEPS = {"triton": 0, "flashinfer": 64, "fa3": 64, "trtllm": 8, "cudnn": 8}
USUAL_STEP = 32
# Kernels of one design, whose constants stand in where a kernel's own are not known.
_RELATIVES = {
    "fa3": ("fa2",), "fa4": ("fa3", "trtllm-gen"), "fa2": ("fa3", "flashinfer"),
    "trtllm-gen": ("fa4", "trtllm"), "cudnn": ("fa4", "fa3"), "flashinfer": ("fa2",),
}  # fmt: skip


class AttentionEngine(msgspec.Struct, frozen=True, kw_only=True):
    """A kernel, and the framework that calls it (empty for none)."""

    framework: str
    kernel: str

    @property
    def key(self) -> str:
        """The name under which constants are kept."""
        if self.framework == "trtllm":
            return "trtllm"
        return f"{self.framework}-{self.kernel}" if self.framework else self.kernel

    @property
    def relatives(self) -> tuple[str, ...]:
        """Kernels of the same design, the nearest first."""
        return _RELATIVES.get(self.kernel, ())

    @property
    def step(self) -> int:
        """The step of head widths, as `calc.prefill_time.padded` takes it."""
        return _STEPS.get(self.kernel, USUAL_STEP)


def attention_engine(
    text: str, implementation: str = "", *, architecture: str | None = None
) -> AttentionEngine | None:
    """The engine that `text` names, with what `implementation` adds; None where neither says.

    >>> attention_engine("vllm 0.24.0 vllm_flash_attn_fa3").key
    'vllm-fa3'
    >>> attention_engine("SGLang", architecture="hopper").key
    'sglang-fa3'
    """
    framework = _first(_FRAMEWORKS, text)
    kernel = _first(_KERNELS, text.replace(framework, "", 1) if framework else text)
    kernel = kernel or _first(_KERNELS, implementation)
    if framework == "trtllm":
        return AttentionEngine(framework=framework, kernel="trtllm")
    if not framework:
        framework = "" if kernel else _first(_FRAMEWORKS, implementation)
    if framework == "trtllm":
        return AttentionEngine(framework=framework, kernel="trtllm")
    if not kernel and framework in _DEFAULTS:
        kernel = _DEFAULTS[framework].get(architecture or "", _OTHERWISE[framework])
    if kernel == "fa":  # no release named: that of the architecture
        kernel = _FLASH.get(architecture or "", "fa2")
    if not kernel:
        return None
    return AttentionEngine(framework=framework, kernel=kernel)


def _first(table: tuple[tuple[str, str], ...], text: str) -> str:
    lowered = text.lower()
    return next((name for pattern, name in table if re.search(pattern, lowered)), "")
