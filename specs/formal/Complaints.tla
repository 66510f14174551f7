----------------------------- MODULE Complaints -----------------------------
(***************************************************************************)
(* A round with complaints (version 2, extension `complaints`): between    *)
(* Shares and the vector, a holder says which pairs do not open, and a     *)
(* dealer opens to the server what it sealed for such a holder.            *)
(*                                                                         *)
(* Clients, their rules and what is learned are those of SecAgg.  What is  *)
(* new stands between SHARED and INPUT: the server alters what it carries, *)
(* the holder complains and signs about what it got, the server shows a    *)
(* dealer complaints, and Settled says whose shares count.  An opened pair *)
(* has both kinds of share, so that its holder counts for that dealer as a *)
(* colluder does.  R-COMPLAIN-11 (an opened pair is signed by its dealer)  *)
(* is part of what opens for whom, and always there.                       *)
(***************************************************************************)
EXTENDS MC
CONSTANTS Bound          \* r: the pairs that a dealer opens, and those that a holder complains about

VARIABLES
    complained,  \* complained[u]: the honest dealers whose pairs reached u altered, and about which it signed
    opened       \* opened[w]: the holders whose pairs of w the server was shown

InTheOpen(w) == Leaked(w) \union opened[w]

\* In the place of SeedShares and KeyShares of SecAgg: a config says so.
SeedSharesOrOpened(w) == InTheOpen(w) \union
    {v \in Honest : Holds(v, w) /\ \E S \in answered[v] : w \in S \/ ~On("R-UNMASK-2")}
KeySharesOrOpened(w) == InTheOpen(w) \union
    {v \in Honest : Holds(v, w) /\ \E S \in answered[v] : w \notin S \/ ~On("R-UNMASK-2")}

\* Reduction, as in SecAgg: everybody has dealt, or never will; then all complaints; then all openings.
Between(u) == /\ state[u] = "SHARED"
              /\ \A v \in Honest : state[v] = "SHARED" \/ (Rank[state[v]] < 2 /\ Stuck(v))

\* A holder of whose pairs the server altered some.  An unaltered pair of an honest dealer opens.
Complaint(u) ==
    /\ Between(u)
    /\ complained[u] = {} /\ \A w \in Honest : opened[w] = {}
    /\ \E Z \in SUBSET (Open(u) \intersect Honest) :
         /\ Z # {} /\ Cardinality(Z) <= Bound
         /\ complained' = [complained EXCEPT ![u] = Z]
    /\ UNCHANGED <<vars, opened>>

\* Whose complaint dealer w takes.  R-COMPLAIN-7: the holder's signature verifies over what w sent; an honest holder has
\* signed about other bytes.  Without R-COMPLAIN-4 a signature does not say which bytes it is about.
Complains(j, w) == IF ~On("R-COMPLAIN-7") THEN TRUE
                   ELSE IF j \in Corrupt THEN TRUE ELSE ~On("R-COMPLAIN-4") /\ w \in complained[j]

\* R-COMPLAIN-6: at most Bound of them, once.
Accusations(w) ==
    /\ Between(w)
    /\ opened[w] = {}
    /\ \E J \in SUBSET (Near[w] \intersect Rosters[session[w]]) :
         /\ J # {} /\ (On("R-COMPLAIN-6") => Cardinality(J) <= Bound)
         /\ \A j \in J : Complains(j, w)
         /\ opened' = [opened EXCEPT ![w] = J]
    /\ UNCHANGED <<vars, complained>>

\* In the place of Shares: a dealer that u complained about counts only if it opened the pair.
Settled(u) ==
    /\ Moves(u, "SHARED", "INPUT")
    /\ \E D \in SUBSET Open(u) :
         /\ Open(u) \ D \subseteq Withhold
         /\ \A w \in D \intersect complained[u] : u \in opened[w]
         /\ AcceptsShares(D)
         /\ dealers' = [dealers EXCEPT ![u] = D]
    /\ complained' = [complained EXCEPT ![u] = {}]
    /\ UNCHANGED <<session, fake, shown, signed, answered, opened>>

Others(u) == start(u) \/ Roster(u) \/ submit(u) \/ Survivors(u) \/ Confirmations(u)

ComplaintInit == Init /\ complained = [u \in Honest |-> {}] /\ opened = [u \in Honest |-> {}]
ComplaintNext == \E u \in Honest : \/ Complaint(u)
                                   \/ Accusations(u)
                                   \/ Settled(u)
                                   \/ Others(u) /\ UNCHANGED <<complained, opened>>
ComplaintSpec == ComplaintInit /\ [][ComplaintNext]_<<vars, complained, opened>>

\* What is opened is a colluder's own.  With a pair goes its pair secret in suite 3, and with that the mask of the two.
OpensForColludersAlone == \A w \in Honest : opened[w] \subseteq Corrupt

\* To be violated: a sum opens in which is a dealer that opened a pair.
NeverOpensAfterComplaint == \A G \in Opened : \A u \in G : opened[u] = {}
=============================================================================
