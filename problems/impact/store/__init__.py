"""Versioned impact models in plain files: lineage, age, integrity, promotion and rollback."""

from __future__ import annotations

from crosswind.problems.impact.store.diff import ModelDiff, model_diff
from crosswind.problems.impact.store.errors import ModelCorrupted, StaleModel
from crosswind.problems.impact.store.records import StoredModel, events_digest
from crosswind.problems.impact.store.store import ModelStore

__all__ = ["ModelCorrupted", "ModelDiff", "ModelStore", "StaleModel", "StoredModel", "events_digest", "model_diff"]
