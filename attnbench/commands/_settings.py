"""`--params` and `--window`: variants' own settings from the command line."""

from attnbench.errors import UserError
from attnbench.variants._protocol import Params, ParamValue, Variant
from attnbench.variants._settings import settings_of


def variant_settings(variant: Variant, params: str | None, window: int | None) -> Params:
    """The variant's settings with `params`, "key=value,...", and `window` put in.

    `window` is put in where the variant has one and says nothing elsewhere.

    Raises:
        UserError: text that is no such list, or a setting that the variant refuses.
    """
    given: dict[str, ParamValue] = {}
    if window is not None and "window" in variant.defaults:
        given["window"] = window
    return settings_of(variant, {**given, **parse_settings(params or "")})


def parse_settings(text: str) -> dict[str, ParamValue]:
    """Settings in "window=256,shared=true".

    Raises:
        UserError: a part is not key=value.
    """
    found = {}
    for part in filter(str.strip, text.split(",")):
        key, equals, value = (word.strip() for word in part.partition("="))
        if not equals:
            raise UserError(f"--params: {part!r} is not key=value", hint="Write window=256,sink=4.")
        found[key] = _value(value)
    return found


def _value(text: str) -> ParamValue:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
