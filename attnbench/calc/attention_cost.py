"""What an attention variant costs: FLOPs, bytes and workspace, from its mathematics."""

import msgspec


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What one run of a variant costs, whichever backend runs it.

    `pairs` counts batch * heads * query-key pairs attended. `flops` is what the
    mathematics needs. `bytes_min` reads each operand and writes each result once.
    """

    pairs: int
    flops: int
    bytes_min: int
