"""Algorithms by name, and bytes -> fingerprint in one call."""

from __future__ import annotations

from types import MappingProxyType

from copywatch.decode import DecodedImage, decode
from copywatch.errors import SettingsError
from copywatch.fingerprint.algorithm import Algorithm
from copywatch.fingerprint.chamoso import Chamoso
from copywatch.fingerprint.mao import Mao
from copywatch.fingerprint.peers import PEERS
from copywatch.settings import settings

ALGORITHMS: MappingProxyType[str, Algorithm] = MappingProxyType(
    {algorithm.name: algorithm for algorithm in (Mao(), Chamoso(), *PEERS)}
)


def algorithm_named(name: str) -> Algorithm:
    """The algorithm that settings call `name`.

    Raises:
        SettingsError: there is none; the message lists those that there are.
    """
    try:
        return ALGORITHMS[name]
    except KeyError:
        raise SettingsError(f"algorithm {name!r}: there are only {', '.join(sorted(ALGORITHMS))}") from None


def decode_within_limits(data: bytes) -> DecodedImage:
    """`copywatch.decode.decode` within the size limits of the settings.

    Raises:
        UnusableImage: the bytes give no usable image.
    """
    limits = settings()
    return decode(data, max_pixels=limits.max_image_pixels, max_bytes=limits.max_image_bytes)


def fingerprint_of(data: bytes, name: str = "mao") -> bytes:
    """An image file's encoded fingerprint by the algorithm called `name`.

    Raises:
        UnusableImage: the bytes give no usable image, or more of it than the settings allow.
        SettingsError: no algorithm has that name.
    """
    algorithm = algorithm_named(name)
    return algorithm.encode(algorithm.fingerprint(decode_within_limits(data).rgb))
