"""A user's own Triton kernel, compiled ahead of time like ours: `--peer FILE.py:FUNCTION`.

How to call it stands in a YAML file, or beside it in the file as `<FUNCTION>_call`: a dict,
or a function of the target that returns one.

    arguments:             # what the call passes, by name
      Q: {tensor: fp16, shape: [1, 8, 4096, 128]}        # a pointer
      K_desc: {descriptor: fp16, shape: [32768, 128], block: [BLOCK_N, 128]}
      stride_m: 128                                      # specialised as a real call's
      HEAD_DIM: 128                                      # a tl.constexpr as well
    options: {num_warps: 8, num_stages: 2}               # not for an autotuned kernel
    products: [[BLOCK_M, BLOCK_N, HEAD_DIM], [BLOCK_M, HEAD_DIM, BLOCK_N]]
    head_dim: 128

`products` are the matrix products, m, n, k, that one program needs in an iteration of its
main loop, in numbers or names of arguments; without them no redundancy can be told. Of an
autotuned kernel each configuration that its own pruning leaves is compiled.

The file is run, by child processes alone, with a stub in place of the driver.
"""

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from attnbench.errors import UserError

_DTYPES = {"fp16": "float16", "bf16": "bfloat16", "fp32": "float32", "fp64": "float64",
           "fp8_e4m3": "float8_e4m3fn", "fp8_e5m2": "float8_e5m2"}  # fmt: skip


class Call(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a kernel is called: see the module."""

    arguments: dict[str, Any]
    options: dict[str, Any] = {}
    products: list[tuple[int | str, int | str, int | str]] = []
    head_dim: int | None = None


class PeerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One configuration of a peer: its place among the kernel's, and its fields."""

    index: int
    fields: dict[str, int]


def parse_peer(text: str) -> tuple[Path, str]:
    """FILE.py:FUNCTION taken apart; the file is there.

    Raises:
        UserError: it is not of that form, or there is no such file.
    """
    file, _, name = text.rpartition(":")
    if not file or not name.isidentifier():
        raise UserError(
            f"--peer: {text!r} is not FILE.py:FUNCTION", hint="As in --peer my.py:_attention_fwd."
        )
    path = Path(file).absolute()
    if not path.is_file():
        raise UserError(f"--peer: {file}: no such file")
    return path, name


def read_call(path: Path) -> dict[str, Any]:
    """The YAML file that says how a peer is called.

    Raises:
        UserError: it cannot be read, or does not say that.
    """
    import yaml

    try:
        given = yaml.safe_load(path.read_text())
        msgspec.convert(given, Call)
    except OSError as error:
        raise UserError(f"--peer-call: {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise UserError(f"--peer-call: {path}: {' '.join(str(error).split())}") from None
    return dict(given)


class Peer:
    """A kernel of the file, taken out of the autotuner and heuristics around it."""

    def __init__(self, path: str, name: str, target: str, call: Mapping[str, Any] | None) -> None:
        module = _run(Path(path))
        if not hasattr(module, name):
            raise UserError(f"{Path(path).name} has no {name}")
        outer = getattr(module, name)
        given = call if call is not None else getattr(module, f"{name}_call", None)
        if given is None:
            raise UserError(
                f"{Path(path).name}: how is {name} called? Say it in {name}_call = {{...}} there, "
                "or in --peer-call FILE.yaml (docs/kernels.md)"
            )
        self.call = msgspec.convert(given(target) if callable(given) else given, Call)
        self._tuner = self._heuristics = None
        kernel = outer
        while hasattr(kernel, "fn") and not _is_jit(kernel):
            if hasattr(kernel, "configs"):
                self._tuner = kernel
            elif hasattr(kernel, "values"):
                self._heuristics = kernel
            kernel = kernel.fn
        if not _is_jit(kernel):
            raise UserError(f"{Path(path).name}:{name} is no @triton.jit function")
        self.kernel = kernel

    def configs(self) -> list[PeerConfig]:
        """Its configurations; of one that is not autotuned, its options."""
        if self._tuner is None:
            options = self.call.options
            named = {"num_warps": options.get("num_warps", 4),
                     "num_stages": options.get("num_stages", 3)}  # fmt: skip
            sizes = {k: v for k, v in self.call.arguments.items() if k.isupper()}
            kept = {k: v for k, v in {**sizes, **named}.items() if isinstance(v, int)}
            return [PeerConfig(index=0, fields=kept)]
        return [PeerConfig(index=i, fields=_fields(c)) for i, c in enumerate(self._pruned())]

    def launch(self, index: int) -> tuple[Any, dict[str, Any], dict[str, Any], int | None]:
        """The JIT function, arguments, options and useful FLOPs of configuration `index`."""
        constants = {k: v for k, v in self.call.arguments.items() if isinstance(v, int)}
        options, hook = dict(self.call.options), None
        if self._tuner is not None:
            config = self._pruned()[index]
            constants |= config.kwargs
            every = config.all_kwargs()
            options |= {k: v for k, v in every.items() if k not in config.kwargs}
            hook = config.pre_hook
        arguments = {k: _value(v, constants) for k, v in self.call.arguments.items()}
        arguments |= {k: v for k, v in constants.items() if k not in arguments}
        if hook is not None:
            hook(arguments)
        if self._heuristics is not None:
            for name, decide in self._heuristics.values.items():
                arguments[name] = constants[name] = decide(arguments)
        sizes = {**constants, **{k: v for k, v in arguments.items() if isinstance(v, int)}}
        useful = sum(2 * _size(m, sizes) * _size(n, sizes) * _size(k, sizes)
                     for m, n, k in self.call.products)  # fmt: skip
        return self.kernel, arguments, options, useful or None

    def _pruned(self) -> Sequence[Any]:
        tuner: Any = self._tuner
        if tuner.early_config_prune is None:
            return list(tuner.configs)
        blocks: dict[str, int] = {}
        arguments = {k: _value(v, blocks, bare=True) for k, v in self.call.arguments.items()}
        return list(tuner.early_config_prune(tuner.configs, arguments))


def _is_jit(kernel: Any) -> bool:
    from triton.runtime.jit import JITFunction

    return isinstance(kernel, JITFunction)


def _fields(config: Any) -> dict[str, int]:
    fields = {**config.kwargs, "num_warps": config.num_warps, "num_stages": config.num_stages}
    return {name: value for name, value in fields.items() if isinstance(value, int)}


def _value(given: Any, sizes: Mapping[str, int], *, bare: bool = False) -> Any:
    """An argument: a tensor or descriptor where `given` describes one, else itself."""
    if not isinstance(given, Mapping):
        return given
    import torch

    def size(n: int | str) -> int:
        return 16 if bare and isinstance(n, str) and n not in sizes else _size(n, sizes)

    kind = "descriptor" if "descriptor" in given else "tensor"
    if kind not in given or "shape" not in given or (kind == "descriptor") != ("block" in given):
        raise UserError(f"an argument is {dict(given)}; write tensor: and shape:, or descriptor:, "
                        "shape: and block:")  # fmt: skip
    name = _DTYPES.get(given[kind], given[kind])
    dtype = getattr(torch, str(name), None)
    if not isinstance(dtype, torch.dtype):
        raise UserError(f"an argument's dtype is {given[kind]!r}; as in fp16, bf16, fp32, int32")
    # No memory is touched: a tensor stands for its dtype, its strides and an aligned pointer.
    shape = [size(n) for n in given["shape"]]
    tensor = torch.empty_strided(shape, given["strides"], dtype=dtype) if "strides" in given \
        else torch.empty(shape, dtype=dtype)  # fmt: skip
    if kind == "tensor":
        return tensor
    from triton.tools.tensor_descriptor import TensorDescriptor

    return TensorDescriptor.from_tensor(tensor, [size(n) for n in given["block"]])


def _size(given: int | str, sizes: Mapping[str, int]) -> int:
    if isinstance(given, int):
        return given
    if given not in sizes:
        raise UserError(f"{given!r} is no whole number among the arguments")
    return sizes[given]


def _run(path: Path) -> Any:
    """The file's module; files beside it can be imported."""
    name = f"attnbench_peer_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path.name}: not a Python file; its name should end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.append(str(path.parent))
    spec.loader.exec_module(module)
    return module
