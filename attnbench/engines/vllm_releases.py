"""Which release of vLLM a text, a day, a page or a family of models means."""

import re

from attnbench.engines._versions import Version, parse_version

# First day of a release, for builds that give only a date; from 2026-03 on the day that the
# files in its wheel bear.
_RELEASED = (
    ("2024-01", (0, 2, 7)), ("2024-07", (0, 5, 3)), ("2024-09", (0, 6, 0)),
    ("2025-01-27", (0, 7, 0)), ("2025-04", (0, 8, 3)), ("2025-05-15", (0, 9, 0)),
    ("2025-07-24", (0, 10, 0)), ("2025-10-02", (0, 11, 0)), ("2025-12-03", (0, 12, 0)),
    ("2025-12-18", (0, 13, 0)), ("2026-01-20", (0, 14, 0)), ("2026-01-29", (0, 15, 0)),
    ("2026-03-11", (0, 17, 1)), ("2026-03-30", (0, 18, 1)), ("2026-05-08", (0, 20, 2)),
    ("2026-06-04", (0, 22, 1)), ("2026-06-29", (0, 24, 0)), ("2026-07-13", (0, 25, 1)),
    ("2026-07-25", (0, 26, 0)), ("2026-08-25", (0, 28, 0)), ("2026-09-22", (0, 30, 0)),
    ("2026-11-01", (0, 33, 0)),
)  # fmt: skip
_DATE = re.compile(r"\b(20\d\d-\d\d(?:-\d\d)?)\b")
_ZERO = re.compile(r"\bV0\b")
_LAST_ZERO: Version = (0, 7)


# The first release, of those read, whose `models/registry.py` has a family.
_HAS = (
    ((0, 8, 5), ("qwen3", "qwen3_moe", "gemma3", "gemma3_text", "llama4", "minimax")),
    ((0, 9, 2), ("gemma3n", "gemma3n_text", "nemotron_h", "granitemoehybrid", "falcon_h1")),
    ((0, 10, 2), ("gpt_oss", "qwen3_next", "seed_oss", "smollm3", "glm4_moe")),
    ((0, 11, 2), ("qwen3_vl", "qwen3_vl_moe", "deepseek_v32", "minimax_m2", "kimi_linear")),
    ((0, 15, 1), ("kimi_k25",)),
    ((0, 17, 1), ("qwen3_5", "qwen3_5_moe", "glm_moe_dsa")),
    ((0, 19), ("gemma4", "gemma4_text")),
)  # fmt: skip

# Numbers of issues and pull requests at GitHub on the day of a release: what a page that
# names no release was written of at the latest. Between 33,155 (2026-01-27), 37,192
# (2026-03-16), 41,695 (2026-05-05) and 53,770 (2026-08-25) in equal steps a day.
_NUMBERED = (
    (6_700, (0, 5, 3)), (8_150, (0, 6, 0)), (10_400, (0, 6, 4)), (12_450, (0, 7, 0)),
    (15_050, (0, 8, 0)), (18_800, (0, 9, 0)), (20_500, (0, 9, 2)), (21_500, (0, 10, 0)),
    (23_300, (0, 10, 1)), (24_800, (0, 10, 2)), (26_100, (0, 11, 0)), (29_950, (0, 12, 0)),
    (30_950, (0, 13, 0)), (32_700, (0, 14, 0)), (33_250, (0, 15, 0)),
    (36_700, (0, 17, 1)), (38_500, (0, 18, 1)), (41_900, (0, 20, 2)), (44_900, (0, 22, 1)),
    (47_600, (0, 24, 0)), (49_100, (0, 25, 1)), (50_400, (0, 26, 0)), (53_700, (0, 28, 0)),
)  # fmt: skip
_NUMBER = re.compile(r"github\.com/vllm-project/vllm/(?:issues|pull)/(\d{1,7})")
_NUMBERED_LIMIT = 57_000  # later numbers are of releases that the table does not date


def version_of(text: str | None) -> Version | None:
    """The release that `text` names, by its number, its engine (V0) or its date.

    >>> version_of("2025-11 build")
    (0, 11, 0)
    """
    named = parse_version(text)
    if named is not None or not text:
        return named
    if _ZERO.search(text):
        return _LAST_ZERO
    date = _DATE.search(text)
    found = None
    for since, version in _RELEASED:
        if date is not None and since <= date[1]:
            found = version
    return found


def has_since(family: str) -> Version | None:
    """The first release known to have models of `family`."""
    return next((version for version, families in _HAS if family in families), None)


def version_of_page(url: str) -> Version | None:
    """The newest release when an issue or pull request of vLLM was opened, by its number.

    >>> version_of_page("https://github.com/vllm-project/vllm/issues/10517")
    (0, 6, 4)
    """
    found = _NUMBER.search(url[:500])
    number = int(found[1]) if found else 0
    if number > _NUMBERED_LIMIT:
        return None
    return next((version for first, version in reversed(_NUMBERED) if first <= number), None)
