"""What engines print at start-up: phrases, patterns, and the figures they hold."""

import re
from collections.abc import Callable, Iterator, Mapping

import msgspec

ANSI = re.compile(r"\x1b\[[0-9;?]{0,16}[A-Za-z]|\x1b\][^\x07\x1b]{0,256}(?:\x07|\x1b\\)?|\r")

# A line is looked at only if it holds one of these.
PHRASES = (
    b"KV cache size", b"KV cache memory", b"KV Cache is ", b"KV buffer", b"GPU blocks",
    b"cuda blocks", b"Maximum concurrency", b"oading took", b"weights take", b"LLM engine (v",
    b"server version", b"non-default args", b"block size to", b"padding layers",
    b"o serve at least", b"max_total_num_tokens", b"Load weight ",
    b"apturing finished", b"server_args", b"llama_", b"print_info", b"load_tensors",
    b"memory utilization is", b"can use total_gpu", b"max_num_batched_tokens=", b"build: ",
    b"build = ", b"print_meta", b"#tokens: ", b"layer_tokens=", b"Mamba Cache is ",
)  # fmt: skip


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of one line. `starts`: the line may begin a server, if it repeats one of `once`."""

    engine: str
    values: Mapping[str, str | float]
    starts: bool = False
    once: frozenset[str] = frozenset()


_N = r"([\d][\d,]{0,18}(?:\.\d{1,9})?)"
_GIB = r"(-?\d{1,7}(?:\.\d{1,9})?) ?(Gi?B)"


def _amount(text: str) -> float:
    return float(text.replace(",", ""))


Reader = Callable[[re.Match[str]], dict[str, str | float]]


def _numbers(*keys: str) -> Reader:
    def read(found: re.Match[str]) -> dict[str, str | float]:
        return {
            key: _amount(value)
            for key, value in zip(keys, found.groups(), strict=True)
            if value is not None
        }

    return read


def _word(key: str) -> Reader:
    def read(found: re.Match[str]) -> dict[str, str | float]:
        return {key: found[1]}

    return read


def _sized(key: str) -> Reader:
    """A size with its unit: the unit is kept, since "GB" here means GiB."""

    def read(found: re.Match[str]) -> dict[str, str | float]:
        return {key: float(found[1]), "unit": found[2]}

    return read


_VLLM: tuple[tuple[re.Pattern[str], Reader], ...] = (
    (re.compile(rf"KV cache size: {_N} tokens"), _numbers("kv_tokens")),
    (re.compile(rf"vailable KV cache memory: {_GIB}"), _sized("kv_cache_gib")),
    (
        re.compile(rf"reserved for KV Cache is {_GIB}", re.IGNORECASE),
        _sized("kv_cache_gib"),
    ),
    (re.compile(rf"# (?:GPU|cuda) blocks: {_N}"), _numbers("gpu_blocks")),
    (
        re.compile(rf"aximum concurrency for {_N} tokens per request: {_N}x"),
        _numbers("concurrency_for_tokens", "max_concurrency"),
    ),
    (re.compile(rf"odel loading took {_GIB}"), _sized("weights_gib")),
    (re.compile(rf"oading model weights took {_GIB}"), _sized("weights_gib")),
    (re.compile(rf"odel weights take {_GIB}"), _sized("weights_gib")),
    (re.compile(rf"non_torch_memory takes {_GIB}"), _sized("non_torch_gib")),
    (re.compile(rf"activation peak memory takes {_GIB}"), _sized("activation_peak_gib")),
    (
        re.compile(rf"total_gpu_memory \({_N}Gi?B\) x gpu_memory_utilization \((\d\.\d+)\)"),
        _numbers("gpu_total_gib", "utilization"),
    ),
    (
        re.compile(rf"on device [^(]{{0,40}}\(\d+\.?\d*/{_N} GiB\)"),
        _numbers("gpu_total_gib"),
    ),
    (re.compile(r"memory utilization is \((\d\.\d+), "), _numbers("utilization")),
    (re.compile(rf"{_GIB} for peak activation"), _sized("activation_peak_gib")),
    (re.compile(rf"{_GIB} for non-torch"), _sized("non_torch_gib")),
    (re.compile(rf"apturing finished in .{{0,40}}took {_GIB}"), _sized("cudagraph_gib")),
    (re.compile(rf"attention block size to {_N} tokens"), _numbers("block_size")),
    (re.compile(rf"Add {_N} padding layers"), _numbers("padding_layers")),
    (re.compile(r"max seq len \((\d{1,15})\)"), _numbers("max_model_len")),
    (re.compile(rf"\(?{_GIB} KV\s+cache is needed"), _sized("needed_gib")),
    (re.compile(rf"available KV cache\s+memory \({_GIB}\)"), _sized("kv_cache_gib")),
    (re.compile(r"estimated maximum model length is (\d{1,15})"), _numbers("longest")),
    (re.compile(r"max_num_batched_tokens=(\d{1,15})"), _numbers("max_num_batched_tokens")),
)
_ENGINE = re.compile(r"LLM engine \(v([^)]{1,80})\)")
_API = re.compile(r"vLLM API server version (\S{1,80})")
_CONFIG: tuple[tuple[str, re.Pattern[str], bool], ...] = tuple(
    (key, re.compile(rf"(?<!\w){name}['\"]?\s*[=:]\s*['\"]?({pattern})"), numeric)
    for key, name, pattern, numeric in (
        ("model", "model(?:_path|_tag)?", r"[^'\",\s]{1,300}", False),
        ("dtype", "dtype", r"[\w.]{1,40}", False),
        ("max_model_len", "max_(?:seq|model)_len", r"\d{1,12}", True),
        ("tp", "(?:tensor_parallel|tp)_size", r"\d{1,6}", True),
        ("pp", "(?:pipeline_parallel|pp)_size", r"\d{1,6}", True),
        ("dcp", "decode_context_parallel_size", r"\d{1,6}", True),
        ("quantization", "quantization", r"[\w.-]{1,60}", False),
        ("kv_dtype", "kv_cache_dtype", r"[\w.]{1,40}", False),
        ("enforce_eager", "enforce_eager", r"\w{1,8}", False),
        (
            "utilization",
            "(?:gpu_memory_utilization|mem_fraction_static)",
            r"\d(?:\.\d{1,20})?",
            True,
        ),
        ("max_num_seqs", "max_num_seqs", r"\d{1,9}", True),
        ("max_num_batched_tokens", "max_num_batched_tokens", r"\d{1,9}", True),
        ("speculative", "num_speculative_tokens", r"\d{1,4}", True),
        ("speculative", "num_spec_tokens", r"\d{1,4}", True),
        ("prefix_caching", "enable_prefix_caching", r"\w{1,8}", False),
    )
)

_SGLANG: tuple[tuple[re.Pattern[str], Reader], ...] = (
    (
        re.compile(rf"#tokens: {_N}, K size: {_N} GB, V size: {_N} GB"),
        _numbers("kv_tokens", "k_gib", "v_gib"),
    ),
    (re.compile(rf"#tokens: {_N}, KV size: {_N} GB"), _numbers("kv_tokens", "kv_cache_gib")),
    (
        re.compile(r"full_layer_tokens=(\d{1,15}), swa_layer_tokens=(\d{1,15})"),
        _numbers("full_tokens", "window_tokens"),
    ),
    (
        re.compile(
            rf"max_mamba_cache_size: (\d{{1,9}}), conv_state size: {_N} ?GB, "
            rf"ssm_state size: {_N} ?GB"
        ),
        _numbers("states", "conv_gib", "recurrent_gib"),
    ),
    (re.compile(r"max_total_num_tokens=(\d{1,15})"), _numbers("max_total_tokens")),
    (re.compile(r"max_running_requests=(\d{1,9})"), _numbers("max_num_seqs")),
    (re.compile(r"chunked_prefill_size=(\d{1,9})"), _numbers("max_num_batched_tokens")),
    (re.compile(r"context_len=(\d{1,15})"), _numbers("max_model_len")),
    (re.compile(rf"Load weight begin.{{0,60}}avail mem={_N}"), _numbers("free_before_gib")),
    (re.compile(rf"Load weight end.{{0,300}}mem usage={_GIB}"), _sized("weights_gib")),
    (re.compile(rf"Load weight end.{{0,300}}avail mem={_N}"), _numbers("free_after_gib")),
)
_SGLANG_CACHE = re.compile(r"KV Cache.{0,40}dtype: (?:torch\.)?(\w{1,30}), #tokens")

_LLAMA: tuple[tuple[re.Pattern[str], Reader], ...] = (
    (
        re.compile(
            rf"size =\s*{_N} MiB \(\s*(\d{{1,15}}) cells,\s*(\d{{1,15}}) layers"
            rf",\s*\d+(?:/(\d{{1,15}}))? seqs\), K \([\w]+\):\s*{_N} MiB, V \([\w]+\):\s*{_N} MiB"
        ),
        _numbers("cache_mib", "cells", "cache_layers", "streams", "k_mib", "v_mib"),
    ),
    (
        re.compile(rf"KV self size\s*=\s*{_N} MiB, K \(\w+\):\s*{_N} MiB, V \(\w+\):\s*{_N} MiB"),
        _numbers("self_mib", "self_k_mib", "self_v_mib"),
    ),
    (
        re.compile(
            rf"size =\s*{_N} MiB \(\s*(\d{{1,15}}) cells,.{{0,60}}R \(f32\):\s*{_N} MiB, "
            rf"S \(f32\):\s*{_N} MiB"
        ),
        _numbers("state_mib", "state_cells", "conv_mib", "recurrent_mib"),
    ),
    (re.compile(rf"[KR][VS] buffer size =\s*{_N} MiB"), _numbers("buffer_mib")),
    (
        re.compile(rf"load_tensors:.{{0,60}}(?:model )?buffer size =\s*{_N} MiB"),
        _numbers("model_mib"),
    ),
    (re.compile(rf"compute buffer size =\s*{_N} MiB"), _numbers("compute_mib")),
    (re.compile(r"kv_unified\s*=\s*(\w{1,8})"), _word("unified")),
    (re.compile(r"\bn_swa\s*=\s*(\d{1,15})"), _numbers("n_swa")),
    (re.compile(r"\bn_ctx\s*=\s*(\d{1,15})"), _numbers("n_ctx")),
    (re.compile(r"\bn_ubatch\s*=\s*(\d{1,15})"), _numbers("n_ubatch")),
    (re.compile(r"\bn_seq_max\s*=\s*(\d{1,15})"), _numbers("n_seq_max")),
    (re.compile(r"\bn_layer\s*=\s*(\d{1,15})"), _numbers("n_layer")),
    (re.compile(r"\bn_embd_k_gqa\s*=\s*(\d{1,15})"), _numbers("n_embd_k_gqa")),
    (re.compile(r"\bn_embd_v_gqa\s*=\s*(\d{1,15})"), _numbers("n_embd_v_gqa")),
)
_LLAMA_TYPES = re.compile(r"K \((\w{1,10})\).{0,40}V \((\w{1,10})\)")
_LLAMA_NAME = re.compile(r"general\.name\s*(?:str\s*)?=\s*(.{1,200})")
_LLAMA_BUILD = re.compile(r"\bbuild(?:: | = |_info: b)(\d{1,7})\b")
_LLAMA_WORDS = (
    "llama_", "print_info", "print_meta", "load_tensors", "build: ", "build = ", "build_info:",
    "compute buffer size",
)  # fmt: skip
_SGLANG_WORDS = (
    "ServerArgs(", "Load weight ", "#tokens: ", "max_total_num_tokens", "layer_tokens=",
    "Mamba Cache is ",
)  # fmt: skip


def facts_of(line: str) -> Iterator[Facts]:
    """What a line says, none or once; patterns are tried on those of its engine alone."""
    if any(word in line for word in _SGLANG_WORDS):
        yield from _sglang(line)
    elif any(word in line for word in _LLAMA_WORDS):
        yield from _llama(line)
    else:
        yield from _vllm(line)


def _matches(
    table: tuple[tuple[re.Pattern[str], Reader], ...], line: str
) -> dict[str, str | float]:
    values: dict[str, str | float] = {}
    for pattern, read in table:
        found = pattern.search(line)
        if found is not None:
            values.update(read(found))
    return values


def _config(line: str) -> dict[str, str | float]:
    values: dict[str, str | float] = {}
    for key, pattern, numeric in _CONFIG:
        found = pattern.search(line)
        if found is not None and found[1] != "None" and key not in values:
            values[key] = float(found[1]) if numeric else found[1]
    return values


def _vllm(line: str) -> Iterator[Facts]:
    values = _matches(_VLLM, line)
    engine, server = _ENGINE.search(line), _API.search(line)
    starts, once = False, frozenset[str]()
    if engine is not None:
        values = {**values, **_config(line), "version": engine[1], "engine_line": 1.0}
        starts, once = True, frozenset({"engine_line"})
    elif server is not None:
        values["version"] = server[1]
        values["server_line"] = 1.0
        starts, once = True, frozenset({"server_line", "kv_tokens"})
    elif "non-default args" in line:
        values = {**values, **_config(line)}
    if values:
        yield Facts(engine="vllm", values=values, starts=starts, once=once)


def _sglang(line: str) -> Iterator[Facts]:
    values = _matches(_SGLANG, line)
    starts = "server_args" in line or "ServerArgs(" in line
    if starts:
        values = {**values, **_config(line), "engine_line": 1.0}
    cache = _SGLANG_CACHE.search(line)
    if cache is not None:
        values["cache_dtype"] = cache[1]
    if values:
        once = frozenset({"engine_line"})
        yield Facts(engine="sglang", values=values, starts=starts, once=once)


def _llama(line: str) -> Iterator[Facts]:
    values = _matches(_LLAMA, line)
    types, name, build = (p.search(line) for p in (_LLAMA_TYPES, _LLAMA_NAME, _LLAMA_BUILD))
    if types is not None:
        values["k_type"], values["v_type"] = types[1], types[2]
    if name is not None:
        values["model"] = name[1].strip()
    if build is not None:
        values["version"] = f"b{build[1]}"
        values["engine_line"] = 1.0
    if values:
        yield Facts(
            engine="llama.cpp",
            values=values,
            starts=build is not None,
            once=frozenset({"engine_line"}),
        )
