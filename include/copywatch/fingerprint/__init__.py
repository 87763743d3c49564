"""Image -> fingerprint: one module per algorithm behind one protocol."""

from copywatch.fingerprint.algorithm import Algorithm, identity
from copywatch.fingerprint.mao import Mao
from copywatch.fingerprint.registry import ALGORITHMS, algorithm_named, decode_within_limits, fingerprint_of

__all__ = ["ALGORITHMS", "Algorithm", "Mao", "algorithm_named", "decode_within_limits", "fingerprint_of", "identity"]
