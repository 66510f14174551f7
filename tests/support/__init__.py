"""What several test modules share: stages, hosts, liars, and codecs that owe nothing to the library.

A test imports from here by the full name, ``from tests.support.staging import Stage``.  What pytest itself has to find
stands in a ``conftest.py``.
"""
