"""What an hour of a GPU costs: prices that a page listed, each with the page and the day."""

from functools import cache
from pathlib import Path

import msgspec

from attnbench import profiles
from attnbench.catalog.yaml_file import read_yaml

_FILE = Path(next(iter(profiles.__path__))) / "prices.yaml"


class Price(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """USD an hour of one GPU, on demand, and where and when it was read."""

    usd_per_hour: float
    source: str


class Prices(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Prices by GPU."""

    prices: dict[str, Price]


@cache
def prices() -> dict[str, Price]:
    """The prices shipped, by GPU; one that no page was read for is not among them.

    >>> prices()["h100-sxm"].usd_per_hour
    3.99
    """
    return read_yaml(_FILE, Prices, label="profiles/prices.yaml").prices
