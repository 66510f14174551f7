------------------------------- MODULE Chain -------------------------------
(* Two rounds of one cohort: does a client that joins the second one know   *)
(* what became of the first?  A round is cut down to its end: who answered  *)
(* UNMASK.  The server is not there; it may say anything that a client      *)
(* accepts: also two totals with a certificate each.  R-CHAIN-10 to         *)
(* R-CHAIN-12, R-CHAIN-14 and R-CHAIN-15 of specs/secagg-v2.md.             *)
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
  received,  \* by honest client, the totals of the first round that it signed receipts for
  joined     \* what an honest client was shown of the first round when it joined the second: "", a total or "abort"

vars == <<answered, stated, received, joined>>

(* What a server that lies certifies of one round. *)
Totals == {"sum", "another sum"}

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
  /\ received = [u \in Honest |-> {}]
  /\ joined = [u \in Honest |-> ""]

(* A quorum confirmed S: the server may show that to whom it likes, when it likes, also after it said that all was over. *)
Answer(u) ==
  /\ u \notin answered
  /\ On("R-CHAIN-12") => u \notin stated
  /\ On("R-CHAIN-11") => joined[u] = ""
  /\ answered' = answered \union {u}
  /\ UNCHANGED <<stated, received, joined>>

(* R-CHAIN-12: a client is told that the round was aborted, and states that it did not answer. *)
State(u) ==
  /\ u \notin stated
  /\ On("R-CHAIN-12") => u \notin answered
  /\ stated' = stated \union {u}
  /\ UNCHANGED <<answered, received, joined>>

(* Colluders state what the server likes. *)
Statements(u) == Cardinality(Neighbours(u) \intersect (stated \union Corrupt))

(* R-CHAIN-14: a client is handed a total with its certificate, and signs a receipt.  R-CHAIN-15: for one of them alone. *)
Receive(u, total) ==
  /\ u \in answered
  /\ joined[u] = ""
  /\ On("R-CHAIN-15") => received[u] \subseteq {total}
  /\ received' = [received EXCEPT ![u] = @ \union {total}]
  /\ UNCHANGED <<answered, stated, joined>>

(* R-CHAIN-10: the certificate of a sum settles the round.  R-CHAIN-15: if it is the one that a receipt is for. *)
JoinBehindSum(u, total) ==
  /\ joined[u] = ""
  /\ On("R-CHAIN-15") => received[u] \subseteq {total}
  /\ joined' = [joined EXCEPT ![u] = total]
  /\ UNCHANGED <<answered, stated, received>>

(* R-CHAIN-10: who answered believes in an abort only when t of its neighbours state it; who did not, believes anything. *)
JoinBehindAbort(u) ==
  /\ joined[u] = ""
  /\ On("R-CHAIN-10") /\ u \in answered => Statements(u) >= Asked
  /\ On("R-CHAIN-15") => received[u] = {}
  /\ joined' = [joined EXCEPT ![u] = "abort"]
  /\ UNCHANGED <<answered, stated, received>>

Next == \E u \in Honest :
  \/ Answer(u) \/ State(u) \/ JoinBehindAbort(u)
  \/ \E total \in Totals : Receive(u, total) \/ JoinBehindSum(u, total)
Spec == Init /\ [][Next]_vars

(* Whoever answered and was shown an abort is in no sum that opens: its own secret stays shut. *)
NoFakeAbort == \A u \in Honest : (u \in answered /\ joined[u] = "abort") => ~Open(u)

(* Members that are in one round again, and so behind one certificate of the first, signed for one total of it. *)
OneTotal == \A u, v \in Honest :
  joined[u] = joined[v] /\ joined[u] # "" => Cardinality(received[u] \union received[v]) <= 1

(* To be violated: a sum opens; a client that answered moves on behind a true abort; two totals are signed for. *)
NeverOpens == ~SumOpens
NeverMovesOn == \A u \in Honest : ~(u \in answered /\ joined[u] = "abort")
NeverTwoTotals == \A u, v \in Honest : Cardinality(received[u] \union received[v]) <= 1
=============================================================================
