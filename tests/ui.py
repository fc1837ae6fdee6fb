"""What the UI would show: the newest materialization of an asset, asked as the UI asks, through Dagster's GraphQL schema."""

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


def shown(instance: dg.DagsterInstance, *key: str) -> dict[str, Any]:
    """Metadata of the newest materialization by name, as GraphQL gives them; tables as records."""
    with WorkspaceProcessContext(instance, EmptyWorkspaceTarget()) as context:
        answer = execute_query(context, QUESTION, {"key": {"path": list(key)}})
    assert "errors" not in answer, answer
    [event] = answer["data"]["assetOrError"]["assetMaterializations"]
    found: dict[str, Any] = {}
    for entry in event["metadataEntries"]:
        table = entry.get("table")
        found[entry["label"]] = [json.loads(record) for record in table["records"]] if table else entry.get("mdStr") or entry.get("path")
    return found
