"""A chart's data, and its drawing as SVG or PNG by Vega-Lite (Satyanarayan et al. 2017).

vl-convert renders a specification without a browser or a network; it is imported only
where a picture is asked for.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from attnbench.errors import missing_extra

_SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
_KILO = "datum.value % 1024 ? format(datum.value, ',') : format(datum.value / 1024, ',') + 'k'"


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """A point of a series; `low` and `high` bound its interval where one is known."""

    series: str
    x: float
    y: float
    low: float | None = None
    high: float | None = None
    predicted: bool = False


class Chart(msgspec.Struct, frozen=True, kw_only=True):
    """Marks over two logarithmic axes: joined to a line a series, or scattered.

    `doubling` labels x by powers of two, as lengths are.
    """

    title: str
    x: str
    y: str
    marks: tuple[Mark, ...]
    joined: bool = True
    doubling: bool = True


def specification(chart: Chart) -> dict[str, Any]:
    """`chart` as a Vega-Lite specification, its data inside."""
    x: dict[str, Any] = {"field": "x", "type": "quantitative", "title": chart.x}
    x["scale"] = {"type": "log", "base": 2 if chart.doubling else 10}
    x["scale"] |= _domain([mark.x for mark in chart.marks], margin=1.05)
    if chart.doubling:
        x["axis"] = {"values": sorted({mark.x for mark in chart.marks}), "labelExpr": _KILO}
    y: dict[str, Any] = {"field": "y", "type": "quantitative", "title": chart.y}
    bounds = [n for mark in chart.marks for n in (mark.y, mark.low, mark.high) if n is not None]
    y["scale"] = {"type": "log"} | _domain(bounds, margin=1.3)
    if not chart.joined:
        y["axis"] = {"format": ".0e"}
    names = list(dict.fromkeys(mark.series for mark in chart.marks))
    colour = {
        "field": "series", "type": "nominal", "title": None,
        "scale": {"domain": names, "scheme": "tableau10" if len(names) <= 10 else "tableau20"},
    }  # fmt: skip
    measured, predicted = "!datum.predicted", "datum.predicted"
    layers = [
        _layer(predicted, {"type": "line", "strokeDash": [4, 3], "opacity": 0.6}),
        _layer(
            f"{measured} && datum.low != null && datum.high != null",
            {"type": "rule", "opacity": 0.7},
            y={**y, "field": "low"},
            y2={"field": "high"},
        ),
        _layer(measured, {"type": "line", "point": True} if chart.joined else {
            "type": "point", "filled": True, "size": 70
        }),
    ]  # fmt: skip
    return {
        "$schema": _SCHEMA, "title": chart.title, "width": 560, "height": 320,
        "background": "white",
        "data": {"values": [msgspec.to_builtins(mark) for mark in chart.marks]},
        "encoding": {"x": x, "y": y, "color": colour},
        "layer": layers,
    }  # fmt: skip


def _domain(values: Sequence[float], *, margin: float) -> dict[str, Any]:
    """From the least value to the largest, and `margin` beyond: one value alone has room too."""
    return {"domain": [min(values) / margin, max(values) * margin], "nice": False}


def _layer(where: str, mark: dict[str, Any], **encoding: Any) -> dict[str, Any]:
    return {"transform": [{"filter": where}], "mark": mark, "encoding": encoding}


def svg_of(charts: Sequence[Chart]) -> list[str]:
    """Each chart as the text of an SVG.

    Raises:
        MachineError: vl-convert is not installed.
    """
    if not charts:
        return []
    convert = _renderer()
    return [convert.vegalite_to_svg(specification(chart)) for chart in charts]


def png_of(charts: Sequence[Chart]) -> list[bytes]:
    """Each chart as the bytes of a PNG, two pixels a unit.

    Raises:
        MachineError: vl-convert is not installed.
    """
    if not charts:
        return []
    convert = _renderer()
    return [convert.vegalite_to_png(specification(chart), scale=2) for chart in charts]


def _renderer() -> Any:
    try:
        import vl_convert
    except ImportError:
        raise missing_extra("vl-convert, which draws charts,", "report") from None
    return vl_convert
