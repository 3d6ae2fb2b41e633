"""How long a candidate of a batch may take."""

from tuner.measure.deadlines import Deadlines


def test_a_slow_build_is_told_from_the_others_of_its_batch():
    deadlines = Deadlines()
    assert deadlines.of_build([0.1] * 3) == deadlines.build_secs
    assert deadlines.of_build([0.1] * 4) == deadlines.slow_build_secs
    assert deadlines.of_build([0.5] * 9) == 10.0
    assert deadlines.of_build([9.0] * 4) == deadlines.build_secs


def test_a_trial_with_an_incumbent_may_take_less():
    deadlines = Deadlines()
    assert deadlines.of_trial(None, 0) == deadlines.run_secs
    assert deadlines.of_trial(1e-5, 0) == deadlines.hopeless_run_secs
    assert deadlines.of_trial(5e-3, 0) == 5.0
    assert deadlines.of_trial(1.0, 0) == deadlines.run_secs
    assert deadlines.of_trial(1e-5, 2 * 10**8) == deadlines.hopeless_run_secs + 2.0
