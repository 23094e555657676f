"""What every file that attnbench writes has in common: whole or not at all, plain JSON."""

import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attnbench.errors import UserError


def write_atomically(path: Path, text: str | bytes) -> None:
    """Write `text` (UTF-8), or bytes, to `path` whole or not at all.

    A temporary file beside it is written, then renamed.

    Raises:
        UserError: the folder is missing or cannot be written.
    """
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode() if isinstance(text, str) else text)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)
        os.replace(name, path)
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        raise UserError(f"{path}: {error.strerror}") from None
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def plain(value: Any) -> Any:
    """`value` with mappings, sequences and paths as JSON has them; NaN as None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, Path):
        return str(value.absolute())
    return value
