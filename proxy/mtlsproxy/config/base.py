"""What every part of the model shares: the frozen base class and the shapes of lists and of absent keys."""

from types import NoneType
from typing import Annotated, Any, TypeVar, get_args

from annotated_types import MinLen
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, GetCoreSchemaHandler, Strict
from pydantic_core import CoreSchema, core_schema

T = TypeVar("T")


class Section(BaseModel):
    """A mapping of the configuration file. Attribute names are the YAML keys; unknown keys are errors."""

    # defer_build: only Config's validator is ever run over a file, and it contains all the others.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)


class NullIsNotAbsence:
    """Marks `X | None` where None means that the key is absent: a null written by the operator is an error.

    `hosts:` with its entries commented out must not mean "any host".
    """

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        (written,) = (member for member in get_args(source) if member is not NoneType)
        # Written out again (for hashes and state files), what is absent is null.
        as_it_is = core_schema.plain_serializer_function_ser_schema(_itself)
        return core_schema.chain_schema([handler.generate_schema(written)], serialization=as_it_is)


def _itself(value: object) -> object:
    return value


def _each_once(values: tuple[T, ...]) -> tuple[T, ...]:
    for index, value in enumerate(values):
        if value in values[:index]:
            raise ValueError(f"{value} is listed twice")
    return values


# Strict(False) lets the tuple be filled from YAML's list; its members stay strict.
Many = Annotated[tuple[T, ...], Strict(False)]
Some = Annotated[tuple[T, ...], Strict(False), MinLen(1)]
ManyOnce = Annotated[tuple[T, ...], Strict(False), AfterValidator(_each_once)]
SomeOnce = Annotated[tuple[T, ...], Strict(False), MinLen(1), AfterValidator(_each_once)]
Absent = Annotated[T | None, NullIsNotAbsence()]


def written(text: Any) -> Any:
    """A default in the operator's notation ("10s"), so that the schema shows what an author would write."""
    return Field(default=text, validate_default=True)
