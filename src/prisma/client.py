"""Names: see litellm_sqlalchemy.prisma_client.client."""

from litellm_sqlalchemy.prisma_client.client import Batch as Batch
from litellm_sqlalchemy.prisma_client.client import Client as Client
from litellm_sqlalchemy.prisma_client.client import Prisma as Prisma
from litellm_sqlalchemy.prisma_client.client import TransactionManager as TransactionManager
from litellm_sqlalchemy.prisma_client.client import get_client as get_client
from litellm_sqlalchemy.prisma_client.client import register as register
