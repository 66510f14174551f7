"""The ``secagg`` command: one module a command, behind the extra ``cli``; ``demo`` needs the extra ``demo``."""
