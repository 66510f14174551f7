"""The protocol of ``specs/secagg-v1.md`` and ``specs/secagg-v2.md`` in plain Python.

It is to be read beside them, and makes the test vectors.

In reading order: ``wire`` (bytes of messages), ``transcript`` (what is hashed, signed and derived), ``primitives``
(ciphers and signatures), ``arithmetic`` (masks, packing, secret sharing), ``rules`` (config, graph, roster's tree),
``hybrid`` (key pairs, and the pair secrets of suite 3), ``client``, ``server``.  Nothing is fast, nothing takes
constant time, no secret is wiped: it is not for use.

``draw(length)`` gives random bytes.  A server draws its nonce (32 bytes) when it is made; a client draws in ``start``
its channel private key, its masking private key and its share secret (32 bytes each, in this order).  In suite 3 the
first two are roots, and a client also encapsulates: whoever has to repeat that hands it ``encapsulate``.
"""
