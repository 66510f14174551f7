"""What the hosts of training jobs share; each host lets another system run rounds, behind an extra of its own."""
