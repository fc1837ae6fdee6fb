"""The hub: what a repository has at a commit, who is asked for its files, and what the hub's refusals mean to a person.

In: a repository of models or of data, and a commit. Out: its files, each with the hash that the hub states; whom ``downloads`` asks for
them; and MedVLErrors in words of ours, since the hub's may quote a signed address or a token. Which files are wanted, and where they
go, is not known here: ``wanted`` asks for a dataset's, ``models.hub`` for a checkpoint's.
"""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import httpx2  # what huggingface_hub talks HTTP with: a connection that breaks is an error of this package
from huggingface_hub import HfApi, constants, get_token, hf_hub_url
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, RevisionNotFoundError
from huggingface_hub.hf_api import RepoFile

from medvl_lib.errors import InputRefused, MedVLError
from medvl_lib.fetching.downloads import AGAIN, PASSING, Away, Host

COMMIT_DIGITS = 40  # of a SHA-1 in full


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """Models, or data, on the hub."""

    kind: Literal["model", "dataset"]
    name: str
    """``owner/name``."""
    page: str
    """Where a person reads its terms, and accepts them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HubFile:
    """A file as the hub lists it."""

    name: str
    """Its path in the repository."""
    num_bytes: int
    checksum: str
    """SHA-256 of its bytes where the hub keeps it in LFS (64 digits), git's blob id otherwise (40)."""


def commit_of(repository: Repository, revision: str) -> str:
    """A commit in full, from its first digits; the newest one where there are none. Raises InputRefused for digits of no commit."""
    if len(revision) == COMMIT_DIGITS:
        return revision
    with _in_our_words(repository):
        commits = [found.commit_id for found in HfApi().list_repo_commits(repository.name, repo_type=repository.kind)]
    matching = [commit for commit in commits if commit.startswith(revision)]
    if not matching:
        raise InputRefused(found=f"no commit {revision}", where=repository.page, do="compare with the page's history")
    return matching[0]


def files_at(repository: Repository, commit: str, *, is_recursive: bool) -> list[HubFile]:
    """What the repository has at a commit, at its top or in all its folders; raises Away where nobody answers, MedVLError otherwise."""
    with _in_our_words(repository):
        entries = list(HfApi().list_repo_tree(repository.name, repo_type=repository.kind, revision=commit, recursive=is_recursive))
    return [
        HubFile(name=entry.path, num_bytes=entry.size, checksum=entry.lfs.sha256 if entry.lfs else entry.blob_id)
        for entry in entries if isinstance(entry, RepoFile)
    ]  # fmt: skip


def host(repository: Repository) -> Host:
    """Whom ``downloads`` asks, with the user's token where there is one."""
    token = get_token()
    return Host(page=repository.page, authorization="" if token is None else f"Bearer {token}", cure=_terms(repository))


def url(repository: Repository, name: str, commit: str) -> str:
    """Where a file's bytes are; what LFS keeps is redirected from there to another host."""
    return hf_hub_url(repository.name, name, repo_type=repository.kind, revision=commit)


def refusal(repository: Repository, what: str, error: Exception) -> MedVLError:
    """What the hub, or the way to it, said of ``what`` was asked for; Away where it may answer another time."""
    found, do = _cause(repository, error)
    is_broken = isinstance(error, httpx2.TransportError) and not isinstance(error, httpx2.LocalProtocolError)
    kind = Away if is_broken or _status(error) in PASSING else MedVLError
    return kind(found=f"{what}: {found}", where=repository.page, do=do)


@contextmanager
def _in_our_words(repository: Repository) -> Generator[None, None, None]:
    try:
        yield
    except (httpx2.HTTPError, OSError, ValueError, KeyError, TypeError) as error:  # the last three: an answer that is no listing
        raise refusal(repository, "the list of files", error) from None


def _terms(repository: Repository) -> str:
    return f"accept the terms on {repository.page}, and set HF_TOKEN in the environment to a token that may read it"


def _status(error: Exception) -> int | None:
    return error.response.status_code if isinstance(error, HfHubHTTPError) else None


def _cause(repository: Repository, error: Exception) -> tuple[str, str]:
    """(what happened, the cure)."""
    status, page = _status(error), repository.page
    if isinstance(error, HFValidationError):
        return f"{repository.name!r} is no hub id", "write it as owner/name"
    if isinstance(error, OfflineModeIsEnabled):
        return "not here, and HF_HUB_OFFLINE forbids to fetch it", "unset HF_HUB_OFFLINE"
    if status in {401, 403}:
        reason = "access is restricted" if isinstance(error, GatedRepoError) else "no access"
        sent = "no token was sent" if get_token() is None else "the token that was sent does not open it"
        return f"the hub answered {status}: {reason}, {sent}", f"{_terms(repository)}; a misspelt name is answered like this too"
    if status == 404:
        lacks = "revision" if isinstance(error, RevisionNotFoundError) else "repository, or no such file in it"
        return f"the hub answered 404: no such {lacks}", f"compare name and revision with {page}: it may have moved"
    if status in PASSING:
        return f"the hub answered {status}, again and again", f"{AGAIN}; {page} says whether the hub is down"
    if status is not None:
        return f"the hub answered {status}", f"compare name and revision with {page}"
    return _broken(error)


def _broken(error: Exception) -> tuple[str, str]:
    """A connection that failed, or an answer that is none of the hub's."""
    name = type(error).__name__
    if isinstance(error, httpx2.LocalProtocolError | UnicodeError):
        return f"no request could be made ({name})", "look for a stray character in HF_TOKEN"
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.ProxyError):
        return f"{constants.ENDPOINT} cannot be reached ({name})", f"check the network, HTTPS_PROXY and HF_ENDPOINT, then {AGAIN}"
    if isinstance(error, httpx2.TransportError):
        return f"the connection broke, and nothing more came ({name})", AGAIN
    return f"an answer that is not the hub's ({name})", f"check HF_ENDPOINT and what stands between this machine and the hub, then {AGAIN}"
