"""The usual design, to compare with: LiteLLM's success callback opens an ORM session, adds a row, commits."""

import datetime as dt
import os
import uuid
from typing import Any

from litellm.integrations.custom_logger import CustomLogger
from sqlalchemy import create_engine
from sqlalchemy.orm import sessionmaker

from tests.bench.orm_model import Exchange


class OrmLogger(CustomLogger):
    """One row an exchange, after the answer."""

    def __init__(self) -> None:
        super().__init__()
        self._sessions = sessionmaker(create_engine(os.environ["BENCH_ORM_URL"]))

    async def async_log_success_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: dt.datetime, end_time: dt.datetime
    ) -> None:
        with self._sessions() as session:
            session.add(
                Exchange(
                    id=uuid.uuid4(),
                    call_id=kwargs["litellm_call_id"],
                    started_at=start_time,
                    finished_at=end_time,
                    model=kwargs["model"],
                    request={"messages": kwargs["messages"]},
                    response=response_obj.model_dump(mode="json"),
                )
            )
            session.commit()


logger = OrmLogger()
