------------------------------- MODULE SecAgg -------------------------------
(***************************************************************************)
(* The honest clients of one `active` round against everybody else: a      *)
(* server that lies, Corrupt clients that tell it all they know, and a     *)
(* network that is the server's.                                           *)
(*                                                                         *)
(* Cryptography is abstract.  What counts is who holds which share of      *)
(* whose seed and whose key, whose keys stand in whose roster, and who     *)
(* signed which survivor set.  Signatures are not forged, sealed shares    *)
(* open for their receiver alone, T shares reconstruct and T - 1 do not.   *)
(*                                                                         *)
(* There is no server in here, since it may do anything: each client is    *)
(* shown any message that it accepts.  A dropout is a client that the      *)
(* server, or fate, shows nothing more; an aborted client likewise.        *)
(*                                                                         *)
(* The actions start, Roster, Shares, submit, Survivors and Confirmations  *)
(* are the edges of CLIENT["active"] in secagg/pairwise/transitions.py: the same    *)
(* inputs, from and to the same states.  On(rule) says whether clients     *)
(* keep a rule of specs/secagg-v1.md; a config takes rules away by naming  *)
(* them in Off.  R-ROSTER-1, R-SHARES-1 and R-SHARES-3 are part of what    *)
(* opens for whom, and always there.                                       *)
(***************************************************************************)
EXTENDS Integers, FiniteSets

CONSTANTS
    Honest, Corrupt,   \* the cohort
    Near,              \* Near[u]: the neighbours of u
    T,                 \* shares that reconstruct
    Quorum,            \* confirmations asked for
    MinSurvivors,      \* the fewest survivors that a client accepts
    Rosters,           \* session |-> the members in the roster of that session
    Off,               \* rules that clients leave out, by the specification's ids
    Withhold,          \* whose sealed shares the server may keep back, from whom it likes
    OneSet,            \* reduction: one survivor set for all, or nothing (see the README)
    Lockstep,          \* reduction: phase by phase, nobody late without need (see the README)
    Behind             \* reduction: Behind[u] are the clients that move after u in every phase

All == Honest \union Corrupt
On(rule) == rule \notin Off
Max(x, y) == IF x > y THEN x ELSE y

ASSUME /\ Honest \intersect Corrupt = {}
       /\ \A u \in All : Near[u] \subseteq All \ {u}
       /\ \A u, v \in All : v \in Near[u] <=> u \in Near[v]

VARIABLES
    state,      \* ClientState
    session,    \* the session whose roster it accepted
    fake,       \* neighbours in whose place the roster showed it keys of the server's
    dealers,    \* U2: the neighbours whose shares it got
    shown,      \* the survivor set that it signed last
    signed,     \* all survivor sets that it signed
    answered    \* all survivor sets that it revealed shares for
vars == <<state, session, fake, dealers, shown, signed, answered>>

Rank == [JOINED |-> 0, ADVERTISED |-> 1, SHARED |-> 2, INPUT |-> 3, MASKED |-> 4, CONFIRMED |-> 5, DONE |-> 6]
Dealt(u) == Rank[state[u]] >= 2
Submitted(u) == Rank[state[u]] >= 4

Init == /\ state = [u \in Honest |-> "JOINED"]
        /\ session = [u \in Honest |-> "none"]
        /\ fake = [u \in Honest |-> {}]
        /\ dealers = [u \in Honest |-> {}]
        /\ shown = [u \in Honest |-> {}]
        /\ signed = [u \in Honest |-> {}]
        /\ answered = [u \in Honest |-> {}]

-----------------------------------------------------------------------------
(* What clients accept.                                                    *)

\* R-ROSTER-1: the client's own keys stand in the roster.  R-ROSTER-8: enough neighbours do.
AcceptsRoster(u, s) == /\ u \in Rosters[s]
                       /\ On("R-ROSTER-8") => Cardinality(Near[u] \intersect Rosters[s]) >= T

\* R-ROSTER-6: every neighbour's keys are its own.
Forgeries(u) == IF On("R-ROSTER-6") THEN {{}} ELSE SUBSET (Near[u] \intersect Honest)

\* R-SHARES-1, R-SHARES-3: whose shares open for u: neighbours in its roster that dealt in its session, to its own keys.
Open(u) == {v \in Near[u] \intersect Rosters[session[u]] :
                IF v \in Corrupt \union fake[u] THEN TRUE
                ELSE Dealt(v) /\ session[v] = session[u] /\ u \notin fake[v]}

\* R-SHARES-2: enough of them.
AcceptsShares(D) == On("R-SHARES-2") => Cardinality(D) >= T

Fewest == Max(MinSurvivors, Quorum)
LargeSets == {S \in SUBSET All : Cardinality(S) >= Fewest}

\* Itself; enough survivors; no neighbour among them that it does not mask against; T neighbours.
AcceptsSurvivors(u, S) == /\ On("R-SURVIVORS-2") => u \in S
                          /\ On("R-SURVIVORS-3") => S \in LargeSets
                          /\ On("R-SURVIVORS-4") => Near[u] \intersect S \subseteq dealers[u]
                          /\ On("R-SURVIVORS-5") => Cardinality(Near[u] \intersect S) >= T

SetsToShow == LET seen == UNION {signed[u] : u \in Honest}
              IN IF OneSet /\ seen # {} THEN seen ELSE IF On("R-SURVIVORS-3") THEN LargeSets ELSE SUBSET All

\* R-CONFIRM-5: a quorum of members of S signed it, in this session.  Colluders sign whatever they are asked.
Signers(s, S) == (Corrupt \intersect S) \union {v \in Honest \intersect S : session[v] = s /\ S \in signed[v]}
AcceptsConfirmations(u) == On("R-CONFIRM-5") => Cardinality(Signers(session[u], shown[u])) >= Quorum

-----------------------------------------------------------------------------
(* What clients do.                                                        *)

\* Whether v cannot go on, whatever it is shown.
Stuck(v) == CASE state[v] = "ADVERTISED" -> \A s \in DOMAIN Rosters : ~AcceptsRoster(v, s)
              [] state[v] = "SHARED" -> ~AcceptsShares(Open(v))
              [] state[v] = "MASKED" -> \A S \in SetsToShow : ~AcceptsSurvivors(v, S)
              [] state[v] = "CONFIRMED" -> ~AcceptsConfirmations(v)
              [] OTHER -> FALSE

\* The reductions: a phase begins when nobody can go on in the one before, and has an order of its own.
Turn(u) ==
    /\ Lockstep => \A v \in Honest : /\ Rank[state[v]] <= Rank[state[u]] + 1
                                     /\ Rank[state[v]] < Rank[state[u]] => Stuck(v)
    /\ \A v \in Behind[u] : Rank[state[v]] <= Rank[state[u]]
    /\ \A v \in Honest : u \in Behind[v] /\ state[v] = state[u] => state[v] = "MASKED" \/ Stuck(v)

Moves(u, from, to) == /\ state[u] = from
                      /\ Turn(u)
                      /\ state' = [state EXCEPT ![u] = to]

start(u) ==
    /\ Moves(u, "JOINED", "ADVERTISED")
    /\ UNCHANGED <<session, fake, dealers, shown, signed, answered>>

Roster(u) ==
    /\ Moves(u, "ADVERTISED", "SHARED")
    /\ \E s \in DOMAIN Rosters : AcceptsRoster(u, s) /\ session' = [session EXCEPT ![u] = s]
    /\ \E F \in Forgeries(u) : fake' = [fake EXCEPT ![u] = F]
    /\ UNCHANGED <<dealers, shown, signed, answered>>

Shares(u) ==
    /\ Moves(u, "SHARED", "INPUT")
    /\ \E D \in SUBSET Open(u) : /\ Open(u) \ D \subseteq Withhold
                                /\ AcceptsShares(D)
                                /\ dealers' = [dealers EXCEPT ![u] = D]
    /\ UNCHANGED <<session, fake, shown, signed, answered>>

submit(u) ==
    /\ Moves(u, "INPUT", "MASKED")
    /\ UNCHANGED <<session, fake, dealers, shown, signed, answered>>

Signs(u, S) == /\ AcceptsSurvivors(u, S)
               /\ shown' = [shown EXCEPT ![u] = S]
               /\ signed' = [signed EXCEPT ![u] = @ \union {S}]
               /\ UNCHANGED <<session, fake, dealers, answered>>

Survivors(u) ==
    /\ Moves(u, "MASKED", "CONFIRMED")
    /\ \E S \in SetsToShow : Signs(u, S)

Confirmations(u) ==
    /\ Moves(u, "CONFIRMED", "DONE")
    /\ AcceptsConfirmations(u)
    /\ answered' = [answered EXCEPT ![u] = @ \union {shown[u]}]
    /\ UNCHANGED <<session, fake, dealers, shown, signed>>

Edges(u) == start(u) \/ Roster(u) \/ Shares(u) \/ submit(u) \/ Survivors(u) \/ Confirmations(u)

\* No edge of the table.  R-SURVIVORS-6: one set is signed, ever.  R-UNMASK-3: the shares are wiped with the answer.
SignsAgain(u) ==
    /\ ~On("R-SURVIVORS-6")
    /\ state[u] = "CONFIRMED" \/ (~On("R-UNMASK-3") /\ state[u] = "DONE")
    /\ Cardinality(signed[u]) = 1
    /\ \E S \in SetsToShow \ signed[u] : Signs(u, S)
    /\ state' = [state EXCEPT ![u] = "CONFIRMED"]

Next == \E u \in Honest : Edges(u) \/ SignsAgain(u)
Spec == Init /\ [][Next]_vars

-----------------------------------------------------------------------------
(* What the server and the colluders know.                                 *)

\* The holders of w's shares that are the server's own.
Leaked(w) == IF Dealt(w) THEN Near[w] \intersect Rosters[session[w]] \intersect (Corrupt \union fake[w]) ELSE {}
Holds(v, w) == w \in dealers[v] \ fake[v]

\* R-UNMASK-2: which kind is revealed follows from the set alone; without it the server asks for both.
SeedShares(w) == Leaked(w) \union
                 {v \in Honest : Holds(v, w) /\ \E S \in answered[v] : w \in S \/ ~On("R-UNMASK-2")}
KeyShares(w) == Leaked(w) \union
                {v \in Honest : Holds(v, w) /\ \E S \in answered[v] : w \notin S \/ ~On("R-UNMASK-2")}
KnowsSeed(w) == Cardinality(SeedShares(w)) >= T
KnowsKey(w) == Cardinality(KeyShares(w)) >= T

\* The masks between two of G cancel when both made them, under the same keys.
Cancel(u, v, G) == v \in G /\ u \in dealers[v] /\ v \notin fake[u] /\ u \notin fake[v]

\* The sum of the vectors of G is bare once every mask in it is known or cancels.
Opens(G) == /\ G # {}
            /\ \A u \in G :
                 \/ KnowsKey(u)
                 \/ \A v \in dealers[u] :
                      IF v \in Corrupt \union fake[u] THEN TRUE ELSE KnowsKey(v) \/ Cancel(u, v, G)
Opened == {G \in SUBSET {u \in Honest : Submitted(u) /\ KnowsSeed(u)} : Opens(G)}

-----------------------------------------------------------------------------
(* What must hold.  All of it, once broken, stays broken.                  *)

\* Never both kinds of share of one honest client to the threshold, once its vector is out.
NoBothKinds == \A u \in Honest : Submitted(u) => ~(KnowsSeed(u) /\ KnowsKey(u))

\* No sum of too few honest clients.
MinSum == \A G \in Opened : Cardinality(G) >= Fewest - Cardinality(Corrupt)

\* No sum but one, over every honest member of the one set that was answered for.
OneSum == \A G \in Opened : \A u \in Honest : \A S \in answered[u] : G = S \intersect Honest

\* Two that must be violated, or the model says nothing: a sum opens; a sum opens after a dropout.
NeverOpens == Opened = {}
NeverRecovers == \A G \in Opened : \A u \in G : dealers[u] \intersect Honest \subseteq G
=============================================================================
