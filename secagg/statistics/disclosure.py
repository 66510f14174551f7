"""What an organisation refuses to give away."""

from __future__ import annotations

from secagg.errors import SecAggError


class DisclosureError(SecAggError):
    """An organisation's own rules refuse a study, its few records, or a set of organisations: nothing was given away.

    The message is for the organisation itself: it may tell of its data.
    """
