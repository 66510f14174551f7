"""Hypothesis profiles: ``ci`` (the default) draws the same examples every time, ``deep`` draws many fresh ones.

Chosen by the environment variable SECAGG_HYPOTHESIS_PROFILE.  Tests that want more or fewer examples than the profile
scale ``settings().max_examples``, so that ``deep`` deepens all of them.
"""

from __future__ import annotations

import os

from hypothesis import Phase, settings

# No deadline: the first call of a kernel compiles it, and that is nobody's slow example.  No example database either:
# `ci` has none by nature, and the workers of pytest-xdist would share it.
settings.register_profile("ci", max_examples=100, derandomize=True, deadline=None, database=None, print_blob=True)
settings.register_profile("deep", max_examples=2500, deadline=None, database=None, print_blob=True, phases=tuple(Phase))
settings.load_profile(os.environ.get("SECAGG_HYPOTHESIS_PROFILE", "ci"))
