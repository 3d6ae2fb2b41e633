"""Tables of counts: how many records of which kind there are, by day and by month."""

from datetime import date

from sqlalchemy import BigInteger, ForeignKey, SmallInteger, String
from sqlalchemy.orm import Mapped, mapped_column

from service.db.columns import Base, choice
from service.db.summary_values import SeriesKind, Span


class SeriesRow(Base):
    """What counts of records are kept for: a target, alone or with an operator or a worker.

    `name` is the operator or the worker's id, None for programs that came as IR and for imports.
    """

    __tablename__ = "series"
    series_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    kind: Mapped[SeriesKind] = mapped_column(choice(SeriesKind))
    name: Mapped[str | None]
    target_id: Mapped[str] = mapped_column(ForeignKey("targets.target_id"))


class CountRow(Base):
    """How many records of a series have one outcome in a day or a month; see `service.db.counts`.

    `day` is the first one of the span.
    """

    __tablename__ = "record_counts"
    series_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("series.series_id"), primary_key=True, autoincrement=False
    )
    span: Mapped[Span] = mapped_column(choice(Span), primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    outcome: Mapped[str] = mapped_column(String(16), primary_key=True)
    bucket: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    records: Mapped[int] = mapped_column(BigInteger)
