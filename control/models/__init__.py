"""All tables: importing this package fills `Base.metadata`."""

from control.models.adapters import Adapter, AdapterData, AdapterEvaluation, AdapterVersion, Deployment, Rollout
from control.models.base import Base
from control.models.chat import ChatSession
from control.models.comparison import (
    ComparisonCell,
    ComparisonRating,
    ComparisonRun,
    ComparisonVerdict,
    ComparisonVote,
    Suite,
    SuiteCase,
    SuiteVersion,
)
from control.models.gateways import BreakerSpan, GatewayRow
from control.models.identity import Membership, RefreshSession, ServiceToken, SpentToken, Team, User
from control.models.knowledge import (
    KnowledgeBase,
    KnowledgeChunk,
    KnowledgeDocument,
    KnowledgeEntry,
    KnowledgeIndex,
    KnowledgeVector,
)
from control.models.knowledge_tests import KnowledgeAnswer, KnowledgeQuestion, KnowledgeRun, KnowledgeTestSet
from control.models.ledger import AuditRow, Counter, Quarantine, SpendRow, UsageRow
from control.models.requests import RequestBody
from control.models.rollups import ROLLUPS
from control.models.routing import ApiKey, Credential, Endpoint, Grant, KeyUse, PriceVersion, Route, RouteVersion
from control.models.training import (
    Checkpoint,
    Dataset,
    DatasetOrigin,
    DatasetVersion,
    DeviceClaim,
    JobEvent,
    MetricPoint,
    TokenCount,
    TrainerRow,
    TrainingAttempt,
    TrainingJob,
    TrainingSample,
)

__all__ = [
    "ROLLUPS",
    "Adapter",
    "AdapterData",
    "AdapterEvaluation",
    "AdapterVersion",
    "ApiKey",
    "AuditRow",
    "Base",
    "BreakerSpan",
    "ChatSession",
    "Checkpoint",
    "ComparisonCell",
    "ComparisonRating",
    "ComparisonRun",
    "ComparisonVerdict",
    "ComparisonVote",
    "Counter",
    "Credential",
    "Dataset",
    "DatasetOrigin",
    "DatasetVersion",
    "Deployment",
    "DeviceClaim",
    "Endpoint",
    "GatewayRow",
    "Grant",
    "JobEvent",
    "KeyUse",
    "KnowledgeAnswer",
    "KnowledgeBase",
    "KnowledgeChunk",
    "KnowledgeDocument",
    "KnowledgeEntry",
    "KnowledgeIndex",
    "KnowledgeQuestion",
    "KnowledgeRun",
    "KnowledgeTestSet",
    "KnowledgeVector",
    "Membership",
    "MetricPoint",
    "PriceVersion",
    "Quarantine",
    "RefreshSession",
    "RequestBody",
    "Rollout",
    "Route",
    "RouteVersion",
    "ServiceToken",
    "SpendRow",
    "SpentToken",
    "Suite",
    "SuiteCase",
    "SuiteVersion",
    "Team",
    "TokenCount",
    "TrainerRow",
    "TrainingAttempt",
    "TrainingJob",
    "TrainingSample",
    "UsageRow",
    "User",
]
