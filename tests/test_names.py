"""What docs/names.md says is taken under its old name is there."""

from __future__ import annotations

import inspect

import msgspec
import pytest
import typer.main

import tracemill
from tracemill.cli.app import app
from tracemill.core.settings import setting_table
from tracemill.dataset.packages import PACKAGES, package_recipe
from tracemill.quality.augment import OTHER_NAMES, SCENARIOS, TEXT_OPERATIONS
from tracemill.quality.validator import ValidationConfig

CALLS = {
    "collect_interaction_data": "chat_context_data prediction_result execution_time_ms success model_name model_config",
    "get_training_data": "platform success limit",
    "get_statistics": "platform",
    "log_conversation": "user_message ai_response intent workflow_json platform success processing_time_ms",
    "log_workflow_validation": "interaction_id passed errors warnings user_edited original_workflow edited_workflow",
    "log_user_feedback": "feedback_type interaction_id rating sentiment comment corrected_workflow categories",
    "archive_old_data": "days_old dry_run",
    "get_training_dataset": "platform success with_feedback include_archived limit",
    "export_training_data": "platform success_only with_feedback_only",
    "get_training_readiness": "platform",
    "get_storage_stats": "platform",
    "log_execution_trace": "execution_trace",
    "log_decision": "",
    "log_session_end": "session_id",
}
LIMITS = {
    "min_sequence_length": 1,
    "max_sequence_length": 512,
    "min_examples": 5,
    "max_examples": 10000,
    "min_embedding_dim": 384,
    "max_embedding_dim": 768,
    "quality_threshold": 0.7,
    "min_unique_words": 10,
    "max_duplicate_ratio": 0.3,
    "min_tfidf_score": 0.1,
    "outlier_threshold": 2.0,
}
VARIABLES = (
    *("GEPETO_DATA_PATH", "ENABLE_DATA_COLLECTION", "DATA_RETENTION_DAYS"),
    *("S3_ENDPOINT", "S3_ACCESS_KEY", "S3_SECRET_KEY", "S3_BUCKET_NAME", "S3_REGION"),
)
PACKAGE_NAMES = (
    *("decision_making", "tool_selection", "error_handling", "workflow_optimization", "multi_agent_coordination"),
    *("domain_specific", "performance_optimization", "quality_improvement", "user_interaction"),
)
VARIED = (
    *("synonym_replacement", "back_translation", "random_insertion", "random_deletion", "context_aware"),
    *("scenario_variations", "failure_injection", "edge_case_creation", "difficulty_progression"),
)


@pytest.mark.parametrize("name", CALLS)
def test_calls_take_what_they_took(name: str) -> None:
    parameters = inspect.signature(getattr(tracemill.DataCollector, name)).parameters
    assert set(CALLS[name].split()) <= parameters.keys()


def test_variables_are_read() -> None:
    assert set(VARIABLES) <= {variable for row in setting_table() for variable in row.environment}


def test_limits_have_their_names_and_defaults() -> None:
    assert msgspec.to_builtins(ValidationConfig()) == LIMITS


def test_results_of_validation_have_their_shape() -> None:
    result = tracemill.DataValidator().validate_embedding_data(["a"], [[0.5]])
    assert {"is_valid", "message", "metrics", "timestamp"} <= result.keys()
    figures = ("num_samples", "avg_sequence_length", "std_sequence_length", "quality_score", "duplicate_ratio")
    assert {*figures, "tfidf_score"} <= result["metrics"].keys()


def test_nine_packages_are_found_by_their_names() -> None:
    assert {package_recipe(name).package for name in PACKAGE_NAMES} == set(PACKAGES)


def test_variations_are_found_by_their_names() -> None:
    assert {OTHER_NAMES.get(name, name) for name in VARIED} <= {*TEXT_OPERATIONS, *SCENARIOS}


def test_the_archive_command_has_its_options() -> None:
    command = typer.main.get_command(app)
    for name in ("archive", "run"):
        command = command.commands[name]  # type: ignore[attr-defined]
    options = {option for parameter in command.params for option in parameter.opts}
    assert {"--days-old", "--dry-run", "--stats-only", "--verbose"} <= options
