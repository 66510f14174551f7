"""What every host does with the machines: ``Coordinator`` beside a server, ``Contribution`` beside a client.

Neither does input or output, reads a clock or starts a thread: the host carries the bytes and says what time it is.
Both are optional.  A host of another shape calls ``Server`` and ``Client`` itself, as the adapters do.
"""

from secagg.hosting.contribution import Contribution, InputEncoder, Released, RoundEncoder
from secagg.hosting.coordinator import Coordinator

__all__ = ["Contribution", "Coordinator", "InputEncoder", "Released", "RoundEncoder"]
