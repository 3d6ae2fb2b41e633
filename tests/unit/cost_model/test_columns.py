import subprocess
import sys

from cost_model.columns import FEATURE_NAMES


def test_column_names_are_distinct() -> None:
    assert len(set(FEATURE_NAMES)) == len(FEATURE_NAMES)


def test_only_feature_extraction_needs_tvm() -> None:
    program = (
        "import sys\n"
        "import cost_model.metrics, cost_model.versions, cost_model.xgboost_model\n"
        "sys.exit('tvm' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
