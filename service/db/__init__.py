"""The database: jobs, the batch queue, tuning records and bests.

`service.db.store.Store` is what the rest of the service uses; `service.db.migrate` makes the
schema. ORM rows never leave this package: `service.db.convert` is the border.

Locks are taken in one order everywhere, so that transactions do not wait for each other in a
circle: worker, then jobs by id, then batches by id, then items.
"""
