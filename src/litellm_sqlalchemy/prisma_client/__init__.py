"""What LiteLLM imports as `prisma`: its database, on SQLAlchemy, described by LiteLLM's own schema.prisma."""
