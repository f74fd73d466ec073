"""Arrays as bytes, as the page decodes them (`static/server.js`)."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def packed(header: Mapping[str, Any], arrays: Sequence[np.ndarray]) -> bytes:
    """A header and arrays in one message.

    Args:
        header: what JSON can hold.
        arrays: float32 or float64; all float64 arrays come first, so that each is aligned.

    Returns:
        The length of the header as uint32, little-endian as everything here; the header as
        JSON, with spaces up to a multiple of 8 bytes; the arrays one after the other.
    """
    text = json.dumps(header, allow_nan=False).encode()
    text += b" " * (-(4 + len(text)) % 8)
    little = [array.astype(array.dtype.newbyteorder("<")) for array in arrays]
    length = len(text).to_bytes(4, "little")
    return b"".join([length, text, *(array.tobytes() for array in little)])
