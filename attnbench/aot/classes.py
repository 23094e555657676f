"""Machine instructions by the unit of an SM (CU) that runs them.

Source: CUDA Binary Utilities, "Instruction set reference" (what each opcode does); CUDA C++
Programming Guide, "Arithmetic instructions" (which share a rate); AMD Instinct MI300 ISA
guide, chapters 6, 7 and 11.
"""

import re
from collections import Counter
from collections.abc import Sequence

from attnbench.aot.loops import Instruction

# In order: the first that fits. NVIDIA's are matched against the opcode's first word.
_NVIDIA = (
    ("mma", r"[HQIDB]G?MMA|UTC\w*MMA"),
    ("mufu", r"MUFU"),
    ("local", r"LDL|STL"),
    ("shared", r"LDS|STS|LDSM|STSM|SHFL|ATOMS"),
    ("tensor_memory", r"LDTM|STTM|UTCCP"),
    ("global", r"LDG|STG|LD|ST|LDGSTS|UTMA\w+|UBLKCP|RED\w*|ATOMG?|CCTL"),
    ("sync", r"BAR|\w*DEPBAR|WARPGROUP|WARPSYNC|SYNCS|UTCBAR|FENCE|MEMBAR|NANOSLEEP|ERRBAR"),
    ("branch", r"BRA|BRX|BSSY|BSYNC|CALL|RET|EXIT|BREAK|ELECT|YIELD"),
    ("uniform", r"U[A-Z]\w*|R2UR|S2UR|CS2UR"),
    ("fp32", r"F(ADD|MUL|FMA)2?|FSWZADD|H(ADD2|MUL2|FMA2)\w*|IMAD|D(ADD|MUL|FMA)"),
    ("alu", r"I(ADD|SETP|MNMX|ABS|DP)\w*|V(IADD|IMNMX)\w*|LOP3|PLOP3|SHF|SHL|SHR"
            r"|F(SETP|MNMX|SEL)\w*|PRMT|SEL|MOV\w*|LEA|F2\w+|I2\w+|P2R|R2P|POPC|FLO|BREV|BMSK|SGXT|CS2R|S2R"
            r"|H(SETP2|MNMX2)\w*"),
)  # fmt: skip
_AMD = (
    ("mma", r"v_mfma\w*|v_smfmac\w*"),
    ("mufu", r"v_(exp|log|rcp|rsq|sqrt|sin|cos)_\w+"),
    ("local", r"scratch_\w+"),
    ("shared", r"ds_\w+"),
    ("global", r"(buffer|global|flat)_\w+"),
    ("sync", r"s_barrier\w*|s_waitcnt\w*|s_nop|s_sleep|s_setprio|s_sched\w*"),
    ("branch", r"s_c?branch\w*|s_endpgm|s_(call|swappc|setpc)\w*"),
    ("uniform", r"s_\w+"),
    ("fp32", r"v_(pk_)?(add|sub|subrev|mul|fma\w*|mac|max3?|min3?)_(legacy_)?f(16|32|64)\w*"),
    ("alu", r"v_\w+"),
)
CLASSES = ("mma", "mufu", "fp32", "alu", "shared", "tensor_memory", "global", "local", "sync",
           "branch", "uniform", "other")  # fmt: skip
_BITS = re.compile(r"[._](?:b|x|dwordx)?(64|96|128|256)\b")


def class_of(op: str) -> str:
    """The class, of `CLASSES`, of an opcode.

    >>> class_of("MUFU.EX2"), class_of("v_exp_f32_e32"), class_of("LDGSTS.E.BYPASS.128")
    ('mufu', 'mufu', 'global')
    """
    table, word = (_AMD, op) if op[:1].islower() else (_NVIDIA, op.partition(".")[0])
    return next((name for name, pattern in table if re.fullmatch(pattern, word)), "other")


def count_classes(code: Sequence[Instruction]) -> dict[str, int]:
    """Instructions of `code` by class; classes with none are left out."""
    counts = Counter(class_of(c.op) for c in code)
    return {name: counts[name] for name in CLASSES if counts[name]}


def shared_bytes(op: str) -> int:
    """Bytes of shared memory (LDS) that one warp's (wave's) instruction `op` moves.

    Without bank conflicts; a store or a word narrower than 32 bits takes a whole bank.

    >>> shared_bytes("LDSM.16.MT88.4"), shared_bytes("LDS.128"), shared_bytes("ds_read_b128")
    (512, 512, 1024)
    """
    lanes = 64 if op[:1].islower() else 32
    if op.startswith(("LDSM", "STSM")):
        last = op.rpartition(".")[2]
        return 128 * (int(last) if last in ("2", "4") else 1)  # 8×8 matrices of 16 bits
    bits = int(width[1]) if (width := _BITS.search(op)) else 32
    pairs = 2 if op.startswith(("ds_read2", "ds_write2")) else 1
    return lanes * bits // 8 * pairs
