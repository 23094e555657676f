"""Ranks configurations of a kernel by static facts: how the shipped defaults were found.

    python -m attnbench.aot.search --kernel flash_fwd --entry _flash_fwd_tma \\
        --target sm_90 --head-dim 128 --features plain,causal,all \\
        --grid block_m=64,128 --grid block_n=64,128 --grid num_warps=4,8 --grid num_stages=2,3

compiles every point of the grid with each set of features and prints a table, the best
first. What is fit to ship comes before what is not; then the exponentials under matrix
products where the target has such, then instructions per FLOP wanted, then CTAs an SM:
each the worst over the features. That order says what not to ship. Which of two clean
configurations is faster, only a GPU says (docs/kernels.md, "the model").
"""

import argparse
import itertools
import sys
from collections.abc import Callable, Sequence

import msgspec

from attnbench.aot.compile import Compiled, CompileJob, compile_ahead
from attnbench.aot.facts import KernelFacts, facts_of
from attnbench.errors import AttnbenchError, MachineError, UserError


class Ranked(msgspec.Struct, frozen=True, kw_only=True):
    """One configuration: the worst of its facts over the features, and why it is not fit."""

    config: dict[str, int]
    unfit: tuple[str, ...] = ()
    exp2_overlap: float = 0.0
    instructions_per_flop: float = float("inf")
    ctas_per_sm: int = 0
    registers: int = 0
    shared_bytes: int = 0

    def order(self) -> tuple[bool, float, float, int]:
        """The key to sort by, the best first."""
        overlapped = self.exp2_overlap >= _OVERLAPPED
        return bool(self.unfit), -overlapped, self.instructions_per_flop, -self.ctas_per_sm


_OVERLAPPED = 0.9


def grid_of(texts: Sequence[str]) -> list[dict[str, int]]:
    """Every configuration of axes like "block_m=64,128".

    Raises:
        UserError: an axis that cannot be read.
    """
    axes = {}
    for text in texts:
        name, equals, values = text.partition("=")
        try:
            axes[name] = [int(value) for value in values.split(",")]
        except ValueError:
            equals = ""
        if not equals:
            raise UserError(f"--grid: {text!r} is not like block_m=64,128")
    return [dict(zip(axes, point, strict=True)) for point in itertools.product(*axes.values())]


def rank(
    job: CompileJob,
    configs: Sequence[dict[str, int]],
    features: Sequence[str],
    *,
    compiled: Callable[[CompileJob], Compiled] = compile_ahead,
    read: Callable[[CompileJob, Compiled], KernelFacts] = facts_of,
) -> list[Ranked]:
    """`configs` of the kernel of `job`, the best first, each judged over all `features`."""
    found = []
    for config in configs:
        facts: list[KernelFacts] = []
        unfit: list[str] = []
        for name in features:
            wanted = msgspec.structs.replace(job, config=config, features=name)
            try:
                facts.append(read(wanted, compiled(wanted)))
            except MachineError as error:
                unfit.append(f"{name}: {str(error)[-80:]}")
            else:
                unfit += [f"{name}: {why}" for why in faults_of(facts[-1])]
        found.append(_worst(config, facts, unfit))
    return sorted(found, key=Ranked.order)


def faults_of(facts: KernelFacts) -> list[str]:
    """What makes a compiled kernel unfit to ship."""
    faults = []
    if facts.spill_bytes:
        faults.append(f"spills {facts.spill_bytes} B")
    if facts.shared_bytes > facts.shared_limit_bytes:
        faults.append(f"shared memory {facts.shared_bytes} B is over the limit")
    if facts.ctas_per_sm < 1:
        faults.append(f"no CTA fits an SM: {facts.ctas_limit}")
    if facts.mma is None:
        faults.append("no matrix instructions")
    if facts.mma_redundancy is not None and facts.mma_redundancy > 1.0:
        faults.append(f"redundancy {facts.mma_redundancy:.2f}")
    return faults


def _worst(config: dict[str, int], facts: list[KernelFacts], unfit: list[str]) -> Ranked:
    if not facts:
        return Ranked(config=config, unfit=tuple(unfit))
    per_flop = [f.loop_instructions_per_mma_flop for f in facts]
    return Ranked(
        config=config,
        unfit=tuple(unfit),
        exp2_overlap=min(f.exp2_overlap or 0.0 for f in facts),
        instructions_per_flop=max(float("inf") if n is None else n for n in per_flop),
        ctas_per_sm=min(f.ctas_per_sm for f in facts),
        registers=max(f.registers for f in facts),
        shared_bytes=max(f.shared_bytes for f in facts),
    )


def table_of(ranked: Sequence[Ranked]) -> str:
    """The ranking as a markdown table; instructions are per thousand FLOPs wanted."""
    lines = [
        "| configuration | overlap | instr./kFLOP | CTAs/SM | registers | shared, KiB | unfit |",
        "| --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for r in ranked:
        name = " ".join(f"{key}={value}" for key, value in r.config.items())
        lines.append(
            f"| {name} | {r.exp2_overlap:.2f} | {r.instructions_per_flop * 1e3:.3f} |"
            f" {r.ctas_per_sm} | {r.registers} | {r.shared_bytes / 1024:.0f} |"
            f" {'; '.join(r.unfit)} |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Search as the command line says; print the table; answer the exit code."""
    parser = argparse.ArgumentParser(prog="python -m attnbench.aot.search")
    parser.add_argument("--kernel", required=True, help="family: flash_fwd")
    parser.add_argument("--entry", help="JIT function; default: the target's first")
    parser.add_argument("--target", required=True, help="sm_90")
    parser.add_argument("--head-dim", type=int, required=True)
    parser.add_argument("--dtype", default="bfloat16", help="torch's name")
    parser.add_argument("--features", default="plain,causal,all", help="sets of features")
    parser.add_argument("--grid", action="append", required=True, help="axis: block_m=64,128")
    asked = parser.parse_args(arguments)
    job = CompileJob(
        kernel=asked.kernel,
        entry=asked.entry,
        target=asked.target,
        head_dim=asked.head_dim,
        dtype=asked.dtype,
    )
    try:
        ranked = rank(job, grid_of(asked.grid), asked.features.split(","))
    except AttnbenchError as error:
        print(error, file=sys.stderr)
        return 2
    print(table_of(ranked))
    return 0


if __name__ == "__main__":
    sys.exit(main())
