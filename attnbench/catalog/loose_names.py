"""Models and GPUs as people and logs write them, for profiles that we have."""

import re

from attnbench.catalog import profiles
from attnbench.catalog.hardware import gpu_names, load_gpu
from attnbench.spec.hardware import HardwareSpec


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# What a checkpoint's name says of its format or tuning, and not of its shape.
_FORMATS = _words(
    "fp8 dynamic block static nvfp4 mxfp4 fp4 awq gptq autoround int4 int8 4bit 8bit bnb "
    "w4a16 w8a8 w8a16 a8 bf16 fp16 gguf quantized modelopt exl2 marlin mtp eagle eagle3 "
    "drafter unsloth g32 g64 g128 hf tensor channel per int4a16 kv mixed fast nf4 smoothquant"
)
_TUNING = _words(
    "instruct it chat base thinking think preview research sft dpo grpo rl exp 4k 8k 16k "
    "32k 128k 1m 2407 2410 2501 2503 2506 2507 2512 0528 0324 1124 0425 0325 "
    "2411 2509 pt merged text reasoning abliterated finetuned finetune"
)
_LINES = _words("coder math code embedding reranker guard")
_PREFIXES = ("meta-", "mistral-community-", "google-", "openai-", "nvidia-", "ai21-", "qwen-")
_RELEASE = re.compile(r"v\d+(?:\.\d+)*")
_GGUF = re.compile(r"-i?q\d(?:-[a-z0-9]{1,3}){0,3}$")

# Models of one shape under another name; distilled models have their student's.
_SAME = {
    "qwen3.6-27b": "qwen3.5-27b",
    "qwen3.8-27b": "qwen3.5-27b",
    "qwen3.6-35b-a3b": "qwen3.5-35b-a3b",
    "minimax-m2": "minimax-m2.5",
    "minimax-m2.1": "minimax-m2.5",
    "minimax-m2.7": "minimax-m2.5",
    "glm-5": "glm-5.1",
    "kimi-k2.6": "kimi-k2.5",
    "kimi-k2.7": "kimi-k2.5",
    "glm-5.3": "glm-5.2",
    "glm-4.6": "glm-4.5",
    "glm-4.7": "glm-4.5",
    "qwen3-coder-next": "qwen3-next-80b-a3b",
    "qwen3.6-9b": "qwen3.5-9b",
    "qwen3.6-122b-a10b": "qwen3.5-122b-a10b",
    "qwen3.8-35b-a3b": "qwen3.5-35b-a3b",
    "mistral-small": "mistral-small-24b",
    "mistral-small-3.2-24b": "mistral-small-3.1-24b",
    "magistral-small": "mistral-small-3.1-24b",
    "devstral-small": "mistral-small-24b",
    "mistral-large-2407": "mistral-large",
    "yi-1.5-34b": "yi-34b",
    "vicuna-7b": "llama-2-7b",
    "vicuna-13b": "llama-2-13b",
    "hermes-3-llama-3.1-8b": "llama-3.1-8b",
    "hermes-3-llama-3.1-70b": "llama-3.1-70b",
    "llama-3.1-nemotron-nano-8b": "llama-3.1-8b",
    "llama-3.1-nemotron-70b": "llama-3.1-70b",
    "phi-3.5-mini": "phi-3-mini",
    "jamba-mini-1.6": "jamba-1.5-mini",
    "jamba-large-1.6": "jamba-1.5-large",
    "deepseek-r1-qwen3-8b": "qwen3-8b",
    "deepseek-v3.1-terminus": "deepseek-v3",
    "deepseek-v3.2-exp": "deepseek-v3.2",
    "gpt-oss-safeguard-20b": "gpt-oss-20b",
    "gpt-oss-safeguard-120b": "gpt-oss-120b",
    "kimi-k2-think": "kimi-k2",
    "deepseek-v3.1": "deepseek-v3",
    "qwen2-7b": "qwen2.5-7b",
    "qwen2-72b": "qwen2.5-72b",
    "qwen2.5-0.5b": "qwen2-0.5b",
    "qwq-32b": "qwen2.5-32b",
    "llama-4-scout-17b-16e": "llama-4-scout",
    "llama-4-maverick-17b-128e": "llama-4-maverick",
    "qwen2-1.5b": "qwen2.5-1.5b",
    "deepseek-r1-14b": "qwen2.5-14b",
    "deepseek-r1-32b": "qwen2.5-32b",
    "deepseek-r1-70b": "llama-3.3-70b",
    "deepseek-r1-distill-qwen-1.5b": "qwen2.5-1.5b",
    "deepseek-r1-distill-qwen-7b": "qwen2.5-7b",
    "deepseek-r1-distill-qwen-14b": "qwen2.5-14b",
    "deepseek-r1-distill-qwen-32b": "qwen2.5-32b",
    "deepseek-r1-distill-llama-8b": "llama-3.1-8b",
    "deepseek-r1-distill-llama-70b": "llama-3.3-70b",
}


def profile_for(text: str) -> str | None:
    """The profile of the model that `text` names; None where there is none.

    Organisation, quantisation, tuning and multi-token-prediction suffixes aside.

    >>> profile_for("RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8-dynamic")
    'llama-3.1-8b'
    """
    known = set(profiles.names())
    for name in _candidates(text):
        if name in known:
            return name
        if _SAME.get(name) in known:
            return _SAME[name]
    return None


def _candidates(text: str) -> list[str]:
    """Shorter and shorter names, the fullest first."""
    name = re.sub(r"\(.*?\)", "", text[:300].lower()).rstrip("/ ").rpartition("/")[2]
    name = name.replace("___", ".").replace("quantized.", "quantized-")
    name = re.sub(r"[\s_-]+", "-", name).strip("-").removesuffix(".gguf")
    name = _GGUF.sub("", name)
    found = [name]
    for dropped in (_TUNING, _FORMATS, _FORMATS | _TUNING, _FORMATS | _TUNING | _LINES):
        kept = [word for word in name.split("-") if word not in dropped]
        plain = [word for word in kept if not _RELEASE.fullmatch(word)]
        found += ["-".join(kept), "-".join(plain)]
    for prefix in _PREFIXES:
        found += [name.removeprefix(prefix) for name in found if name.startswith(prefix)]
    return list(dict.fromkeys(found))


_FORM = frozenset(["sxm", "pcie", "nvl", "sxm2", "blackwell", "generation"])
_OTHER_NAMES = (("dgx spark", "gb10"), ("sxm4", "sxm"), ("sxm5", "sxm"), ("hbm3e", ""))


def gpus_for(text: str) -> tuple[HardwareSpec, ...]:
    """Accelerators that `text` may mean, the least memory first; none where none fits.

    >>> [gpu.name for gpu in gpus_for("NVIDIA H100 80GB HBM3 (log: device_name)")]
    ['h100-sxm']
    """
    lowered = text[:200].lower()
    for old, new in _OTHER_NAMES:
        lowered = lowered.replace(old, new)
    said = set(re.findall(r"[a-z0-9.]+", lowered))
    said |= {f"{number}gb" for number in re.findall(r"\b(\d+)\s*g(?:i?b)?\b", lowered)}
    best: dict[tuple[int, int], list[str]] = {}
    for name in gpu_names():
        words = name.split("-")
        core = [w for w in words if w not in _FORM and not w.endswith("gb")]
        if not set(core) <= said:
            continue
        sizes = [w for w in words if w.endswith("gb")]
        if sizes and any(w[:-2].isdigit() for w in said if w.endswith("gb")):
            matched = 1 if set(sizes) & said else -1
        else:
            matched = 0
        form = sum(w in said for w in words if w in _FORM) + (0.5 if "sxm" in words else 0)
        best.setdefault((len(core), matched), []).append(f"{form:04.1f} {name}")
    if not best:
        return ()
    top = max(best)
    forms = [entry.split(" ") for entry in best[top]]
    most = max(form for form, _ in forms)
    found = [load_gpu(name) for form, name in forms if form == most]
    return tuple(sorted(found, key=lambda gpu: gpu.memory_bytes))
