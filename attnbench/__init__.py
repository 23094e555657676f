"""attnbench: plan an LLM's memory, measure attention, gate regressions.

    from attnbench import kv_cache, memory, model, plan

They are imported when they are first asked for: `import attnbench` loads nothing.
"""

from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["__version__", "kv_cache", "memory", "model", "plan"]

if TYPE_CHECKING:
    from attnbench.api import kv_cache, memory, model
    from attnbench.api_plan import plan
else:  # a checker would take every name for known

    def __getattr__(name: str) -> object:
        if name == "plan":
            from attnbench import api_plan

            return api_plan.plan
        if name in __all__:
            from attnbench import api

            return getattr(api, name)
        raise AttributeError(f"module 'attnbench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
