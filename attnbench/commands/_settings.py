"""`--params` and `--window`: a variant's own settings from the command line."""

import msgspec

from attnbench.errors import UserError, unknown_name
from attnbench.variants._protocol import Params, ParamValue, Variant


def settings_of(variant: Variant, params: str | None, window: int | None) -> Params:
    """The variant's defaults with `params`, "key=value,...", and `window` put in.

    `window` is put in where the variant has one and says nothing elsewhere.

    Raises:
        UserError: a key that the variant has not got, or a value of another type.
    """
    settings: dict[str, ParamValue] = dict(variant.defaults)
    if window is not None and "window" in settings:
        settings["window"] = window
    for part in (params or "").split(","):
        if not part.strip():
            continue
        key, equals, text = (word.strip() for word in part.partition("="))
        if not equals:
            raise UserError(f"--params: {part!r} is not key=value", hint="Write window=256,sink=4.")
        if key not in settings:
            raise unknown_name(f"setting of {variant.name}", key, settings or ["none"])
        settings[key] = _value(variant, key, text)
    return settings


def _value(variant: Variant, key: str, text: str) -> ParamValue:
    kind = type(variant.defaults[key])
    try:
        value: ParamValue = msgspec.convert(text, kind, strict=False)
    except msgspec.ValidationError:
        raise UserError(
            f"--params: {variant.name}'s {key}: {text!r} is not {_NOUN[kind]}",
            hint=f"Its default is {variant.defaults[key]}.",
        ) from None
    least = 1 if key in _AT_LEAST_ONE else 0
    if kind is int and isinstance(value, int) and value < least:
        raise UserError(f"--params: {variant.name}'s {key}: {value} is under {least}")
    return value


_AT_LEAST_ONE = {"window", "dilation", "block", "features", "rank"}


_NOUN = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
