"""What an explanation of a log is made of."""

import msgspec


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """A printed figure beside the rebuilt one. `term` says what differs, or what is missing."""

    name: str
    printed: float
    rebuilt: float | None = None
    relative_error: float | None = None
    agrees: bool | None = None
    term: str | None = None


class Explained(msgspec.Struct, frozen=True, kw_only=True):
    """One server of a log: what it was given, its figures, and what is easily misread."""

    engine: str
    version: str | None
    model: str | None
    line: int
    inputs: dict[str, str | float | None]
    figures: tuple[Figure, ...]
    warnings: tuple[str, ...]
    missing: tuple[str, ...]
