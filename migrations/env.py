"""Run by Alembic: applies migrations on the connection and in the transaction it is given."""

from alembic import context

from service.db.models import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    compare_type=True,
    # SQLite alters most things only by making the table anew.
    render_as_batch=True,
)
context.run_migrations()
