"""The columns of a feature row.

Nothing here needs TVM, so a process that only holds models can check them against these names.
Columns that hold a count or an amount hold ``log2(1 + x)``.
"""

from cost_model.footprint import ANALYSIS_COLUMNS
from cost_model.launch import LAUNCH_COLUMNS
from cost_model.loop_nest import LOOP_COLUMNS

FEATURE_VERSION = 6
"""Raised whenever a column's meaning changes; models of another version are not loaded."""

_ARITHMETIC = (
    *("float_mad", "float_add_sub", "float_mul", "float_div_mod"),
    *("float_compare", "float_math", "float_other"),
    *("int_mad", "int_add_sub", "int_mul", "int_div_mod"),
    *("int_compare", "int_math", "int_other"),
    *("bool", "select"),
)
ANNOTATIONS: tuple[str, ...] = ("vectorize", "unroll", "parallel")
_ANNOTATION = (
    *("count", "extent", "innermost_extent"),
    *("at_none", "at_inner_spatial", "at_middle_spatial", "at_outer_spatial"),
    *("at_inner_reduce", "at_middle_reduce", "at_outer_reduce", "at_mixed"),
)
_GPU = (
    *("is_gpu", "block_x", "block_y", "block_z"),
    *("thread_x", "thread_y", "thread_z", "virtual_thread"),
)
_BUFFER = (
    *("is_read", "is_written", "is_read_written"),
    *("bytes", "unique_bytes", "lines", "unique_lines"),
    *("reuse_by_loop", "reuse_serial", "reuse_none"),
    *("reuse_distance_iterations", "reuse_distance_bytes", "reuse_count"),
    *("bytes_per_reuse", "unique_bytes_per_reuse", "lines_per_reuse", "unique_lines_per_reuse"),
    "stride",
)
BUFFERS_PER_STORE = 5
INTENSITY_SAMPLES = 10

STORE_COLUMNS: tuple[str, ...] = (
    *(f"arithmetic.{name}" for name in _ARITHMETIC),
    *(f"{annotation}.{name}" for annotation in ANNOTATIONS for name in _ANNOTATION),
    *(f"gpu.{name}" for name in _GPU),
    *(f"buffer{slot}.{name}" for slot in range(BUFFERS_PER_STORE) for name in _BUFFER),
    *(f"intensity.{sample}" for sample in range(INTENSITY_SAMPLES)),
    *(f"allocation.{name}" for name in ("bytes", "touched", "outer_extent", "inner_extent")),
    *(f"outer.{name}" for name in ("extent", "loops", "unroll_step")),
)
"""What TVM extracts for each buffer store, in TVM's order.

Buffers are sorted by the cache lines that they touch, most first. Arithmetic intensity is FLOPs per
unique byte over growing parts of the loop nest.

Source: Zheng et al., "Ansor: Generating High-Performance Tensor Programs for Deep Learning", OSDI
2020, appendix B, in the layout of ``PerStoreFeature`` of TVM's MetaSchedule.
"""

# TVM lays these out but never sets them: it counts no multiply-adds, and of an annotated loop's
# position it only says whether there is such a loop, which its count says already.
_NEVER_SET = frozenset(
    [
        "arithmetic.float_mad",
        "arithmetic.int_mad",
        *(f"{kind}.{name}" for kind in ANNOTATIONS for name in _ANNOTATION if "at_" in name),
    ]
)

_KEPT = tuple(name for name in STORE_COLUMNS if name not in _NEVER_SET)

ARITHMETIC_COLUMNS: tuple[str, ...] = tuple(
    name for name in _KEPT if name.startswith("arithmetic.")
)
"""The columns of `STORE_COLUMNS` that together are the work of a store."""

DOMINANT_COLUMNS: tuple[str, ...] = tuple(
    name
    for name in _KEPT
    if name.startswith(("gpu.", "allocation.", "outer.")) and name != "outer.unroll_step"
)
"""The columns of `STORE_COLUMNS` that are kept of the store that does most of the work.

How its loops are annotated and what it asks of memory is left out: ``loops`` and ``analysis`` say
it of the loop nest, and models learn no less without it, in less time.
"""

LARGEST_COLUMNS: tuple[str, ...] = tuple(
    name
    for name in _KEPT
    if name.startswith((*ANNOTATIONS, "outer.", "allocation.")) and "innermost" not in name
)
"""The columns of `STORE_COLUMNS` of which the largest of all stores is kept.

Sums and normalisations have several stores that matter: a dominant one that is vectorised does not
show that another one is not. Of annotated loops the innermost is left out: as a rule it is the only
one, and then its extent is that of all of them.
"""

TRAFFIC: tuple[str, ...] = ("bytes", "lines", "bytes_per_reuse", "lines_per_reuse")
"""What is added up of the memory that a store touches through one buffer."""

TOTAL_COLUMNS: tuple[str, ...] = (
    *(name for name in ARITHMETIC_COLUMNS if "float" in name),
    *TRAFFIC,
)
"""Amounts added up over all stores, and over all their buffers, of a program.

Integers are left out: they are addresses or as many as the workload's operations.
"""

SHARE_COLUMNS: tuple[str, ...] = ANNOTATIONS
"""Which share of all work lies inside loops with such an annotation, from 0 to 1."""

PROGRAM_COLUMNS: tuple[str, ...] = (
    *("parallel_regions", "least_parallel", "nests", "serial_iterations"),
)
"""The program as a whole, whose dominant block is not all that takes time.

How often the cores are called together, how many parallel iterations there are in the region with
the fewest, how many loop nests there are, and how many iterations run on one core.
"""

TASK_COLUMNS: tuple[str, ...] = (
    *("log2_flops", "log2_bytes", "log2_flops_per_byte", "log2_cores"),
    *("log2_output_elements", "log2_largest_input", "log2_element_bytes", "log2_tensors"),
    *("log2_vector_bytes", "log2_peak_flops", "log2_bandwidth", "log2_roofline_secs"),
)
"""The workload and the target; the same for all candidates of a task."""

TASK_SLICE = slice(0, len(TASK_COLUMNS))
"""Where the task's columns are in a row."""

ROOFLINE_COLUMN = TASK_COLUMNS.index("log2_roofline_secs")
"""The column with the bound that no candidate of the task can beat, in log2 seconds."""

FEATURE_NAMES: tuple[str, ...] = (
    *(f"task.{name}" for name in TASK_COLUMNS),
    *(f"loops.{name}" for name in LOOP_COLUMNS),
    *(f"analysis.{name}" for name in ANALYSIS_COLUMNS),
    *(f"program.{name}" for name in PROGRAM_COLUMNS),
    *(f"total.{name}" for name in TOTAL_COLUMNS),
    *(f"share.{name}" for name in SHARE_COLUMNS),
    *(f"largest.{name}" for name in LARGEST_COLUMNS),
    *(f"dominant.{name}" for name in DOMINANT_COLUMNS),
    *(f"gpu_program.{name}" for name in LAUNCH_COLUMNS),
)
"""The columns of a feature row, in order."""
