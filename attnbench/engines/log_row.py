"""A server of a log as a row of a corpus, so that one code rebuilds both."""

from attnbench.catalog.engine_log import Server
from attnbench.catalog.engine_rows import LogRow, Reported


def count(server: Server, key: str) -> int | None:
    """The first value of `key` as a whole number."""
    value = server.number(key)
    return None if value is None else int(value)


def _ranks(server: Server, key: str) -> int:
    return min(max(count(server, key) or 1, 1), 1 << 16)


def row_of(server: Server) -> LogRow:
    """The start of `server` as a row, with what the log leaves out left out."""
    dtype, packed = server.text("dtype") or "auto", server.text("quantization")
    length = count(server, "concurrency_for_tokens") or count(server, "max_model_len")
    kv = server.numbers("kv_cache_gib")
    both = server.number("k_gib"), server.number("v_gib")
    if both[0] is not None and both[1] is not None:
        kv = [both[0] + both[1]]
    speculative = count(server, "speculative")
    return LogRow(
        id="log",
        model=server.text("model") or "",
        engine=server.engine,
        engine_version=server.text("version"),
        gpu_total_gib=server.number("gpu_total_gib"),
        tp=_ranks(server, "tp"),
        pp=_ranks(server, "pp"),
        dcp=_ranks(server, "dcp"),
        weight_dtype=dtype + (f" / quantization={packed}" if packed else ""),
        kv_dtype=server.text("cache_dtype") or server.text("kv_dtype"),
        gpu_memory_utilization=server.number("utilization"),
        max_model_len=length,
        max_num_batched_tokens=count(server, "max_num_batched_tokens"),
        max_num_seqs=count(server, "max_num_seqs"),
        num_speculative_tokens=speculative,
        enforce_eager=server.text("enforce_eager"),
        reported=Reported(
            weights_gib=server.number("weights_gib"),
            kv_cache_gib=min(kv) if kv else None,
            kv_cache_gib_all_ranks=tuple(kv) if len(kv) > 1 else (),
            gpu_blocks=count(server, "gpu_blocks"),
            block_size=count(server, "block_size"),
            kv_tokens=count(server, "kv_tokens") or count(server, "max_total_tokens"),
            max_concurrency=server.number("max_concurrency"),
            concurrency_for_tokens=length,
            activation_peak_gib=server.number("activation_peak_gib"),
            non_torch_gib=server.number("non_torch_gib"),
            cudagraph_gib=server.number("cudagraph_gib"),
        ),
    )
