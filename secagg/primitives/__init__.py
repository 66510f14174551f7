"""The primitives of the protocols: they know no phase, no message and no config.

Each is thin over ``cryptography``, PyNaCl or hashlib, and nothing else in the library imports the first two.  What a
suite chooses takes the suite, and refuses a key of another size; signatures, derivations and the graph's permutation
are the same in every suite.

    suites            what a round uses, and the sizes that follow
    agreement, kdf    from two key pairs to one secret, and from a secret to keys
    aead, signing     sealing and signatures
    streams, masking  keystreams, and vectors masked with many of them
    secret_sharing    Shamir's scheme over 2^61 - 1
    secret, calls     secrets that show themselves nowhere, and calls that leave none in a traceback
"""
