"""What LiteLLM imports as `prisma`: names only; all of it is in litellm_sqlalchemy.prisma_client."""

from litellm_sqlalchemy.prisma_client.client import Batch as Batch
from litellm_sqlalchemy.prisma_client.client import Client as Client
from litellm_sqlalchemy.prisma_client.client import Prisma as Prisma
from litellm_sqlalchemy.prisma_client.client import TransactionManager as TransactionManager
from litellm_sqlalchemy.prisma_client.client import get_client as get_client
from litellm_sqlalchemy.prisma_client.client import register as register
from litellm_sqlalchemy.prisma_client.fields import Base64 as Base64
from litellm_sqlalchemy.prisma_client.fields import Json as Json
from litellm_sqlalchemy.prisma_client.other_prisma import refuse
from prisma import client as client
from prisma import engine as engine
from prisma import errors as errors
from prisma import fields as fields
from prisma import models as models
from prisma import types as types

refuse()
