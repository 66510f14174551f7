"""A round through each side of the comparisons, and parts of one through other libraries."""
