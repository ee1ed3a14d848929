"""What the parsers of zip, npz and parquet raise on damaged files, so that readers can name the file instead."""

from __future__ import annotations

import lzma
import struct
import zipfile
import zlib

__all__ = ["UNREADABLE"]

#: A flipped byte may claim a password (RuntimeError), an unknown method (NotImplementedError), a seek before the start
#: (OSError), a text that is none (ValueError) or an entry that is not there (LookupError, TypeError, AttributeError).
#: Caught around the call of the parser alone.
UNREADABLE: tuple[type[Exception], ...] = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    RuntimeError,
)
