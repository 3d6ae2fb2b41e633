"""The base model in a process that uses it: read once, kept while it is in use."""

import logging

from cost_model.base_model import BaseModel
from cost_model.versions import version_of
from schedules.errors import InputError

logger = logging.getLogger(__name__)

_kept: dict[str, BaseModel] = {}


def base_model(content: bytes | None) -> BaseModel | None:
    """Return the model of a file, None without one or where this release extracts other features.

    A version that was promoted before an upgrade must not stop any search: it goes on as if there
    were none, until a new one is trained.
    """
    if content is None:
        return None
    version = version_of(content)
    if version not in _kept:
        try:
            model = BaseModel.from_bytes(content)
        except InputError as error:
            logger.warning("the cost model in use is left out: %s", error)
            return None
        _kept.clear()
        _kept[version] = model
    return _kept[version]
