import pytest

from tuner.worker import steps
from tuner.worker.machine import (
    LONGEST_WAIT_SECS,
    MEASURER_FAILURES,
    State,
    WorkerMachine,
)


def registering(**options):
    machine = WorkerMachine(**options)
    assert machine.start() == (steps.Post(), steps.Register())
    return machine


def checking(**options):
    machine = registering(**options)
    registered = steps.Registered(heartbeat_secs=10.0)
    assert machine.handle(registered, 0.0) == (steps.Post(), steps.Check())
    return machine


def idle(check_secs=1e6, **options):
    machine = checking(**options)
    assert machine.handle(steps.Checked(), 0.0) == (steps.ReportCheck(),)
    told = steps.CheckTold(check_secs=check_secs)
    assert machine.handle(told, 0.0) == (steps.Post(), steps.Poll())
    return machine


def state_of(machine):
    """Return the state without narrowing its type for what follows."""
    return machine.state


def measured(left=5, stored=True):
    return steps.Measured(left=left, stored=stored)


def wait_secs(machine):
    plan = machine.handle(steps.Unreachable(), 0.0)
    assert isinstance(plan[0], steps.Wait)
    return plan[0].secs


def measuring(ttl_secs=30.0, **options):
    machine = idle(**options)
    plan = machine.handle(steps.LeaseGranted(ttl_secs=ttl_secs, asked_at=0.0), 0.0)
    assert plan == (steps.StartBatch(), steps.NextResult())
    assert state_of(machine) is State.MEASURING
    return machine


def test_a_batch_from_poll_to_poll():
    machine = measuring()
    assert machine.handle(measured(), 0.2) == (steps.NextResult(),)
    assert machine.handle(steps.BatchEnded(), 0.0) == (steps.Post(), steps.Poll())
    assert (machine.state, machine.batches_done) == (State.IDLE, 1)


def test_no_work_polls_again():
    assert idle().handle(steps.NoWork(), 0.0) == (steps.Post(), steps.Poll())


def test_results_are_posted_in_groups():
    machine = measuring()
    posts = [steps.Post() in machine.handle(measured(), n * 0.3) for n in range(1, 9)]
    assert posts == [False, False, False, True, False, False, False, True]


def test_the_last_result_is_posted_by_the_end_of_the_batch_and_needs_no_heartbeat():
    machine = measuring()
    assert machine.handle(measured(left=0), 29.0) == (steps.NextResult(),)
    assert machine.handle(steps.BatchEnded(), 0.0)[0] == steps.Post()


def test_heartbeats_go_out_when_due_and_only_between_results():
    machine = measuring(ttl_secs=15.0)
    assert steps.Heartbeat() not in machine.handle(measured(), 4.9)
    assert machine.handle(measured(), 5.0)[-2:] == (steps.Heartbeat(), steps.NextResult())
    told = steps.HeartbeatTold(command="continue", ttl_secs=15.0, asked_at=5.0)
    assert machine.handle(told, 0.0) is None
    assert steps.Heartbeat() not in machine.handle(measured(), 9.9)
    assert steps.Heartbeat() in machine.handle(measured(), 10.0)


def test_a_heartbeat_is_never_later_than_the_server_wants():
    machine = measuring(ttl_secs=3000.0)
    assert steps.Heartbeat() in machine.handle(measured(), 10.0)


def test_a_lost_lease_ends_the_batch():
    machine = measuring()
    plan = machine.handle(steps.LeaseLost(reason="it ended"), 0.0)
    assert [type(action) for action in plan] == [steps.Abandon, steps.Post, steps.Poll]
    assert state_of(machine) is State.IDLE
    assert machine.handle(measured(), 1.0) is None


def test_a_cancelled_job_ends_the_batch_and_frees_the_lease():
    machine = measuring()
    plan = machine.handle(steps.HeartbeatTold(command="cancel", ttl_secs=30.0, asked_at=1.0), 0.0)
    kinds = [type(action) for action in plan]
    assert kinds[:3] == [steps.Abandon, steps.Post, steps.Release]
    assert kinds[-1] is steps.Poll


def test_drained_by_the_server_it_finishes_its_batch_and_leaves():
    machine = measuring()
    told = steps.HeartbeatTold(command="drain", ttl_secs=30.0, asked_at=1.0)
    assert machine.handle(told, 0.0) is None
    assert state_of(machine) is State.DRAINING
    assert machine.handle(measured(), 1.5)[-1] == steps.NextResult()
    assert machine.handle(steps.BatchEnded(), 0.0) == (steps.Post(), steps.Exit())
    assert state_of(machine) is State.STOPPED


def test_measuring_goes_on_while_the_server_is_away_until_the_lease_runs_out():
    machine = measuring(ttl_secs=30.0)
    assert machine.handle(steps.Unreachable(), 10.0) is None
    assert state_of(machine) is State.MEASURING
    assert steps.Heartbeat() in machine.handle(measured(), 16.0)
    plan = machine.handle(steps.Unreachable(), 30.0)
    assert isinstance(plan[0], steps.Abandon)
    assert state_of(machine) is State.IDLE


def test_waits_grow_up_to_a_limit_and_start_small_again():
    machine = idle()
    waits = [wait_secs(machine) for _ in range(9)]
    assert waits[:3] == [0.5, 1.0, 2.0]
    assert waits[-1] == LONGEST_WAIT_SECS
    machine.handle(steps.NoWork(), 0.0)
    assert wait_secs(machine) == 0.5


def test_registering_is_tried_until_the_server_answers():
    machine = registering()
    for _ in range(3):
        after = machine.handle(steps.Unreachable(), 0.0)
        assert after[1:] == (steps.Post(), steps.Register())
    assert machine.handle(steps.Registered(heartbeat_secs=1.0), 0.0)[-1] == steps.Check()


def test_a_server_that_forgot_the_worker_is_told_again():
    machine = idle()
    assert machine.handle(steps.Forgotten(), 0.0)[-1] == steps.Register()
    assert state_of(machine) is State.REGISTERING


def test_a_refusal_is_the_end():
    machine = idle()
    assert machine.handle(steps.Refused(reason="no"), 0.0) == (steps.Exit(reason="no"),)


@pytest.mark.parametrize("event", [None, steps.NoWork(), steps.Forgotten()])
def test_told_to_stop_without_a_batch_it_leaves_at_once(event):
    machine = idle()
    if event is not None:
        machine.handle(event, 0.0)
    assert machine.stop_requested()[-1] == steps.Exit()


def test_told_to_stop_it_finishes_its_batch():
    machine = measuring()
    assert machine.stop_requested() is None
    assert machine.handle(measured(), 1.0)[-1] == steps.NextResult()
    assert machine.handle(steps.BatchEnded(), 0.0) == (steps.Post(), steps.Exit())


def test_told_twice_to_stop_it_gives_the_batch_back():
    machine = measuring()
    machine.stop_requested()
    plan = machine.stop_requested()
    kinds = [type(action) for action in plan]
    assert kinds == [steps.Abandon, steps.Post, steps.Release, steps.Exit]


def test_a_first_stop_after_a_drain_still_finishes_the_batch():
    machine = measuring()
    machine.handle(steps.HeartbeatTold(command="drain", ttl_secs=30.0, asked_at=1.0), 0.0)
    assert machine.stop_requested() is None


def test_posts_that_fail_do_not_keep_a_stopped_worker():
    machine = measuring()
    machine.stop_requested()
    assert machine.handle(steps.BatchEnded(), 0.0) == (steps.Post(), steps.Exit())
    assert machine.handle(steps.Unreachable(), 1.0) is None


def test_it_leaves_after_its_batches():
    machine = measuring(max_batches=2)
    assert machine.handle(steps.BatchEnded(), 0.0)[-1] == steps.Poll()
    machine.handle(steps.LeaseGranted(ttl_secs=30.0, asked_at=0.0), 0.0)
    assert machine.handle(steps.BatchEnded(), 0.0) == (steps.Post(), steps.Exit())


def test_it_leaves_when_idle_where_that_is_wanted():
    assert idle(leave_when_idle=True).handle(steps.NoWork(), 0.0) == (steps.Post(), steps.Exit())


def test_a_machine_that_cannot_measure_gives_up_after_some_batches():
    machine = measuring()
    for _ in range(MEASURER_FAILURES - 1):
        plan = machine.handle(steps.MeasurerFailed(reason="host died"), 0.0)
        assert steps.Release() in plan
        assert plan[-1] == steps.Poll()
        machine.handle(steps.LeaseGranted(ttl_secs=30.0, asked_at=0.0), 0.0)
    assert machine.handle(steps.MeasurerFailed(reason="host died"), 0.0)[-1] == steps.Exit(
        reason="this machine cannot measure: host died"
    )


def test_a_result_shows_that_the_machine_can_measure():
    machine = measuring()
    for _ in range(2 * MEASURER_FAILURES):
        machine.handle(measured(), 1.0)
        assert machine.handle(steps.MeasurerFailed(reason="host died"), 0.0)[-1] == steps.Poll()
        machine.handle(steps.LeaseGranted(ttl_secs=30.0, asked_at=0.0), 0.0)


# --- checks --------------------------------------------------------------------------------------


def test_a_worker_is_checked_when_it_has_registered_and_before_it_polls():
    machine = checking()
    assert state_of(machine) is State.CHECKING
    assert machine.handle(steps.Checked(), 1.0) == (steps.ReportCheck(),)
    told = steps.CheckTold(check_secs=60.0)
    assert machine.handle(told, 1.0) == (steps.Post(), steps.Poll())
    assert state_of(machine) is State.IDLE


def test_a_device_without_a_reference_kernel_is_asked_once_for_each_registration():
    machine = checking()
    assert machine.handle(steps.Uncheckable(), 1.0) == (steps.Post(), steps.Poll())
    assert machine.handle(steps.NoWork(), 1e9) == (steps.Post(), steps.Poll())
    machine.handle(steps.Forgotten(), 2e9)
    assert machine.handle(steps.Registered(heartbeat_secs=10.0), 2e9)[-1] == steps.Check()


def test_the_next_check_waits_for_its_time_and_for_the_end_of_the_batch():
    machine = idle(check_secs=60.0)
    assert machine.handle(steps.NoWork(), 59.0) == (steps.Post(), steps.Poll())
    machine.handle(steps.LeaseGranted(ttl_secs=30.0, asked_at=59.0), 59.0)
    assert machine.handle(measured(), 61.0)[-1] == steps.NextResult()
    assert machine.handle(steps.BatchEnded(), 62.0) == (steps.Post(), steps.Check())
    machine.handle(steps.Checked(), 63.0)
    machine.handle(steps.CheckTold(check_secs=60.0), 63.0)
    assert machine.handle(steps.NoWork(), 122.0)[-1] == steps.Poll()
    assert machine.handle(steps.NoWork(), 123.0)[-1] == steps.Check()


@pytest.mark.parametrize(
    "ending",
    [
        steps.LeaseLost(reason="it ended"),
        steps.HeartbeatTold(command="cancel", ttl_secs=30.0, asked_at=61.0),
        steps.MeasurerFailed(reason="host died"),
    ],
)
def test_however_a_batch_ends_a_due_check_follows(ending):
    machine = measuring(check_secs=20.0)
    assert machine.handle(ending, 25.0)[-1] == steps.Check()


def test_a_server_that_is_away_gets_the_check_later_and_it_is_not_run_again():
    machine = checking()
    assert machine.handle(steps.Unreachable(), 1.0)[-2:] == (steps.Post(), steps.Check())
    machine.handle(steps.Checked(), 3.0)
    for now in (4.0, 5.0, 7.0):
        wait, report = machine.handle(steps.Unreachable(), now)
        assert (type(wait), report) == (steps.Wait, steps.ReportCheck())
    assert machine.handle(steps.CheckTold(check_secs=60.0), 9.0)[-1] == steps.Poll()


def test_a_check_that_fell_due_while_the_server_was_away_comes_before_the_poll():
    machine = idle(check_secs=60.0)
    assert machine.handle(steps.Unreachable(), 30.0)[-1] == steps.Poll()
    assert machine.handle(steps.Unreachable(), 61.0)[-1] == steps.Check()


def test_a_worker_that_is_forgotten_at_its_check_registers_and_waits_longer_each_time():
    machine = checking()
    waits = []
    for _ in range(4):
        machine.handle(steps.Checked(), 1.0)
        wait, register = machine.handle(steps.Forgotten(), 1.0)
        assert register == steps.Register()
        waits.append(wait.secs)
        assert machine.handle(steps.Registered(heartbeat_secs=10.0), 2.0)[-1] == steps.Check()
    assert waits == [0.5, 1.0, 2.0, 4.0]


@pytest.mark.parametrize("checked", [False, True])
def test_told_to_stop_during_a_check_it_leaves_at_once(checked):
    machine = checking()
    if checked:
        machine.handle(steps.Checked(), 1.0)
    assert machine.stop_requested() == (steps.Post(), steps.Exit())
    assert machine.handle(steps.Checked(), 2.0) is None
    assert machine.handle(steps.CheckTold(check_secs=1.0), 2.0) is None
    assert machine.handle(steps.Unreachable(), 2.0) is None


def test_a_refused_check_is_the_end():
    assert checking().handle(steps.Refused(reason="no"), 1.0) == (steps.Exit(reason="no"),)


# --- leases that end, disks that are full, servers that are busy ---------------------------------


def test_a_result_that_comes_after_the_end_of_its_lease_is_the_last():
    # The process was stopped, or suspended: nothing kept the lease meanwhile.
    machine = measuring(ttl_secs=30.0)
    plan = machine.handle(measured(), 30.0)
    assert [type(action) for action in plan] == [steps.Abandon, steps.Post, steps.Poll]
    machine = measuring(ttl_secs=30.0)
    machine.stop_requested()
    plan = machine.handle(measured(), 31.0)
    assert [type(action) for action in plan] == [steps.Abandon, steps.Post, steps.Exit]


def test_results_that_are_not_on_the_disk_are_posted_at_once():
    machine = measuring()
    plan = (steps.Post(), steps.NextResult())
    assert machine.handle(measured(stored=False), 0.1) == plan
    assert machine.handle(measured(stored=False), 0.2) == plan
    assert machine.handle(measured(), 0.3) == (steps.NextResult(),)


def test_nothing_more_is_measured_when_results_can_be_neither_stored_nor_posted():
    machine = measuring()
    machine.handle(measured(stored=False), 0.1)
    plan = machine.handle(steps.Unreachable(), 0.2)
    assert [type(action) for action in plan] == [steps.Abandon, steps.Post, steps.Poll]
    assert machine.handle(steps.Unreachable(), 0.3)[1:] == (steps.Post(), steps.Poll())


def test_a_server_that_asks_for_patience_is_given_it():
    machine = idle()
    [wait, *_] = machine.handle(steps.Unreachable(retry_after_secs=120.0), 0.0)
    assert wait.at_least_secs == 120.0
    machine = measuring(ttl_secs=300.0)
    assert machine.handle(steps.Unreachable(retry_after_secs=60.0), 10.0) is None
    assert machine.handle(measured(), 69.0) == (steps.NextResult(),)
    assert machine.handle(measured(), 70.0) == (
        steps.Post(),
        steps.Heartbeat(),
        steps.NextResult(),
    )
