"""The notification service as its callers see it: the calls of its four parts."""

from services.notification.calls import Parts
from services.notification.deliveries.calls import DeliveryCalls
from services.notification.expectations.calls import ExpectationCalls
from services.notification.inbox.calls import InboxCalls
from services.notification.rules.calls import RuleCalls
from touchline.notification.v1.notification_service_pb2_grpc import NotificationServiceServicer


class NotificationService(
    RuleCalls, ExpectationCalls, InboxCalls, DeliveryCalls, NotificationServiceServicer
):
    """Implements touchline.notification.v1.NotificationService; the proto is the contract."""

    def __init__(self, parts: Parts) -> None:
        RuleCalls.__init__(self, parts)
        ExpectationCalls.__init__(self, parts)
        InboxCalls.__init__(self, parts)
        DeliveryCalls.__init__(self, parts)
