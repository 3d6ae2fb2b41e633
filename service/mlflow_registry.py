"""The cost model's versions in MLflow's model registry."""

import json
import logging

from cost_model.versions import Bundle, ModelVersion
from service.db.model_values import ModelFile
from service.db.store import Store
from service.mlflow_rest import Tracking, as_tags, millis

logger = logging.getLogger(__name__)

MODEL = "tunesmith-cost-model"
PROMOTED = "promoted"
"""The alias of the version that is in use."""
NEWEST = 100
"""So many versions are looked at; older ones were sent, or are of no interest any more."""

_TAG = "tunesmith.version"


class Registry:
    """Mirrors what versions there are and which of them is in use.

    Parameters
    ----------
    store : Store
        Has the versions.

    Notes
    -----
    What was sent is remembered, and read once from MLflow by a new process: a version is sent once.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._numbers: dict[str, str] | None = None
        self._promoted: str | None = None

    def mirror(self, tracking: Tracking) -> None:
        """Send what is new; without anything new, nothing is asked of MLflow.

        Raises
        ------
        httpx.HTTPError
            MLflow does not answer, or refuses.
        """
        versions = self._store.model_versions(limit=NEWEST, cursor=None).items
        if not versions:
            return
        if self._numbers is None:
            self._numbers, self._promoted = _known(tracking)
        for version in reversed(versions):
            if version.version not in self._numbers:
                self._numbers[version.version] = self._add(tracking, version)
        promoted = self._store.promoted_model()
        if promoted == self._promoted:
            return
        if promoted is None:
            tracking.delete("registered-models/alias", name=MODEL, alias=PROMOTED)
        elif promoted in self._numbers:
            number = self._numbers[promoted]
            tracking.post("registered-models/alias", name=MODEL, alias=PROMOTED, version=number)
        self._promoted = promoted

    def _add(self, tracking: Tracking, version: ModelVersion) -> str:
        """Make a run with the version's metrics and files, and register it; return its number."""
        run_id, artifact_uri = tracking.start_run(
            f"cost model {version.version}", version.created_at, version=version.version
        )
        at = millis(version.created_at)
        tracking.post(
            "runs/log-batch",
            run_id=run_id,
            metrics=[
                {"key": name, "value": value, "timestamp": at, "step": 0}
                for name, value in version.metrics.items()
            ],
            params=[
                {"key": name, "value": str(value)} for name, value in _parameters(version).items()
            ],
        )
        bundle = Bundle(
            version=version,
            content=self._store.model_file(version.version, ModelFile.CONTENT),
            judge=self._store.model_file(version.version, ModelFile.JUDGE),
        )
        tracking.put_file(artifact_uri, "cost_model.zip", bundle.to_bytes())
        tracking.end_run(run_id, version.created_at)
        made = tracking.post(
            "model-versions/create",
            name=MODEL,
            source=artifact_uri,
            run_id=run_id,
            tags=as_tags({"version": version.version, "parent": version.parent or ""}),
        )
        number: str = made["model_version"]["version"]
        logger.debug("Version %s of the cost model is MLflow's %s", version.version, number)
        return number


def _known(tracking: Tracking) -> tuple[dict[str, str], str | None]:
    """Return MLflow's numbers of the versions that it knows, and the one that has the alias.

    Makes the model if need be. An alias of a version that is none of ours counts as another one.
    """
    found = tracking.get("registered-models/get", name=MODEL)
    if found is None:
        tracking.post("registered-models/create", name=MODEL)
        return {}, None
    known = tracking.get("model-versions/search", filter=f"name='{MODEL}'", max_results="1000")
    numbers = {
        tag["value"]: item["version"]
        for item in known.get("model_versions", ())
        for tag in item.get("tags", ())
        if tag["key"] == _TAG
    }
    aliases = found["registered_model"].get("aliases", ())
    aliased = next((item["version"] for item in aliases if item["alias"] == PROMOTED), None)
    if aliased is None:
        return numbers, None
    return numbers, next((name for name, number in numbers.items() if number == aliased), "")


def _parameters(version: ModelVersion) -> dict[str, object]:
    learnt = version.trained_on
    return {
        "parent": version.parent or "none",
        "feature_version": version.feature_version,
        "code_version": version.code_version,
        "rows": learnt.rows,
        "failed": learnt.failed,
        "censored": learnt.censored,
        "groups": learnt.groups,
        "query": json.dumps(dict(learnt.query)),
        "digest": learnt.digest,
    }
