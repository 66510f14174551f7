------------------------------- MODULE MCRing -------------------------------
(* Sizes on a ring: clients are 0 .. N - 1 in ring order, each with the    *)
(* Reach nearest on either side as neighbours (k = 2 Reach).               *)
EXTENDS SecAgg
CONSTANTS N, Reach

Everyone == 0 .. N - 1
Ring == [u \in Everyone |-> {v \in Everyone \ {u} : (v - u) % N <= Reach \/ (u - v) % N <= Reach}]
InOrder == [u \in Honest |-> {v \in Honest : v > u}]
OneRoster == [s1 |-> Everyone]
=============================================================================
