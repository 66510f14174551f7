"""What a client and a server refuse: every rule that the other side could break, one function each.

    table     every rule: its requirement in the specification, its functions, its codes, the attack that it stops
    wire      what every message is held to, whoever gets it
    client    what a client refuses of what a server shows it
    server    what a server refuses of what a client sends it

A function raises PeerError, or returns what it established.  Its docstring begins with the requirement that it carries
out.  Client and server call each function by name, at its place in the protocol, so that the tests can take one of them
away and show the attack that then succeeds.

Nothing else in the protocol makes a PeerError.  What the host of a machine does wrong is none of these rules: that is a
UsageError.  Too few answers at the close of a phase are none either: the round then ends, and nobody is to blame.
"""
