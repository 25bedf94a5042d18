"""Names: see litellm_sqlalchemy.prisma_client.fields."""

from litellm_sqlalchemy.prisma_client.fields import Base64 as Base64
from litellm_sqlalchemy.prisma_client.fields import Json as Json
