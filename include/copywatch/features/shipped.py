"""Files that are shipped with this package: what was learned once, and must be the same everywhere."""

from __future__ import annotations

import hashlib
import importlib.resources

from copywatch.errors import MachineError


def shipped(name: str, sha256: str, identity: str) -> bytes:
    """A shipped file's bytes.

    Args:
        name: of the file.
        sha256: of its bytes, hexadecimal.
        identity: name and version of what is in it.

    Raises:
        MachineError: the file is missing or is not the one that was shipped.
    """
    file = importlib.resources.files("copywatch.features").joinpath(name)
    try:
        data = file.read_bytes()
    except OSError as error:
        raise MachineError(f"{name} is missing from copywatch.features ({error}); install Copywatch again") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise MachineError(f"{name} in copywatch.features is not the one of {identity}; install Copywatch again")
    return data
