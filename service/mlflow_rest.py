"""The few calls of MLflow's REST API that the sink needs."""

import time
from datetime import datetime
from typing import Any

import httpx

EXPERIMENT = "tunesmith"
ANSWER_SECS = 10.0

_PROXIED = "mlflow-artifacts:/"
_API = "/api/2.0/mlflow"


class Tracking:
    """A tracking server.

    Parameters
    ----------
    uri : str
        Such as ``http://127.0.0.1:5000``.

    Notes
    -----
    Methods raise `httpx.HTTPError` where it does not answer, or refuses.
    """

    def __init__(self, uri: str) -> None:
        self._http = httpx.Client(base_url=uri.rstrip("/"), timeout=ANSWER_SECS)

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def post(self, call: str, /, **body: Any) -> Any:
        """Make a call that changes something."""
        answer = self._http.post(f"{_API}/{call}", json=body)
        answer.raise_for_status()
        return answer.json()

    def get(self, call: str, /, **query: str) -> Any:
        """Ask for something; None where it does not exist."""
        answer = self._http.get(f"{_API}/{call}", params=query)
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        answer.raise_for_status()
        return answer.json()

    def delete(self, call: str, /, **body: str) -> None:
        """Remove something."""
        self._http.request("DELETE", f"{_API}/{call}", json=body).raise_for_status()

    def start_run(self, name: str, started: datetime | None, **tags: str) -> tuple[str, str]:
        """Begin a run of our experiment, which is made if need be; return its id and address."""
        known = self.get("experiments/get-by-name", experiment_name=EXPERIMENT)
        experiment_id = (
            self.post("experiments/create", name=EXPERIMENT)["experiment_id"]
            if known is None
            else known["experiment"]["experiment_id"]
        )
        created = self.post(
            "runs/create",
            experiment_id=experiment_id,
            run_name=name,
            start_time=millis(started),
            tags=as_tags(tags),
        )
        info = created["run"]["info"]
        return info["run_id"], info["artifact_uri"]

    def end_run(self, run_id: str, ended: datetime | None, *, failed: bool = False) -> None:
        """End a run."""
        status = "FAILED" if failed else "FINISHED"
        self.post("runs/update", run_id=run_id, status=status, end_time=millis(ended))

    def put_file(self, artifact_uri: str, name: str, content: bytes) -> bool:
        """Keep a file with a run; return False where the server does not pass files on.

        It then keeps them where only its own clients, with its own credentials, can write.
        """
        if not artifact_uri.startswith(_PROXIED):
            return False
        folder = artifact_uri.removeprefix(_PROXIED).strip("/")
        path = f"/api/2.0/mlflow-artifacts/artifacts/{folder}/{name}"
        self._http.put(path, content=content).raise_for_status()
        return True


def as_tags(values: dict[str, str]) -> list[dict[str, str]]:
    """Return tags of ours, by name."""
    return [{"key": f"tunesmith.{name}", "value": value} for name, value in values.items()]


def millis(moment: datetime | None) -> int:
    """Return a time as MLflow counts it; the present for None."""
    return int((moment.timestamp() if moment is not None else time.time()) * 1000)
