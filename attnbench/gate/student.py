"""Student's t and two relatives of the gamma function, from scipy when first used."""

import importlib
from typing import Any

from attnbench.errors import missing_extra


def _special() -> Any:
    try:
        return importlib.import_module("scipy.special")
    except ImportError:
        raise missing_extra("scipy", "bench") from None


def quantile(dof: float, probability: float) -> float:
    """The value that Student's t with `dof` stays under with `probability`."""
    return float(_special().stdtrit(dof, probability))


def upper_tail(dof: float, value: float) -> float:
    """The probability that Student's t with `dof` is over `value`."""
    return float(_special().stdtr(dof, -value))


def digamma(x: float) -> float:
    """Derivative of log gamma."""
    return float(_special().digamma(x))


def trigamma(x: float) -> float:
    """Second derivative of log gamma: Hurwitz's zeta(2, x)."""
    return float(_special().zeta(2.0, x))
