"""The rules of profiles: four views and the attributes, as pure folds over a profile's events.

    show(VIEW_KIND_SALES, touches, now_us)  ->  the view as it stands at `now_us`
    VIEWS[VIEW_KIND_SALES].reads            ->  the event types it is folded from
    attributes(touches)                     ->  what is known, and how; from ATTRIBUTES_READ

No clock, no order of arrival and no double delivery has a say in what they answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from libs.consents import Standing
from services.profile.domain import customer, marketing, sales, service
from services.profile.domain.attributes import READS as ATTRIBUTES_READ
from services.profile.domain.attributes import attributes
from services.profile.domain.consents import shown_consents
from services.profile.domain.field_policy import FieldPolicy
from services.profile.domain.touches import Seen, Touch, see
from touchline.events.v1 import event_pb2
from touchline.profile.v1 import views_pb2

__all__ = [
    "ATTRIBUTES_READ",
    "SHOW_CONSENTS",
    "VIEWS",
    "Shown",
    "Touch",
    "View",
    "attributes",
    "show",
]

Shown = (
    views_pb2.SalesView | views_pb2.ServiceView | views_pb2.MarketingView | views_pb2.CustomerView
)


@dataclass(frozen=True, slots=True)
class View:
    """How one view is made.

    Attributes:
        policy: The fields of events it may see.
        fold: What it makes of them, at a time in microseconds since 1970.
    """

    policy: FieldPolicy
    fold: Callable[[Sequence[Seen], int], Shown]

    @property
    def reads(self) -> frozenset[event_pb2.EventType.ValueType]:
        """The event types it is folded from, retractions always among them."""
        return self.policy.reads


VIEWS: Mapping[views_pb2.ViewKind.ValueType, View] = MappingProxyType(
    {
        views_pb2.VIEW_KIND_SALES: View(sales.POLICY, sales.fold),
        views_pb2.VIEW_KIND_SERVICE: View(service.POLICY, service.fold),
        views_pb2.VIEW_KIND_MARKETING: View(marketing.POLICY, marketing.fold),
        views_pb2.VIEW_KIND_CUSTOMER: View(customer.POLICY, customer.fold),
    }
)


SHOW_CONSENTS = (views_pb2.VIEW_KIND_MARKETING, views_pb2.VIEW_KIND_CUSTOMER)
"""The views that show what a customer allowed and forbade, with its proof."""


def show(
    kind: views_pb2.ViewKind.ValueType,
    touches: Iterable[Touch],
    now_us: int,
    consents: Iterable[Standing] = (),
) -> Shown:
    """Shows a customer.

    Args:
        kind: The view.
        touches: Events of one profile in any order, any of them more than once. Types that the
            view doesn't read are left out of account.
        now_us: The time of the view, in microseconds since 1970. Touches after it still count:
            who wants the view as of a time passes the touches of that time.
        consents: How they stand. A view that doesn't show them leaves them out of account.

    Raises:
        KeyError: There is no such view.
    """
    view = VIEWS[kind]
    shown = view.fold(see(touches, view.policy), now_us)
    if isinstance(shown, views_pb2.MarketingView | views_pb2.CustomerView):
        shown.consents.extend(shown_consents(consents))
    return shown
