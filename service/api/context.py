"""What every handler has at hand."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, TypeVar

from fastapi import Depends, Path, Query, Request

from service.answers import Answers
from service.auth import Auth, Scope, needs
from service.best_cache import BestCache
from service.db.store import Store
from service.db.values import Page
from service.events import Events
from service.fleet import Fleet
from service.load import Load
from service.lookout import Lookout
from service.metrics import Metrics
from service.programs import Printer, Programs
from service.resolve import Parser, Resolver
from service.settings import Settings
from tuner.client import wire

Domain = TypeVar("Domain")
View = TypeVar("View")


@dataclass(frozen=True, kw_only=True)
class Services:
    """The parts of the server that handlers use; made once, shared by all requests.

    Attributes
    ----------
    store : Store
        The results database.
    resolver : Resolver
        Makes workloads and targets of what clients write.
    events : Events
        Wakes those who wait.
    lookout : Lookout
        Looks into the queue for waiting workers.
    bests : BestCache
        Answers look-ups.
    answers : Answers
        Answers where there is no best.
    fleet : Fleet
        Knows whom to wake.
    auth : Auth
        Checks tokens.
    settings : Settings
        Limits and periods.
    load : Load
        Whether there is room for another job.
    metrics : Metrics
        What `/metrics` shows.
    programs : Programs
        Writes bests as programs.
    """

    store: Store
    resolver: Resolver
    events: Events
    lookout: Lookout
    bests: BestCache
    answers: Answers
    fleet: Fleet
    auth: Auth
    settings: Settings
    load: Load
    metrics: Metrics
    programs: Programs

    @classmethod
    def assemble(
        cls,
        *,
        store: Store,
        parser: Parser,
        printer: Printer,
        auth: Auth,
        settings: Settings,
        worker_due_secs: float = 0.0,
    ) -> "Services":
        """Make the parts that follow from others; `worker_due_secs` is the `Resolver`'s."""
        events = Events()
        load = Load(store, max_active_jobs=settings.max_active_jobs)
        return cls(
            store=store,
            resolver=Resolver(store=store, parser=parser, worker_due_secs=worker_due_secs),
            events=events,
            lookout=Lookout(store, events, poll_secs=settings.poll_secs),
            bests=BestCache(store, events),
            answers=Answers(store),
            fleet=Fleet(store),
            auth=auth,
            settings=settings,
            load=load,
            metrics=Metrics(load),
            programs=Programs(printer),
        )


async def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


# Ids are opaque; longer ones than any of ours cannot exist.
Id = Annotated[str, Path(max_length=200)]
IdFilter = Annotated[str | None, Query(min_length=1, max_length=200)]
Limit = Annotated[int, Query(ge=1, le=1000, description="Largest number of items in the page.")]
Cursor = Annotated[
    str | None, Query(max_length=1000, description="The `next_cursor` of the page before.")
]
Context = Annotated[Services, Depends(_services)]

READ = Depends(needs(Scope.READ))
SUBMIT = Depends(needs(Scope.SUBMIT))
MEASURE = Depends(needs(Scope.MEASURE))
ADMIN = Depends(needs(Scope.ADMIN))

DEFAULT_LIMIT = 100


def page(found: Page[Domain], view: Callable[[Domain], View]) -> wire.Page[View]:
    """Write a page."""
    return wire.Page(items=[view(item) for item in found.items], next_cursor=found.next_cursor)
