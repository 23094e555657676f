"""A variant's settings as a user gives them: known names, right types, sensible values."""

import contextlib
from collections.abc import Mapping, Sequence
from itertools import product

from attnbench.calc.score_features import PLAIN, score_features
from attnbench.errors import UserError, unknown_name
from attnbench.units import parse_lengths
from attnbench.variants._protocol import Params, ParamValue, Variant

ALL = "all"  # in place of a variant's name: every one that has the setting


def known_settings(variant: Variant) -> dict[str, ParamValue]:
    """Every setting that `variant` takes, with its default; a feature's is off."""
    return {**variant.defaults, **{f: getattr(PLAIN, f) for f in sorted(variant.features)}}


def settings_of(variant: Variant, given: Mapping[str, object]) -> Params:
    """The variant's settings with `given` in place of defaults; features that are off left out.

    Raises:
        UserError: a setting that it does not have, of another type, or too small.
    """
    known = known_settings(variant)
    made = dict(variant.defaults)
    for name, value in given.items():
        if name not in known:
            raise unknown_name(f"setting of {variant.name}", name, known, see="attnbench variants")
        made[name] = _checked(variant, name, value, known[name])
    features = score_features(made)  # values without meaning are refused
    off = variant.features - features.on
    return {name: value for name, value in made.items() if name not in off}


def _checked(variant: Variant, name: str, value: object, default: ParamValue) -> ParamValue:
    where = f"{variant.name}.{name}"
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not type(default):
        kinds = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
        raise UserError(f"{where}: {value!r} is not {kinds[type(default)]}")
    assert isinstance(value, bool | int | float | str)
    if isinstance(default, int) and not isinstance(value, bool | str) and name in variant.defaults:
        least = variant.least.get(name, 1)
        if value < least:
            raise UserError(f"{where}: {value} is under {least}")
    return value


def settings_by_variant(
    given: Mapping[str, Mapping[str, object]], variants: Sequence[Variant]
) -> dict[str, list[Params]]:
    """All settings that each of `variants` is asked to run with: every combination of lists.

    `given` maps a variant's name, or `all`, to settings; of `all` each variant takes
    those that it has, and its own go before them.

    Raises:
        UserError: a variant that is not among `variants`, or a setting none of them has.
    """
    names = [variant.name for variant in variants]
    for name in given:
        if name not in (*names, ALL):
            raise unknown_name("variant under params", name, [*names, ALL])
    shared = given.get(ALL, {})
    every = {setting for variant in variants for setting in known_settings(variant)}
    for setting in shared:
        if setting not in every:
            raise unknown_name("setting of any variant", setting, every, see="attnbench variants")
    made = {}
    for variant in variants:
        known = known_settings(variant)
        own = {k: v for k, v in shared.items() if k in known} | dict(given.get(variant.name, {}))
        lists = [value if isinstance(value, list) else [value] for value in own.values()]
        for name, values in zip(own, lists, strict=True):
            if not values:
                raise UserError(f"{variant.name}.{name}: an empty list asks for nothing")
        made[variant.name] = [
            settings_of(variant, dict(zip(own, values, strict=True))) for values in product(*lists)
        ]
    return made


def parse_settings(texts: Sequence[str]) -> dict[str, dict[str, list[ParamValue]]]:
    """Settings as `--params` gives them: VARIANT.SETTING=value,value,...

    Raises:
        UserError: not of that form, or a setting given twice.

    >>> parse_settings(["sliding_window.window=256,512", "all.alibi=true"])
    {'sliding_window': {'window': [256, 512]}, 'all': {'alibi': [True]}}
    """
    made: dict[str, dict[str, list[ParamValue]]] = {}
    for text in texts:
        target, equals, values = text.partition("=")
        variant, dot, setting = target.strip().partition(".")
        if not (equals and dot and variant and setting and values.strip()):
            raise UserError(
                f"--params {text!r} is not VARIANT.SETTING=value",
                hint="For example --params sliding_window.window=256,512 --params all.alibi=true",
            )
        if setting in made.setdefault(variant, {}):
            raise UserError(f"--params: {variant}.{setting} is given twice")
        words = (word.strip() for word in values.split(","))
        made[variant][setting] = [value for word in words for value in _parse_values(word)]
    return made


def _parse_values(word: str) -> list[ParamValue]:
    """One value, or those of a range of sizes as in 1k..4k."""
    if word.lower() in ("true", "false"):
        return [word.lower() == "true"]
    with contextlib.suppress(UserError):
        return list(parse_lengths(word, minimum=0))
    with contextlib.suppress(ValueError):
        return [float(word)]
    return [word]
