"""``/v1/models``: versions of the cost model."""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from cost_model.versions import Bundle
from service.api.context import ADMIN, DEFAULT_LIMIT, READ, Context, Cursor, Id, Limit, Services
from service.api.views import model_view, order_view
from service.db.model_values import DatasetQuery, ModelFile, OrderKind
from tuner.client import wire

router = APIRouter(prefix="/v1/models", tags=["models"])

Version = Annotated[str, Path(max_length=100)]


@router.get("", response_model=wire.Page[wire.ModelView], dependencies=[READ])
def list_models(
    services: Context, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> wire.Page[wire.ModelView]:
    """List versions of the cost model, newest first."""
    found = services.store.model_versions(limit=limit, cursor=cursor)
    promoted = services.store.promoted_model()
    return wire.Page(
        items=[model_view(version, promoted) for version in found.items],
        next_cursor=found.next_cursor,
    )


@router.post("/train", status_code=202, response_model=wire.OrderView, dependencies=[ADMIN])
def train(request: wire.TrainRequest, services: Context, response: Response) -> wire.OrderView:
    """Train a version from the trials in the database; the order says what came of it."""
    query = DatasetQuery(
        target_id=request.target_id,
        operator=request.operator,
        since=request.since,
        until=request.until,
    )
    asked = {**query.as_dict(), "seed": request.seed, "promote": request.promote}
    return _give(services, response, OrderKind.TRAIN, asked)


@router.post("/evaluate", status_code=202, response_model=wire.OrderView, dependencies=[ADMIN])
def evaluate(
    request: wire.EvaluateRequest, services: Context, response: Response
) -> wire.OrderView:
    """Judge a version on the held-out shapes, operators and targets of now."""
    if request.version is not None:
        services.store.model_version(request.version)
    return _give(services, response, OrderKind.EVALUATE, {"version": request.version})


@router.post("/promote", status_code=202, response_model=wire.OrderView, dependencies=[ADMIN])
def promote(request: wire.PromoteRequest, services: Context, response: Response) -> wire.OrderView:
    """Bring a version into use, if it is better than the one in use on all gates."""
    services.store.model_version(request.version)
    asked = {"version": request.version, "force": request.force}
    return _give(services, response, OrderKind.PROMOTE, asked)


@router.post("/rollback", response_model=wire.RollbackAnswer, dependencies=[ADMIN])
def roll_back(services: Context) -> wire.RollbackAnswer:
    """Take the version in use out of it: the one before is in use again, at once."""
    rolled_back, promoted = services.store.roll_back_model()
    return wire.RollbackAnswer(rolled_back=rolled_back, promoted=promoted)


@router.post("/import", status_code=202, response_model=wire.OrderView, dependencies=[ADMIN])
def import_model(
    request: wire.ImportModelRequest, services: Context, response: Response
) -> wire.OrderView:
    """Take over a version that another server exported; it is checked, and not promoted."""
    Bundle.from_bytes(request.bundle)
    return _give(services, response, OrderKind.IMPORT, {}, request.bundle)


@router.get("/orders/{order_id}", response_model=wire.OrderView, dependencies=[READ])
def get_order(order_id: Id, services: Context) -> wire.OrderView:
    """Show what came of an order."""
    return order_view(services.store, services.store.order(order_id))


@router.get("/{version}", response_model=wire.ModelView, dependencies=[READ])
def get_model(version: Version, services: Context) -> wire.ModelView:
    """Show a version."""
    found = services.store.model_version(version)
    return model_view(found, services.store.promoted_model())


@router.get(
    "/{version}/file",
    response_class=Response,
    responses={200: {"content": {"application/zip": {}}, "description": "The exported version."}},
    dependencies=[READ],
)
def export_model(version: Version, services: Context) -> Response:
    """Export a version with its files, for `POST /v1/models/import` of another server."""
    store = services.store
    bundle = Bundle(
        version=store.model_version(version),
        content=store.model_file(version, ModelFile.CONTENT),
        judge=store.model_file(version, ModelFile.JUDGE),
    )
    return Response(bundle.to_bytes(), media_type="application/zip")


def _give(
    services: Services,
    response: Response,
    kind: OrderKind,
    asked: dict[str, object],
    content: bytes | None = None,
) -> wire.OrderView:
    order = services.store.give_order(kind, asked, content)
    response.headers["Location"] = f"{router.prefix}/orders/{order.order_id}"
    return order_view(services.store, order)
