"""What Numba compiles for one kind of processor, and the choice between kernels.  ``jit`` alone calls ``njit``."""
