"""Identity: SHA-256 over canonical JSON."""

import hashlib
import json
from typing import Any


def canonical_json(value: Any) -> str:
    """Write a JSON value in its one canonical form.

    Parameters
    ----------
    value : Any
        Dicts with string keys, lists, tuples, strings, numbers, booleans and None.

    Returns
    -------
    str
        Keys sorted, no white space, ASCII only, NaN and infinities refused.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )


def sha256_id(value: Any) -> str:
    """Return the SHA-256 of the canonical JSON of `value` as 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(value).encode("ascii")).hexdigest()
