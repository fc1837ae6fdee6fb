"""What the UI would show of an asset, its newest materialization or a check's verdict: asked as it asks, through Dagster's GraphQL."""

import json
from typing import Any

import dagster as dg
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import EmptyWorkspaceTarget
from dagster_graphql.cli import execute_query

QUESTION = """
query Shown($key: AssetKeyInput!) {
  assetOrError(assetKey: $key) {
    ... on Asset {
      assetMaterializations(limit: 1) {
        metadataEntries {
          label
          ... on MarkdownMetadataEntry { mdStr }
          ... on PathMetadataEntry { path }
          ... on TableMetadataEntry { table { records schema { columns { name type description } } } }
        }
      }
    }
  }
}
"""

WHY = """
query Why($key: AssetKeyInput!, $check: String!) {
  assetCheckExecutions(assetKey: $key, checkName: $check, limit: 1) { status evaluation { description } }
}
"""


def shown(instance: dg.DagsterInstance, *key: str) -> dict[str, Any]:
    """Metadata of the newest materialization by name, as GraphQL gives them; tables as records."""
    [event] = _asked(instance, QUESTION, {"key": {"path": list(key)}})["assetOrError"]["assetMaterializations"]
    found: dict[str, Any] = {}
    for entry in event["metadataEntries"]:
        table = entry.get("table")
        found[entry["label"]] = [json.loads(record) for record in table["records"]] if table else entry.get("mdStr") or entry.get("path")
    return found


def judged(instance: dg.DagsterInstance, check: str, *key: str) -> tuple[str, str]:
    """Status of a check's newest execution, and the sentence beside it."""
    [execution] = _asked(instance, WHY, {"key": {"path": list(key)}, "check": check})["assetCheckExecutions"]
    return execution["status"], execution["evaluation"]["description"]


def _asked(instance: dg.DagsterInstance, question: str, variables: dict[str, Any]) -> dict[str, Any]:
    with WorkspaceProcessContext(instance, EmptyWorkspaceTarget()) as context:
        answer = execute_query(context, question, variables)
    assert "errors" not in answer, answer
    return answer["data"]
