"""Imported by the server that compiling children are forked from: what each would do alone.

Triton names its cache by a digest of its own files, some hundreds of MB, which takes each
process about a second; a child of this server inherits it.
"""

from triton.runtime.cache import triton_key

triton_key()
