"""What the parts of the matrix file are made of: unknown keys and wrong types are errors, names are safe as file names."""

from __future__ import annotations

import typing

from pydantic import BaseModel, ConfigDict, Field

Name = typing.Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Seed = typing.Annotated[int, Field(ge=0, lt=2**32)]  # what numpy and torch both take


class Strict(BaseModel):
    """A mapping of the matrix file with no keys but its fields."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
