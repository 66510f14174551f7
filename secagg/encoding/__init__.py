"""Floats to ring elements and back.

    encoder = Encoder(template=model.state_dict(), clip=0.5, bits=16, max_weight=1000)
    vector = encoder.encode(update, weight=len(examples))    # what a client submits
    mean = encoder.decode(result).mean                       # what the server makes of the round's result

NumPy only: arrays of other libraries come in through DLPack or ``__array__``, and none of them is imported.  The
protocol core does not import this package; it sums the vectors, and knows of no floats.
"""

from secagg.encoding.encoder import Encoder
from secagg.encoding.exact import Exact
from secagg.encoding.layout_policy import LayoutPolicy
from secagg.encoding.npz import load_npz
from secagg.encoding.sums import Mean, SumResult
from secagg.encoding.template import Leaf, Template
from secagg.encoding.update_encoder import DecodedMean, UpdateEncoder

__all__ = [
    "DecodedMean",
    "Encoder",
    "Exact",
    "LayoutPolicy",
    "Leaf",
    "Mean",
    "SumResult",
    "Template",
    "UpdateEncoder",
    "load_npz",
]
