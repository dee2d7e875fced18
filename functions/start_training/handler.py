"""Lambda entry point: a batch of queue messages, or one event."""

from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.data_classes import SQSEvent
from aws_lambda_powertools.utilities.typing import LambdaContext

from common.messages import BadMessageError, Request, parse
from common.services import services
from start_training.trainer import Result, Trainer

logger = Logger()


@logger.inject_lambda_context(clear_state=True)
def handle(event: dict[str, Any], _context: LambdaContext) -> dict[str, Any]:
    """Look after every model that the messages concern; answer which messages must come again."""
    if "Records" not in event:
        request = parse(event)
        result = _train([request]) if request else None
        return {"job": result.job, "reason": result.reason} if result else {"job": None, "reason": "ignored"}
    failures: list[str] = []
    # All messages about one model ask for the same thing.
    models: dict[str, list[tuple[str, Request]]] = {}
    for record in SQSEvent(event).records:
        try:
            request = parse(record.body)
        except BadMessageError:
            logger.exception("unreadable message", extra={"message_id": record.message_id})
            failures.append(record.message_id)
            continue
        if request is None:
            logger.info("ignored: concerns no upload of a model", extra={"message_id": record.message_id})
        else:
            models.setdefault(request.model, []).append((record.message_id, request))
    for messages in models.values():
        try:
            _train([request for _, request in messages])
        except Exception:
            # One model's failure must not make the others' messages come again.
            logger.exception("training could not be started", extra={"model": messages[0][1].model})
            failures.extend(identifier for identifier, _ in messages)
    return {"batchItemFailures": [{"itemIdentifier": identifier} for identifier in failures]}


def _train(requests: list[Request]) -> Result:
    result = Trainer(services(), requests[0].model).run(requests)
    asked = [request.reason for request in requests]
    extra = {"model": result.model, "job": result.job, "reason": result.reason, "asked": asked}
    logger.info("training started" if result.job else "no training started", extra=extra)
    return result
