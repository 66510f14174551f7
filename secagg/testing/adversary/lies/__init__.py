"""What malicious parties can be told to do, as plain data, with one module for each kind of lie.

A malicious server lies about the invitation (``invitation``), the roster (``roster``), the shares and their dealers
(``shares``), the survivors (``survivors``) and those who confirmed them (``confirmations``).  It changes messages on
their way (``wire``), talks hosts into what they must not do (``hosts``), and steals what is left in the end
(``memory``).  What malicious clients do is in ``clients``.  ``lie`` has the class that a server's lies derive from.
"""
