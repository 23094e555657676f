"""What every file that attnbench writes has in common: whole or not at all, plain JSON."""

import errno
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attnbench.errors import AttnbenchError, MachineError, UserError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def write_atomically(path: Path, text: str | bytes) -> None:
    """Write `text` (UTF-8), or bytes, to `path` whole or not at all.

    A temporary file beside it is written, then renamed.

    Raises:
        UserError: the folder is missing or cannot be written.
        MachineError: the disk is full.
    """
    import tempfile  # loads random and hashes, which no answer on stdout needs

    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise cannot_write(path, error) from None
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
        raise cannot_write(path, error) from None
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def cannot_write(path: Path, error: OSError, *, hint: str | None = None) -> AttnbenchError:
    """What to raise where `path` could not be written: exit 3 for a full disk, else 2."""
    full = error.errno in _FULL
    return (MachineError if full else UserError)(f"{path}: {error.strerror}", hint=hint)


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
