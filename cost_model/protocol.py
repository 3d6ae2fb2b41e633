"""What a cost model is."""

from pathlib import Path
from typing import Protocol

from cost_model.arrays import FloatMatrix, ScoreVector
from cost_model.dataset import Dataset


class CostModel(Protocol):
    """Predicts how fast candidates will run, from their features, without running them.

    Scores order the candidates of one workload and target; scores of different ones cannot be
    compared. They have no unit.

    One thread at a time may call `fit` or `load`. `predict` and `save` may be called from any
    number of threads at any time, also during a `fit` or `load`: each call works with the state
    from before or from after it, never with a mixture. Arguments are neither changed nor kept, and
    what is returned belongs to the caller. A model has no hidden inputs: the same constructor
    arguments and dataset give the same predictions.
    """

    @property
    def version(self) -> str | None:
        """Identity of the fitted state, equal for equal states; None before the first one."""
        ...

    def fit(self, dataset: Dataset) -> None:
        """Learn from `dataset` alone; whatever was learnt before is forgotten.

        Raises
        ------
        ContractError
            The dataset has no rows or not the columns of ``FEATURE_NAMES``. The model stays as
            it was.
        """
        ...

    def predict(self, features: FloatMatrix) -> ScoreVector:
        """Score candidates; higher is faster.

        Parameters
        ----------
        features : numpy.ndarray
            float32, shape (n, ``len(FEATURE_NAMES)``), finite; n may be 0.

        Returns
        -------
        numpy.ndarray
            float32, shape (n,), finite.

        Raises
        ------
        ContractError
            Nothing was fitted or loaded yet, or `features` has another shape or is not finite.
        """
        ...

    def save(self, path: Path) -> None:
        """Write the fitted state to a file, which replaces an older one as a whole.

        Raises
        ------
        ContractError
            Nothing was fitted or loaded yet.
        """
        ...

    def load(self, path: Path) -> None:
        """Take over the state that `save` wrote.

        Raises
        ------
        NotFoundError
            There is no such file.
        InputError
            The file is not such a model, or was fitted on other features than this program
            extracts. The model stays as it was.
        """
        ...
