"""The table: for each event and phase the phases that the chat may be in afterwards.

A pair with no target is refused. ``Claim`` is not in it: it changes the owner and not the phase.
"""

from __future__ import annotations

from chatcluster.chat.state import Phase

W, R, I, A, E, X = (  # noqa: E741
    Phase.WAITING,
    Phase.RUNNING,
    Phase.INTERRUPTING,
    Phase.REQUIRES_ACTION,
    Phase.ERROR,
    Phase.ARCHIVED,
)

Row = dict[Phase, tuple[Phase, ...]]

TABLE: dict[str, Row] = {
    # event                   from  to (the first that applies; more than one where it depends)
    "Send(queue)":       {W: (R,), R: (R,), I: (I,), A: (A,), E: (R,), X: ()},
    "Send(interrupt)":   {W: (R,), R: (I,), I: (I,), A: (R,), E: (R,), X: ()},
    "Send(steer)":       {W: (R,), R: (R,), I: (I,), A: (A,), E: (R,), X: ()},
    "Send(reject)":      {W: (R,), R: (), I: (), A: (), E: (R,), X: ()},
    "Edit":              {W: (R,), R: (R,), I: (R,), A: (R,), E: (R,), X: ()},
    "Insert":            {W: (W,), R: (), I: (), A: (), E: (E,), X: ()},
    "DeleteMessage":     {W: (W,), R: (), I: (), A: (), E: (E,), X: ()},
    "DeleteQueued":      {W: (W,), R: (R,), I: (I,), A: (A,), E: (E,), X: (X,)},
    "Promote":           {W: (R,), R: (I,), I: (I,), A: (R,), E: (R,), X: ()},
    "Interrupt":         {W: (), R: (I,), I: (), A: (W, R), E: (), X: ()},
    "SubmitToolResults": {W: (), R: (), I: (), A: (A, R), E: (), X: ()},
    "Approve":           {W: (), R: (), I: (), A: (A, R), E: (), X: ()},
    "Deny":              {W: (), R: (), I: (), A: (A, R), E: (), X: ()},
    "SignedIn":          {W: (), R: (), I: (), A: (A, R), E: (), X: ()},
    "AnswerQuestions":   {W: (), R: (R,), I: (), A: (A, R), E: (), X: ()},
    "Archive":           {W: (X,), R: (I,), I: (I,), A: (I,), E: (X,), X: ()},
    "Unarchive":         {W: (), R: (), I: (), A: (), E: (), X: (W, E)},
    "Compact":           {W: (R,), R: (), I: (), A: (), E: (R,), X: ()},
    "Rename":            {W: (W,), R: (R,), I: (I,), A: (A,), E: (E,), X: (X,)},
    "Configure":         {W: (W,), R: (R,), I: (I,), A: (A,), E: (E,), X: (X,)},
    # by any replica, when the time of a call is over
    "ExpireCalls":       {W: (), R: (), I: (), A: (A, R), E: (), X: ()},
    # by any replica, as agents come to rest, wait for a person, or are told of their parents
    "ReportAgents":      {W: (), R: (), I: (), A: (A, R), E: (), X: ()},
    "LookAgain":         {W: (W,), R: (R,), I: (I,), A: (A,), E: (E,), X: (X,)},
    "Close":             {W: (W,), R: (I,), I: (I,), A: (W,), E: (E,), X: (X,)},
    "Pin":               {W: (W,), R: (R,), I: (I,), A: (A,), E: (E,), X: (X,)},
    "ChooseModel":       {W: (W,), R: (R,), I: (I,), A: (A,), E: (E,), X: (X,)},
    "EditQueued":        {W: (W,), R: (R,), I: (I,), A: (A,), E: (E,), X: (X,)},
    # by the owner only, fenced
    "StartAttempt":       {W: (), R: (R,), I: (), A: (), E: (), X: ()},
    "KeepAnswer":         {W: (), R: (R,), I: (), A: (), E: (), X: ()},
    "ScheduleRetry":      {W: (), R: (R,), I: (), A: (), E: (), X: ()},
    "CommitStep":         {W: (), R: (R, A), I: (), A: (), E: (), X: ()},
    "StartCalls":         {W: (), R: (R,), I: (), A: (), E: (), X: ()},
    "AskAgain":           {W: (), R: (R, A), I: (), A: (), E: (), X: ()},
    "CommitSummary":      {W: (), R: (W, R), I: (), A: (), E: (), X: ()},
    "AwaitSignIn":        {W: (), R: (R, A), I: (), A: (), E: (), X: ()},
    "AskUser":            {W: (), R: (R, A), I: (), A: (), E: (), X: ()},
    "FinishTurn":         {W: (), R: (W, R), I: (), A: (), E: (), X: ()},
    "FinishInterruption": {W: (), R: (), I: (W, R, X), A: (), E: (), X: ()},
    "Fail":               {W: (), R: (E,), I: (), A: (), E: (), X: ()},
    "Release":            {W: (), R: (R,), I: (I,), A: (), E: (), X: ()},
}  # fmt: skip
