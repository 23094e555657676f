"""Options that only engines have."""

import msgspec

from attnbench.errors import UserError

DS_MLA = "fp8_ds_mla"


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """An engine's own options; each engine refuses those it does not have."""

    utilization: float | None = None
    page_size: int | None = None
    dcp: int = 1
    speculative: int = 0
    drafts: int = 0
    draft_model: str | None = None
    ds_mla: bool = False
    state_mode: str | None = None
    unified: bool = False
    gpu_layers: int | None = None


FLAGS = {
    "page_size": "--page-size", "dcp": "--dcp", "speculative": "--speculative-tokens",
    "drafts": "--draft-layers",
    "draft_model": "--draft-model", "ds_mla": f"--kv-dtype {DS_MLA}", "unified": "--kv-unified",
    "gpu_layers": "--gpu-layers", "state_mode": "--state-mode",
}  # fmt: skip


_OWN = {
    "vllm": {"page_size", "dcp", "speculative", "drafts", "draft_model", "ds_mla", "state_mode"},
    "sglang": {"page_size", "speculative", "drafts", "draft_model"},
    "llama.cpp": {"unified", "gpu_layers"},
}


def check(engine: str, options: Options) -> None:
    """Refuse options that `engine` does not have.

    Raises:
        UserError: naming the first of them.
    """
    for key in given(options):
        if key not in _OWN[engine]:
            raise UserError(f"{FLAGS[key]}: {engine} has no such option")


def given(options: Options) -> list[str]:
    """The names of the options that were given, `utilization` apart."""
    plain = Options()
    return [key for key in FLAGS if getattr(options, key) != getattr(plain, key)]


def refuse_without_engine(options: Options, solve: str | None) -> None:
    """Refuse what only an engine answers to.

    Raises:
        UserError: `--solve`, or an engine's option.
    """
    flags = [FLAGS[key] for key in given(options)] + (["--solve"] if solve else [])
    if flags:
        raise UserError(f"{flags[0]} needs --engine", hint="Say --engine vllm and --gpu.")


def refuse_without_semantics(options: Options, step: int | None, semantics: str) -> None:
    """Refuse what only an engine's semantics have.

    Raises:
        UserError: an engine's option, or the tokens of a step.
    """
    if given(options) or step:
        raise UserError(
            f"--semantics {semantics} has no pages, steps or drafts",
            hint="Say --semantics vllm, sglang or llama.cpp.",
        )


def cache_format(text: str | None) -> tuple[str | None, bool]:
    """The dtype of a cache, and whether it is in the fp8_ds_mla format.

    >>> cache_format("fp8_ds_mla")
    ('fp8_e4m3', True)
    """
    if text is not None and text.strip().lower() == DS_MLA:
        return "fp8_e4m3", True
    return text, False
