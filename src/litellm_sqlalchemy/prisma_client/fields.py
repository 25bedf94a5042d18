"""Values that say themselves what they are: `Json` and `Base64`, as prisma-client-py has them."""

import base64
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic import Json as PydanticJson
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema


class Json(PydanticJson):  # type: ignore[misc, type-arg] # pydantic shows type checkers something else there
    """A value for a Json field; as the type of a pydantic field, a JSON text that is read.

    Args:
        data: What json.dumps takes.
    """

    def __init__(self, data: Any) -> None:
        self.data = data

    @classmethod
    def keys(cls, **data: Any) -> "Json":
        """Make one of an object's fields.

        Args:
            data: The fields.
        """
        return cls(data)


class Base64:
    """Bytes, kept as the Base64 text that stands for them.

    Args:
        raw: The text, in ASCII.
    """

    __slots__ = ("_raw",)

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    @classmethod
    def encode(cls, value: bytes) -> "Base64":
        """Make one of bytes.

        Args:
            value: The bytes.
        """
        return cls(base64.b64encode(value))

    @classmethod
    def fromb64(cls, value: str | bytes) -> "Base64":
        """Make one of a text that is Base64 already.

        Args:
            value: The text.
        """
        return cls(value if isinstance(value, bytes) else value.encode("ascii"))

    def decode(self) -> bytes:
        """Give the bytes."""
        return base64.b64decode(self._raw)

    def decode_str(self, encoding: str = "utf-8") -> str:
        """Give the bytes as a text.

        Args:
            encoding: In which they are one.
        """
        return self.decode().decode(encoding)

    def __str__(self) -> str:
        """Give the Base64 text."""
        return self._raw.decode("ascii")

    def __repr__(self) -> str:
        """Show the Base64 text."""
        return f"Base64({self._raw!r})"

    def __eq__(self, other: object) -> bool:
        """Compare the texts."""
        return isinstance(other, Base64) and self._raw == other._raw

    __hash__ = None  # type: ignore[assignment] # as in prisma-client-py

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Take Base64 texts in pydantic's models, and dump to them."""
        return core_schema.no_info_before_validator_function(
            cls._validate,
            schema=core_schema.any_schema(),
            serialization=core_schema.plain_serializer_function_ser_schema(str),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Describe it as a text."""
        return {**handler.resolve_ref_schema(handler(schema)), "type": "string", "format": "byte"}

    @classmethod
    def _validate(cls, value: object) -> "Base64":
        if isinstance(value, Base64):
            return value
        if isinstance(value, str | bytes):
            return cls.fromb64(value)
        raise ValueError(f"{type(value).__name__} is no Base64: a text or bytes must be given")
