"""Schedule spaces: which schedules a search may choose from.

`SPACES` can be read without TVM; `schedules.space.generators` holds what makes them.
"""

DEFAULT_SPACE = "default"
STOCK_SPACE = "stock"
TENSOR_CORE_SPACE = "tensor-core"

SPACES: tuple[str, ...] = (DEFAULT_SPACE, STOCK_SPACE, TENSOR_CORE_SPACE)
"""Names that a job may give as its ``space``."""
