"""The history of the database schema; see `service.db.migrate`.

A change is one new file in ``versions``, written by hand from ``script.py.mako`` and checked by
the test that compares the migrated schema with the models on both engines.
"""
