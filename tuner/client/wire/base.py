"""What all wire models share."""

from pydantic import BaseModel, ConfigDict


class Wire(BaseModel):
    """Base: unknown fields are errors, so that a misspelt name is noticed."""

    model_config = ConfigDict(extra="forbid", frozen=True)
