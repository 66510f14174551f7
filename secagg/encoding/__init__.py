"""Floats to ring elements and back.

    encoder = Encoder(template=model.state_dict(), clip=0.5, bits=16, max_weight=1000)
    vector = encoder.encode(update, weight=len(examples))    # what a client submits
    mean = encoder.decode(result).mean                       # what the server makes of the round's result

NumPy only: arrays of other libraries come in through DLPack or ``__array__``, and none of them is imported.  The
protocol core does not import this package; it sums the vectors, and knows of no floats.
"""

from typing import TYPE_CHECKING, Any

from secagg.encoding.encoder import Encoder
from secagg.encoding.exact import Exact
from secagg.encoding.layout import Layout
from secagg.encoding.layout_policy import LayoutPolicy
from secagg.encoding.sums import Mean, SumResult
from secagg.encoding.template import Leaf, Template
from secagg.encoding.update_encoder import DecodedMean, UpdateEncoder

if TYPE_CHECKING:
    from secagg.encoding.npz import load_npz

__all__ = [
    "DecodedMean",
    "Encoder",
    "Exact",
    "Layout",
    "LayoutPolicy",
    "Leaf",
    "Mean",
    "SumResult",
    "Template",
    "UpdateEncoder",
    "load_npz",
]


def __getattr__(name: str) -> Any:
    """``load_npz`` at its first use: archives take longer to import than all of this package."""
    if name == "load_npz":
        from secagg.encoding.npz import load_npz

        return load_npz
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
