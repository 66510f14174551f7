"""Distributed differential privacy: each client adds a share of the noise, and only the sum, with all of it, is seen.

    encoder = PrivateEncoder(template, mechanism)             # beside secagg.Encoder, with the same calls
    config = RoundConfig.for_cohort(n, encoder.length, modulus=encoder.modulus_for(n), context=encoder.layout_digest())
    encoder = encoder.for_round(config)                       # everybody in the round, from the same config
    vector = encoder.encode(update)                           # what a client submits
    mean = encoder.decode(result).mean                        # what the server makes of the round's result

The protocol knows nothing of this package.  A private round is a round whose clients encode differently.
"""

from secagg.privacy.ask import AdaptiveClip, Privacy
from secagg.privacy.encoder import PrivateEncoder
from secagg.privacy.layout import PrivateLayout
from secagg.privacy.parameters import Mechanism, NoiseKind
from secagg.privacy.private_mean import PrivateMean
from secagg.privacy.terms import PrivacyTerms

__all__ = [
    "AdaptiveClip",
    "Mechanism",
    "NoiseKind",
    "Privacy",
    "PrivacyTerms",
    "PrivateEncoder",
    "PrivateLayout",
    "PrivateMean",
]
