"""Grids of numbers from 0 to 1 as a PNG: panels with titles, drawn by Pillow.

Pillow takes 0.04 s to import, and only where a PNG is asked for.
"""

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from attnbench.errors import missing_extra

if TYPE_CHECKING:
    from PIL.Image import Image

# Colours at 0, 1/4, ... 1: from white through blue to near black, ordered in print too.
_COLOURS = ((255, 255, 255), (190, 215, 238), (92, 154, 209), (28, 86, 156), (6, 26, 66))
_GAP, _LINE, _TEXT = 16, 15, 12
_INK, _FRAME = (30, 30, 30), (120, 120, 120)


class Panel(msgspec.Struct, frozen=True, kw_only=True):
    """One picture: a grid of 0..1 (None: blank), its title, and a label a row and column."""

    title: str
    grid: Sequence[Sequence[float | None]]
    rows: Sequence[str] = ()
    columns: Sequence[str] = ()


def draw_png(panels: Sequence[Panel], *, title: str, across: int, size: int) -> bytes:
    """The PNG of `panels`, `across` side by side, each about `size` pixels on its long side.

    Raises:
        MachineError: Pillow is not installed.
    """
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ImportError:
        raise missing_extra("Pillow, which draws PNG,", "report") from None
    font = ImageFont.load_default(_TEXT)
    drawn = [_panel(panel, size, Image, ImageDraw, font) for panel in panels]
    width = max(image.width for image in drawn) + _GAP
    height = max(image.height for image in drawn) + _GAP
    across = min(across, len(drawn))
    sheet = Image.new(
        "RGB",
        (width * across + _GAP, height * math.ceil(len(drawn) / across) + _GAP + 2 * _LINE),
        "white",
    )
    ImageDraw.Draw(sheet).text((_GAP, _GAP // 2), title, fill=_INK, font=font)
    for number, image in enumerate(drawn):
        row, column = divmod(number, across)
        sheet.paste(image, (_GAP + column * width, _GAP + 2 * _LINE + row * height))
    out = io.BytesIO()
    sheet.save(out, "PNG", optimize=True)
    return out.getvalue()


def colour(value: float | None) -> tuple[int, int, int]:
    """The colour of a number from 0 to 1; light grey for none.

    >>> colour(0.0), colour(1.0)
    ((255, 255, 255), (6, 26, 66))
    """
    if value is None:
        return (235, 235, 235)
    place = min(max(value, 0.0), 1.0) * (len(_COLOURS) - 1)
    low = min(int(place), len(_COLOURS) - 2)
    share = place - low
    red, green, blue = (
        round(a + (b - a) * share) for a, b in zip(_COLOURS[low], _COLOURS[low + 1], strict=True)
    )
    return red, green, blue


def _panel(panel: Panel, size: int, image: Any, draw: Any, font: Any) -> "Image":
    """One panel: title above, labels left and above each column where there are any."""
    rows, columns = len(panel.grid), len(panel.grid[0])
    scale = max(1, size // max(rows, columns))
    pixels = image.new("RGB", (columns, rows))
    pixels.putdata([colour(value) for row in panel.grid for value in row])
    pixels = pixels.resize((columns * scale, rows * scale), image.Resampling.NEAREST)
    left = max((int(font.getlength(label)) + 6 for label in panel.rows), default=0)
    top = _LINE * (2 if panel.columns else 1) + 4
    wide = max(left + pixels.width + 1, int(font.getlength(panel.title)))
    sheet: Image = image.new("RGB", (wide, top + pixels.height + 1), "white")
    pen = draw.Draw(sheet)
    pen.text((left, 0), panel.title, fill=_INK, font=font)
    for number, label in enumerate(panel.rows):
        pen.text((0, top + int((number + 0.5) * scale) - _LINE // 2), label, fill=_INK, font=font)
    for number, label in enumerate(panel.columns):
        pen.text((left + number * scale + 2, _LINE + 2), label, fill=_INK, font=font)
    sheet.paste(pixels, (left, top))
    pen.rectangle((left, top, left + pixels.width, top + pixels.height), outline=_FRAME)
    return sheet
