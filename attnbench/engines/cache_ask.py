"""What is asked of an engine's cache: the engine, its release, its options."""

import msgspec

from attnbench.calc.engine_kinds import Placed, placed
from attnbench.calc.engine_pages import StateMode
from attnbench.calc.kv_answer import KvAnswer
from attnbench.calc.stages import held_by
from attnbench.catalog import load_model
from attnbench.engines import llama_cpp, sglang, vllm
from attnbench.engines.options import Options, check
from attnbench.errors import UserError, unknown_name
from attnbench.spec.dtype import Dtype
from attnbench.spec.model import Cross, ModelSpec

ENGINES = (vllm.NAME, sglang.NAME, llama_cpp.NAME)
_EXAMPLES = {vllm.NAME: "0.12.0", sglang.NAME: "0.5.6"}
_LLAMA_TYPES = {Dtype.INT8: "q8_0", Dtype.INT4: "q4_0", Dtype.FP32: "f32"}


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for: an engine and its release, and its own options.

    `drafter` are the layers of a draft model that keep a cache beside the model's.
    """

    engine: str
    version: str | None = None
    max_num_batched_tokens: int | None = None
    options: Options = Options()
    drafter: tuple[Placed, ...] = ()


def ask_of(semantics: str, options: Options, step: int | None, others: tuple[str, ...] = ()) -> Ask:
    """What `--semantics ENGINE` and an engine's options ask for.

    Raises:
        UserError: no such engine, or an option that it does not have.
    """
    engine, version = parse_engine(semantics, others)
    check(engine, options)
    return Ask(
        engine=engine,
        version=version,
        max_num_batched_tokens=step,
        options=options,
        drafter=drafter_of(options),
    )


def drafter_of(options: Options) -> tuple[Placed, ...]:
    """The layers of the draft model that `options` name.

    Raises:
        UserError: there is no such model.
    """
    return placed(load_model(options.draft_model)) if options.draft_model else ()


def mode_of(options: Options) -> StateMode | None:
    """The mode of states asked for; None is the release's.

    Raises:
        UserError: there is no such mode.
    """
    if options.state_mode is None:
        return None
    if options.state_mode not in list(StateMode):
        raise unknown_name("--state-mode", options.state_mode, [str(mode) for mode in StateMode])
    return StateMode(options.state_mode)


def parse_engine(
    text: str, others: tuple[str, ...] = (), *, what: str = "--semantics"
) -> tuple[str, str | None]:
    """The engine and release of `vllm@0.12.0`; the release may be left out.

    Raises:
        UserError: no such engine, or no such release.
    """
    engine, at, version = text.partition("@")
    if engine not in ENGINES:
        raise unknown_name(what, text, [*others, *ENGINES])
    if at and vllm.version_of(version) is None:
        example = "llama.cpp@b6150" if engine == llama_cpp.NAME else f"{engine}@{_EXAMPLES[engine]}"
        raise UserError(f"{what}: {version!r} is no release", hint=f"Write {example}.")
    return engine, version or None


def ggml_type(dtype: Dtype) -> str:
    """The ggml type of a cache in `dtype`.

    Raises:
        UserError: llama.cpp has no such cache.
    """
    if dtype.bits < 16 and dtype not in _LLAMA_TYPES:
        raise UserError(f"--kv-dtype: llama.cpp has no {dtype} cache", hint="Try int8 (q8_0).")
    return _LLAMA_TYPES.get(dtype, "f16")


def name(ask: Ask) -> str:
    """The engine with its release."""
    return f"{ask.engine}@{ask.version}" if ask.version else ask.engine


def about(base: KvAnswer) -> str:
    """What every answer rests on."""
    return f"Keys and values in {base.kv_dtype}, batch and length as given."


def own(model: ModelSpec) -> tuple[Placed, ...]:
    """Mixers that cache a sequence's own tokens; what an encoder left counts as ideal."""
    return tuple((mixer, at) for mixer, at in placed(model) if not isinstance(mixer, Cross))


def on(layers: tuple[Placed, ...], stage: range) -> tuple[Placed, ...]:
    """Those of `layers` that `stage` holds."""
    return tuple((mixer, held_by(stage, indices)) for mixer, indices in layers)
