"""The schema: migrations make on both engines what the models describe."""

from pathlib import Path

import pytest
from alembic import command
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.orm import Session

from schedules.errors import ConflictError, UnavailableError
from schedules.records import FailureKind
from service.db import migrate
from service.db.engine import Database
from service.db.queries import RecordFilter
from service.db.store import Store
from service.db.summary_values import GroupBy
from tests.contracts.store_values import WORKLOAD
from tests.contracts.test_store_concurrency import at_once


def test_an_upgraded_database_is_what_the_models_describe(bare_database_url: str) -> None:
    assert migrate.check(bare_database_url) == (
        "the schema is at revision None, this version needs 0009",
    )
    migrate.upgrade(bare_database_url)
    assert migrate.check(bare_database_url) == ()


def test_records_of_an_older_version_get_their_operator_and_are_counted(
    bare_database_url: str,
) -> None:
    def at_0003(session: Session) -> None:
        config = migrate._config()
        config.attributes["connection"] = session.connection()
        command.upgrade(config, "0003")
        for statement in (
            "INSERT INTO targets VALUES ('t', '{}', '2024-01-01 00:00:00')",
            "INSERT INTO workloads VALUES ('w', 'w', '{}', '[]', 1,"
            """ '{"op"\\: "matmul", "args"\\: {}, "dtype"\\: "float32"}', '2024-01-01 00:00:00')""",
            *(
                "INSERT INTO records (record_id, workload_id, target_id, worker_id, purpose, trace,"
                " trace_id, origin, run_secs, latency_secs, failure, environment, protocol_version,"
                f" created_at) VALUES ('{number}', 'w', 't', 'me', 'trial', '[]', 'x', 'search',"
                f" '[]', {secs}, {failure}, '{{}}', 2, '2024-01-3{number} 12:00:00')"
                for number, (secs, failure) in enumerate(
                    [("0.25", "NULL"), ("NULL", "'run_error'")]
                )
            ),
        ):
            session.execute(text(statement))

    database = Database(bare_database_url)
    database.write(at_0003)
    database.close()
    migrate.upgrade(bare_database_url)
    assert migrate.check(bare_database_url) == ()
    store = Store.open(bare_database_url)
    for group_by, key in ((GroupBy.OPERATOR, "matmul"), (GroupBy.WORKER, "me")):
        (group,) = store.summarise(group_by, RecordFilter(), limit=9).groups
        assert (group.key, group.records, group.measured) == (key, 2, 1)
        assert group.failures == {FailureKind.RUN_ERROR: 1}
    days = store.summarise(GroupBy.DAY, RecordFilter(operator="matmul"), limit=9)
    assert [day.key for day in days.groups] == ["2024-01-31", "2024-01-30"]
    store.close()


def test_check_names_what_differs(bare_database_url: str) -> None:
    migrate.upgrade(bare_database_url)
    database = Database(bare_database_url)
    database.write(lambda session: session.execute(text("DROP INDEX ix_batches_ready")))
    database.close()
    (difference,) = migrate.check(bare_database_url)
    assert "ix_batches_ready" in difference


def test_upgrading_again_changes_nothing(bare_database_url: str) -> None:
    migrate.upgrade(bare_database_url)
    store = Store.open(bare_database_url)
    store.save_workload(WORKLOAD)
    migrate.upgrade(bare_database_url)
    assert store.workload(WORKLOAD.workload_id) == WORKLOAD
    store.close()


def test_servers_that_upgrade_at_once_take_turns(bare_database_url: str) -> None:
    at_once(lambda _: migrate.upgrade(bare_database_url), threads=3)
    assert migrate.check(bare_database_url) == ()


def test_databases_are_upgraded_side_by_side_in_one_process(tmp_path: Path) -> None:
    urls = [f"sqlite:///{tmp_path / f'{number}.db'}" for number in range(4)]
    at_once(lambda number: migrate.upgrade(urls[number]), threads=4)
    assert [migrate.check(url) for url in urls] == [()] * 4


def test_a_migration_that_fails_leaves_nothing_behind(
    bare_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stamped = MigrationContext.run_migrations

    def fail(self: MigrationContext, **kwargs: object) -> None:
        stamped(self, **kwargs)
        raise RuntimeError("power cut")

    monkeypatch.setattr(MigrationContext, "run_migrations", fail)
    with pytest.raises(RuntimeError, match="power cut"):
        migrate.upgrade(bare_database_url)
    monkeypatch.undo()
    assert "revision None" in migrate.check(bare_database_url)[0]
    migrate.upgrade(bare_database_url)
    assert migrate.check(bare_database_url) == ()


def test_a_database_of_a_newer_version_is_not_touched(bare_database_url: str) -> None:
    migrate.upgrade(bare_database_url)
    database = Database(bare_database_url)
    database.write(
        lambda session: session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    )
    database.close()
    with pytest.raises(ConflictError):
        migrate.upgrade(bare_database_url)
    assert "9999" in migrate.check(bare_database_url)[0]


def test_a_store_without_a_schema_says_what_to_do(bare_database_url: str) -> None:
    store = Store.open(bare_database_url)
    store.ping()
    with pytest.raises(UnavailableError, match="tunesmith db upgrade"):
        store.active_jobs()
    store.close()
