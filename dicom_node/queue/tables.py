"""The queue's tables. Times are seconds since 1970 (UTC) as floats; paths are relative to the spool."""

from sqlalchemy import (
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

#: Increased with every change of the tables; a database with another number is refused.
SCHEMA_VERSION = 1

metadata = MetaData()

schema = Table("schema", metadata, Column("version", Integer, nullable=False))

studies = Table(
    "studies",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_uid", String(64), nullable=False, unique=True),
    Column("state", String(16), nullable=False),
    # 0 is STAT, 1 is routine; smaller goes first.
    Column("priority", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("changed_at", Double, nullable=False),
    # While receiving: when the quiet period ends, and when the study counts as complete in any case.
    Column("complete_at", Double, nullable=False),
    Column("force_at", Double, nullable=False),
    Column("late", Boolean, nullable=False, default=False),
    # Objects with a known SOP Instance UID and other content.
    Column("conflicts", Integer, nullable=False, default=0),
    # Of the present step.
    Column("attempts", Integer, nullable=False, default=0),
    Column("crashes", Integer, nullable=False, default=0),
    Column("first_failed_at", Double),
    Column("next_attempt_at", Double, nullable=False),
    Column("lease_owner", String(80)),
    Column("lease_token", String(32)),
    Column("lease_until", Double),
    Column("reason_code", String(64)),
    Column("reason", Text),
    Column("outcome_id", Integer),
    Index("studies_by_turn", "state", "priority", "next_attempt_at"),
)

instances = Table(
    "instances",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_id", Integer, ForeignKey("studies.id"), nullable=False, index=True),
    Column("sop_uid", String(64), nullable=False),
    Column("sop_class_uid", String(64), nullable=False),
    Column("transfer_syntax_uid", String(64), nullable=False),
    # SHA-256 of SOP class, transfer syntax and data set as they came.
    Column("digest", String(64), nullable=False),
    Column("path", String(255), nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("calling_ae", String(16), nullable=False),
    Column("received_at", Double, nullable=False),
    # Another object with the same SOP Instance UID was here first: kept apart, never used.
    Column("conflict", Boolean, nullable=False, default=False),
    UniqueConstraint("sop_uid", "digest"),
)

outcomes = Table(
    "outcomes",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_id", Integer, ForeignKey("studies.id"), nullable=False, index=True),
    Column("instance_id", Integer, ForeignKey("instances.id"), nullable=False),
    # Which version of the model: SHA-256 of its manifest.
    Column("bundle_digest", String(64), nullable=False),
    Column("result", Text),
    Column("report_path", String(255)),
    Column("report_digest", String(64)),
    UniqueConstraint("instance_id", "bundle_digest"),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("outcome_id", Integer, ForeignKey("outcomes.id"), nullable=False),
    Column("destination", String(32), nullable=False),
    Column("status", String(255)),
    Column("delivered_at", Double),
    UniqueConstraint("outcome_id", "destination"),
)

history = Table(
    "history",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_id", Integer, ForeignKey("studies.id"), nullable=False, index=True),
    Column("at", Double, nullable=False),
    Column("event", String(32), nullable=False),
    Column("state", String(16), nullable=False),
    Column("detail", Text),
)
