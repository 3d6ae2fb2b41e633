"""Names for the array types that cross the package's borders."""

import numpy as np
import numpy.typing as npt

FloatMatrix = npt.NDArray[np.float32]
"""2-D: one row for each candidate, one column for each feature."""

ScoreVector = npt.NDArray[np.float32]
"""1-D: one predicted score for each candidate; larger is faster."""

SecondsVector = npt.NDArray[np.float64]
"""1-D: one latency for each candidate, in seconds; NaN where the trial failed."""

GroupVector = npt.NDArray[np.int64]
"""1-D: the group of each candidate; only latencies of one group can be compared."""
