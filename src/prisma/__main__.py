"""`python -m prisma`, which LiteLLM calls where there is no `prisma` on the PATH."""

from litellm_sqlalchemy.prisma_client.command_line import main

if __name__ == "__main__":
    main()
