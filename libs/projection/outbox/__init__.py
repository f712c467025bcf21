"""The outbox: what reactors decide goes onto the line once, whatever crashes in between.

A reactor writes its decisions as frozen events into the outbox, in the transaction of its
checkpoint (`Outbox.decide`); a `Sender` appends them to the store. Why so: docs/adr/0016.
"""

from libs.projection.outbox.deciding import DAY_US, Decision, Outbox, may_act
from libs.projection.outbox.sending import OutboxState, Sender

__all__ = ["DAY_US", "Decision", "Outbox", "OutboxState", "Sender", "may_act"]
