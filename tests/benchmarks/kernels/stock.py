"""TVM's own tuner, as it comes: it runs before anything of this project is imported.

``python -m tests.benchmarks.kernels.stock IR_FILE TARGET_JSON TRIALS OUT_FILE`` writes the best
trace in our canonical form as a JSON string, or null where nothing was built.
"""

import json
import sys
import tempfile
from pathlib import Path

import tvm
from tvm.s_tir import meta_schedule as ms


def main(ir_file: str, target: str, trials: int, out_file: str) -> None:
    """Tune, and write what was found."""
    module = tvm.ir.load_json(Path(ir_file).read_text())
    described = tvm.target.Target(json.loads(target))
    with tempfile.TemporaryDirectory(prefix="bench-stock-") as folder:
        database = ms.tune_tir(
            module,
            described,
            folder,
            max_trials_global=trials,
            num_trials_per_iter=min(64, trials),
            runner=ms.runner.LocalRunner(timeout_sec=20),
        )
        record = database.query_tuning_record(module, described, "main")
    # Only now: this import registers the project's vector math.
    from schedules.trace import canonical_trace

    Path(out_file).write_text(json.dumps(record and canonical_trace(record.trace)))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
