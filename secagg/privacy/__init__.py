"""Distributed differential privacy: each client adds a share of the noise, and only the sum, with all of it, is seen.

The protocol knows nothing of this package.  A private round is a round whose clients encode differently.
"""

from secagg.privacy.parameters import Mechanism, NoiseKind

__all__ = ["Mechanism", "NoiseKind"]
