"""``secagg stats``: statistics between organisations."""
