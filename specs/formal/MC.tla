--------------------------------- MODULE MC ---------------------------------
(* Sizes on the complete graph.  Honest clients are alike, and so are the  *)
(* colluders: symmetry.                                                    *)
EXTENDS SecAgg, TLC
CONSTANTS a, b, c, d, y, z

Honest3 == {a, b, c}
Honest4 == {a, b, c, d}
Corrupt0 == {}
Corrupt1 == {z}
Corrupt2 == {y, z}

Complete == [u \in All |-> All \ {u}]
OneRoster == [s1 |-> All]
TwoRosters == [s1 |-> All, s2 |-> All]
NoOrder == [u \in Honest |-> {}]

Alike == Permutations(Honest) \union Permutations(Corrupt)
=============================================================================
