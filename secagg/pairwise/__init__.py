"""The protocol: Bonawitz et al. (CCS 2017) with pairwise masks, on complete and on sparse graphs (CCS 2020).

A client's vector goes one way: ``client`` masks it, ``messages`` carries it, ``server`` adds it up and takes the masks
off the sum.  ``phases`` begins with an overview of the phases, and of why they are safe.

    config, config_wire, policy, values             what a round is, and what a client accepts
    parameters, rates, tails, explanation           how many neighbours, shares and survivors it takes, and how sure
    graph, adjacency                                who shares with whom
    phases, transitions, rules                      the phases, the machines as tables, and what they refuse
    transcript, records, messages, keys, merkle     labels and digests; bytes; every derivation; the roster's proof
    client, server                                  the machines
"""
