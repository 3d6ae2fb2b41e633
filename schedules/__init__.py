"""What can be tuned and how a program is transformed.

Glossary
--------
workload
    A TIR program with concrete shapes and dtypes; identified by the SHA-256 of its canonical IR.
operator
    A catalogue entry that makes workloads from named arguments.
constant
    An input that holds the same values in every call of a workload, as weights do.
prepack
    What a trace does to constants ahead of the calls: copies them to the layout that it reads.
family
    All workloads whose programs differ in numbers only: the shapes of one program.
target
    What code is generated for: a kind (``llvm``), a CPU model, features and a core count.
device
    One physical thing that runs kernels.
worker
    The daemon that owns devices.
schedule space
    All traces that a set of rules can generate for a workload on a target.
trace
    A schedule as a replayable list of instructions and decisions.
candidate
    A trace proposed for one workload and target.
build, run
    The two phases of a trial: compiling a candidate, and timing it.
trial
    One candidate built and run.
tuning record
    The facts of a trial, never changed afterwards.
cost model
    Predicts how fast a candidate will run, from features, without running it.
job
    A request to tune a workload within a budget.
task
    A workload on a target, as a search or a cost model sees it.
budget
    The trials and seconds that a job, or several that share it, may spend.
round
    One ask, measure, tell cycle of a search.
batch
    The candidates that are leased to a worker together.
lease
    The right of one worker to measure one batch until a time that the database's clock sets.
finalist
    A candidate that is re-measured, interleaved and verified, before anything is published.
best
    The published record of a workload on a target.
incumbent
    The best so far inside a running search.

This package does no I/O. `schedules.canonical`, `schedules.ir`, `schedules.nests`,
`schedules.prepack`, `schedules.rewrites`, `schedules.trace`, `schedules.vector_math`,
`schedules.winograd` and the modules of `schedules.space` import TVM; the others do not, so that a
server can use them without it.
"""
