"""The ``secagg`` command: one module a command, behind the extra ``secagg[cli]``; ``demo`` needs ``secagg[demo]``."""
