"""The attention variants: one module each, found by looking at this folder.

Each module holds `VARIANT`. Names that start with an underscore are not variants.
"""

import functools
import importlib
import pkgutil

from attnbench.errors import unknown_name
from attnbench.variants._protocol import Variant


@functools.cache
def variant_names() -> tuple[str, ...]:
    """Names of the variants there are, sorted."""
    return tuple(
        sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))
    )


def load_variant(name: str) -> Variant:
    """The variant called `name`.

    Raises:
        UserError: there is none of that name.
    """
    if name not in variant_names():
        raise unknown_name("variant", name, variant_names(), see="attnbench variants")
    variant = importlib.import_module(f"{__name__}.{name}").VARIANT
    assert isinstance(variant, Variant)
    return variant
