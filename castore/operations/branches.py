"""Branches, tags and reflogs: what `Store` offers on top of refs, each change under the store's lock."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from castore.errors import RefExistsError, RevisionError, UsageError
from castore.history.audit_line import Event
from castore.history.drops import DROPPED
from castore.history.names import check_name
from castore.history.reflog import Change, ReflogEntry
from castore.history.walk import ancestors
from castore.repo import Repository

Signature = tuple[bytes, str]  # with the key that it was made with, for people


def switch(repo: Repository, branch: str, change: Change) -> None:
    """Let HEAD follow another branch."""
    with repo.lock.held():
        if repo.refs.branch(branch) is None and repo.refs.head().branch != branch:
            raise _no("branch", branch, repo.refs.branches())
        repo.refs.set_head(change, branch=branch)


def branch(repo: Repository, name: str, rev: str, force: bool, change: Change) -> str:
    """Make a branch, or move it with `force`."""
    check_name(name)
    commit = repo.resolve(rev)
    with repo.lock.held():
        check_present(repo, commit)
        present = repo.refs.branch(name)
        if present is not None and not force:
            raise RefExistsError(
                f"branch {name!r} exists already, at {present}; move it with force (-f), or choose another name"
            )
        protection = repo.protection()
        if present is not None and protection.has_branch(name) and not _lead_to(repo, [commit], present):
            protection.allow_branch(name, "only goes forward")
        repo.refs.update_branch(name, commit, present, change)
    return commit


def check_present(repo: Repository, commit: str) -> None:
    """Call with the lock held. gc may have been faster than we, and a ref to nothing must not be made; so the index is
    asked, not what is remembered of the commit. Raises MissingError."""
    repo.chunks.access.refresh()
    tree = [] if repo.drops.state(commit) == DROPPED else [bytes.fromhex(repo.commit(commit).tree)]
    repo.chunks.places([bytes.fromhex(commit), *tree])


def delete_branch(repo: Repository, name: str, force: bool) -> str:
    """Delete a branch that HEAD does not follow; one with commits of its own only with `force`."""
    check_name(name)
    with repo.lock.held():
        present = repo.refs.branch(name)
        if present is None:
            raise _no("branch", name, repo.refs.branches())
        if repo.refs.head().branch == name:
            raise UsageError(f"HEAD follows branch {name!r}; `castore switch` to another one first")
        repo.protection().allow_branch(name, "is not deleted")
        if not force and not _is_kept(repo, name, present):
            raise UsageError(
                f"branch {name!r} has commits that no other branch or tag leads to; delete it with -D if you mean it"
            )
        repo.refs.delete_branch(name, present)
    return present


def _is_kept(repo: Repository, name: str, commit: str) -> bool:
    others = [tip for other, tip in repo.refs.branches().items() if other != name]
    tips = [*others, *repo.refs.tags().values()]
    return _lead_to(repo, tips, commit)


def _lead_to(repo: Repository, tips: list[str], commit: str) -> bool:
    """Whether a commit is one of several others, or of those before them."""
    return any(found.id == commit for found in ancestors(tips, repo))


def tag(repo: Repository, name: str, rev: str, force: bool, signed: Callable[[str], Signature] | None = None) -> str:
    """Tag a commit, or move the tag with `force`. signed: makes the tag's signature, given the commit."""
    check_name(name)
    commit = repo.resolve(rev)
    signature, made_with = signed(commit) if signed is not None else (None, "")
    detail = f"signed with {made_with}" if made_with else ""
    with repo.lock.held():
        check_present(repo, commit)
        present = repo.refs.tag(name)
        if present is not None and not force:
            raise RefExistsError(
                f"tag {name!r} exists already, at {present}; move it with force (-f), or choose another name"
            )
        if present is not None:
            repo.protection().allow_tag(name, "stays where it is")
            repo.signatures.set_tag(name, None)  # a crash may leave the tag unsigned, never with what is of another
            repo.refs.move_tag(name, commit, present, detail)
        else:
            repo.signatures.set_tag(name, None)
            repo.refs.create_tag(name, commit, detail)
        if signature is not None:
            repo.signatures.set_tag(name, signature)
    return commit


def delete_tag(repo: Repository, name: str) -> str:
    """Delete a tag."""
    check_name(name)
    with repo.lock.held():
        present = repo.refs.tag(name)
        if present is None:
            raise _no("tag", name, repo.refs.tags())
        repo.protection().allow_tag(name, "is not deleted")
        repo.signatures.set_tag(name, None)
        repo.refs.delete_tag(name, present)
    return present


def reflog(repo: Repository, ref: str) -> list[ReflogEntry]:
    """The entries of HEAD's or a branch's log, newest first."""
    full = _log_ref(ref)
    if full != "HEAD" and full not in repo.refs.reflog.refs() and repo.refs.branch(full[len("refs/heads/") :]) is None:
        raise _no("branch", ref, repo.refs.branches())
    return repo.refs.reflog.read(full)[::-1]


def expire_reflog(repo: Repository, ref: str | None, before: datetime) -> int:
    """Drop old entries of one log, or of all but those of protected branches."""
    protection = repo.protection()
    with repo.lock.held():
        if ref is None:
            refs = [one for one in repo.refs.reflog.refs() if not protection.keeps_log(one)]
        else:
            refs = [_log_ref(ref)]
            protection.allow_branch(refs[0].removeprefix("refs/heads/"), "keeps its reflog")
        repo.audit.append(Event("expire", refs[0] if ref is not None else "", detail=_before(before)))
        return sum(repo.refs.reflog.expire(one, before) for one in refs)


def _before(time: datetime) -> str:
    return f"reflog entries before {time.isoformat(' ', 'seconds')}"


def _log_ref(ref: str) -> str:
    if ref in ("HEAD", "@"):
        return "HEAD"
    name = ref.removeprefix("refs/heads/").removeprefix("heads/")
    check_name(name)
    return f"refs/heads/{name}"


def _no(kind: str, name: str, known: dict[str, str]) -> RevisionError:
    names = ", ".join(list(known)[:10]) or "none"
    return RevisionError(f"there is no {kind} {name!r}; there are: {names}")
