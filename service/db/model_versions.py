"""Versions of the cost model: kept with their files, in use or not."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from cost_model.versions import ModelVersion
from schedules.errors import ConflictError, NotFoundError
from service.db import convert
from service.db.engine import Repository, database_now, insert_new, locked, new_id, reading, writing
from service.db.model_rows import ModelFileRow, ModelVersionRow, PromotionRow
from service.db.model_values import ModelFile
from service.db.paging import page
from service.db.values import Page


class ModelVersions(Repository):
    """Versions are added, and never changed; promotions say which of them is in use."""

    @writing
    def add_model_version(
        self, session: Session, version: ModelVersion, *, content: bytes, judge: bytes
    ) -> None:
        """Store a version with its files; one that is known stays as it is."""
        if session.get(ModelVersionRow, version.version) is not None:
            return
        session.add(ModelVersionRow(**convert.model_version_values(version)))
        session.flush()
        rows = [
            {"version": version.version, "part": part, "content": data}
            for part, data in ((ModelFile.CONTENT, content), (ModelFile.JUDGE, judge))
        ]
        insert_new(session, ModelFileRow, rows, ModelFileRow.part)

    @reading
    def model_version(self, session: Session, version: str) -> ModelVersion:
        """Return a version.

        Raises
        ------
        NotFoundError
            There is none of that name.
        """
        return convert.model_version(_find(session, version))

    @reading
    def model_file(self, session: Session, version: str, part: ModelFile) -> bytes:
        """Return a file of a version.

        Raises
        ------
        NotFoundError
            There is no such version.
        """
        row = session.get(ModelFileRow, (version, part))
        if row is None:
            raise _unknown(version)
        return row.content

    @reading
    def model_versions(
        self, session: Session, *, limit: int, cursor: str | None
    ) -> Page[ModelVersion]:
        """List versions, newest first.

        Raises
        ------
        InputError
            The cursor or the limit is no good.
        """
        return page(
            session,
            select(ModelVersionRow),
            (ModelVersionRow.created_at, ModelVersionRow.version),
            lambda rows: [convert.model_version(row) for row in rows],
            limit=limit,
            cursor=cursor,
        )

    @reading
    def promoted_model(self, session: Session) -> str | None:
        """Return the version that is in use, None where jobs start without one."""
        promotion = _current(session)
        return None if promotion is None else promotion.version

    @writing
    def promote_model(self, session: Session, version: str) -> None:
        """Bring a version into use; one that is in use stays there.

        Raises
        ------
        NotFoundError
            There is no such version.
        """
        _find(session, version)
        current = _current(session)
        if current is not None and current.version == version:
            return
        session.add(
            PromotionRow(promotion_id=new_id(), version=version, promoted_at=database_now(session))
        )

    @writing
    def roll_back_model(self, session: Session) -> tuple[str, str | None]:
        """Take the version in use out of it, and return it with the one that is in use now.

        Raises
        ------
        ConflictError
            None is in use.
        """
        current = _current(session)
        if current is None:
            raise ConflictError("no version is in use, so there is nothing to roll back")
        (row,) = locked(
            session,
            select(PromotionRow).where(PromotionRow.promotion_id == current.promotion_id),
        )
        if row.rolled_back_at is not None:
            raise ConflictError("somebody else has just rolled back; look again")
        row.rolled_back_at = database_now(session)
        session.flush()
        before = _current(session)
        return row.version, None if before is None else before.version


def _current(session: Session) -> PromotionRow | None:
    return session.scalars(
        select(PromotionRow)
        .where(PromotionRow.rolled_back_at.is_(None))
        .order_by(PromotionRow.promoted_at.desc(), PromotionRow.promotion_id.desc())
        .limit(1)
    ).one_or_none()


def _find(session: Session, version: str) -> ModelVersionRow:
    row = session.get(ModelVersionRow, version)
    if row is None:
        raise _unknown(version)
    return row


def _unknown(version: str) -> NotFoundError:
    return NotFoundError(
        f"there is no version {version!r} of the cost model; `tunesmith model list` shows them"
    )
