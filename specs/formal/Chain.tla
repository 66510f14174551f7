------------------------------- MODULE Chain -------------------------------
(* Two rounds of one cohort: does a client that joins the second one know   *)
(* what became of the first?  A round is cut down to its end: who answered  *)
(* UNMASK.  The server is not there; it may say anything that a client      *)
(* accepts.  R-CHAIN-10 to R-CHAIN-12 of specs/secagg-v2.md.                *)
EXTENDS Integers, FiniteSets

CONSTANTS
  Honest,    \* honest members of S in the first round
  Corrupt,   \* members that the server has on its side
  T,         \* t, the shares that open a secret
  Asked,     \* the statements that a client asks for; t by R-CHAIN-10
  Off        \* the rules that the clients leave out

VARIABLES
  answered,  \* honest clients that revealed their shares in the first round
  stated,    \* honest clients that stated that they did not, and never will
  joined     \* what an honest client was shown of the first round when it joined the second: "", "sum" or "abort"

vars == <<answered, stated, joined>>

All == Honest \union Corrupt
Neighbours(u) == All \ {u}
On(rule) == rule \notin Off

(* Who reveals shares, or may still do so. *)
Revealing == answered \union Corrupt
(* A client's seed is known when t of its neighbours revealed a share of it. *)
Open(u) == Cardinality(Neighbours(u) \intersect Revealing) >= T
(* The first round's sum is open when everybody's seed is known: all of Honest are in S. *)
SumOpens == \A u \in Honest : Open(u)

Init ==
  /\ answered = {}
  /\ stated = {}
  /\ joined = [u \in Honest |-> ""]

(* A quorum confirmed S: the server may show that to whom it likes, when it likes, also after it said that all was over. *)
Answer(u) ==
  /\ u \notin answered
  /\ On("R-CHAIN-12") => u \notin stated
  /\ On("R-CHAIN-11") => joined[u] = ""
  /\ answered' = answered \union {u}
  /\ UNCHANGED <<stated, joined>>

(* R-CHAIN-12: a client is told that the round was aborted, and states that it did not answer. *)
State(u) ==
  /\ u \notin stated
  /\ On("R-CHAIN-12") => u \notin answered
  /\ stated' = stated \union {u}
  /\ UNCHANGED <<answered, joined>>

(* Colluders state what the server likes. *)
Statements(u) == Cardinality(Neighbours(u) \intersect (stated \union Corrupt))

(* R-CHAIN-10: the certificate of the sum is there for everybody to see, and settles the round. *)
JoinBehindSum(u) ==
  /\ joined[u] = ""
  /\ joined' = [joined EXCEPT ![u] = "sum"]
  /\ UNCHANGED <<answered, stated>>

(* R-CHAIN-10: who answered believes in an abort only when t of its neighbours state it; who did not, believes anything. *)
JoinBehindAbort(u) ==
  /\ joined[u] = ""
  /\ On("R-CHAIN-10") /\ u \in answered => Statements(u) >= Asked
  /\ joined' = [joined EXCEPT ![u] = "abort"]
  /\ UNCHANGED <<answered, stated>>

Next == \E u \in Honest : Answer(u) \/ State(u) \/ JoinBehindSum(u) \/ JoinBehindAbort(u)
Spec == Init /\ [][Next]_vars

(* Whoever answered and was shown an abort is in no sum that opens: its own secret stays shut. *)
NoFakeAbort == \A u \in Honest : (u \in answered /\ joined[u] = "abort") => ~Open(u)

(* To be violated: a sum opens; a client that answered moves on behind a true abort. *)
NeverOpens == ~SumOpens
NeverMovesOn == \A u \in Honest : ~(u \in answered /\ joined[u] = "abort")
=============================================================================
