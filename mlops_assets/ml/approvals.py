"""Approvals: what people are asked before a version serves, what they said of it, and whether that suffices.

A question is an entry of the ledger, bound to what the release rests on by its digests. An answer holds the same
digests, so that it is worth nothing as soon as one of them changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, get_args

from mlops_assets.ml.ledger import CROWNING, Entry, Link, champion
from mlops_assets.ml.signed import forged
from mlops_assets.ml.signing import Signature, Trust
from mlops_assets.ml.spec import ReleaseRule, Value

Verdict = Literal["approved", "refused"]
AGAIN = "Materialize evaluation_report, registered_version and champion to ask again."
State = Literal["waiting", "approved", "refused", "expired", "void", "over"]


class Standing(Value):
    """How it stands with a question.

    It is `waiting` for answers, `approved` by enough people, `refused`, `expired`, `void` because something changed
    since it was asked, or `over`, because the version was released.
    """

    question: Link
    state: State
    people: tuple[str, ...]
    sentence: str

    @property
    def version(self) -> int:
        """The version that is asked about."""
        return _version(self.question)

    @property
    def pending(self) -> bool:
        """Whether a person has something to do: to answer, or to ask anew."""
        return self.state in {"waiting", "approved", "expired", "void"}


class SignedAnswer(Value):
    """Who says something, and the signature of all that is said: what travels from where the key is."""

    who: str
    signature: Signature

    @classmethod
    def of(cls, entry: Entry) -> SignedAnswer:
        """The signature of an answer. Raises ValueError where it is not signed."""
        if entry.key is None or entry.signature is None:
            raise ValueError("there is no key to sign with.")
        return cls(who=entry.who, signature=Signature(key=entry.key, signature=entry.signature))

    def on(self, entry: Entry) -> Entry:
        """The answer with this signature."""
        return entry.model_copy(update={"via": "key", **self.signature.model_dump()})


def standing(
    links: Sequence[Link],
    model: str,
    rule: ReleaseRule,
    trust: Trust | None,
    evidence: Mapping[str, str] | None,
    now: datetime,
) -> Standing | None:
    """How it stands with the newest question about a model; None where nothing was asked.

    `evidence` is what the release would rest on now, None where that is not looked at. Whose signatures count is asked
    again each time.
    """
    question = newest_question(links, model)
    if question is None:
        return None
    asked, said = question.entry, answers(links, question)
    counted = [each for each in said if objection(each, question, rule, trust) is None]
    people = tuple(dict.fromkeys(each.who for each in counted if each.kind == "approved"))
    named = f"v{asked.version} of {model}"

    def stands(state: State, sentence: str) -> Standing:
        return Standing(question=question, state=state, people=people, sentence=f"{named} {sentence}")

    if any(link.entry.version == asked.version and link.entry.kind in CROWNING for link in _after(links, question)):
        return stands("over", "was released.")
    if refusal := next((each for each in counted if each.kind == "refused"), None):
        return stands("refused", f"was refused by {refusal.who}: {refusal.why}")
    if reason := voided(links, asked, evidence):
        return stands("void", f"cannot be released by what was said of it: {reason} {AGAIN}")
    if asked.expires is None or now >= asked.expires:
        return stands("expired", f"has waited until {_time(asked.expires)}, and nobody let it serve in time. {AGAIN}")
    if not (missing := _missing(people, asked.trained_by, rule)):
        return stands("approved", f"was approved by {', '.join(people)}.")
    return stands("waiting", f"waits for {missing} until {_time(asked.expires)}{_weak(said, counted)}. {_how(asked)}")


def newest_question(links: Iterable[Link], model: str) -> Link | None:
    """What was asked last about a model."""
    found = [link for link in links if link.model == model and link.entry.kind == "asked"]
    return found[-1] if found else None


def answers(links: Iterable[Link], question: Link) -> list[Entry]:
    """What was said of a question, in order."""
    entries = [link.entry for link in links if link.model == question.model]
    return [each for each in entries if each.kind in get_args(Verdict) and each.answers == question.sequence]


def answer(question: Link, kind: Verdict, who: str, why: str, when: datetime, **known: Any) -> Entry:
    """What a person says of a question, bound to all that was asked. `known` is how the person is known."""
    asked = question.entry
    bound = asked.model_dump(include={"model", "version", "previous", "candidate", "evidence", "expires"})
    return Entry(kind=kind, who=who, why=why, when=when, answers=question.sequence, **bound, **known)


def objection(entry: Entry, question: Link, rule: ReleaseRule, trust: Trust | None) -> str | None:
    """Why an answer does not count; None where it does. Where keys are configured, only a signed one counts."""
    asked = question.entry
    bound = ("model", "version", "previous", "candidate", "evidence", "expires")
    if entry.answers != question.sequence or any(getattr(entry, name) != getattr(asked, name) for name in bound):
        return f"it does not answer entry {question.sequence} of the ledger: what was asked there is something else."
    if entry.who not in rule.approvers:
        return f"{entry.who} is not among the approvers of {asked.model}: {', '.join(rule.approvers)}."
    return None if trust is None else forged(entry, trust)


def voided(links: Sequence[Link], asked: Entry, evidence: Mapping[str, str] | None) -> str | None:
    """What changed since it was asked; None where all is as it was."""
    reign = champion(links, asked.model)
    if (holder := reign.version if reign else None) != asked.previous:
        judged, serves = (f"v{each}" if each else "no champion" for each in (asked.previous, holder))
        return f"it was judged against {judged}, and the champion is {serves} now."
    then, now = asked.evidence, asked.evidence if evidence is None else evidence
    changed = [name for name in dict.fromkeys((*then, *now)) if then.get(name) != now.get(name)]
    told = [f"{name} ({_short(then.get(name))} then, {_short(now.get(name))} now)" for name in changed]
    return f"what it rests on has changed: {', '.join(told)}." if told else None


def _missing(people: Sequence[str], trained_by: Sequence[str], rule: ReleaseRule) -> str | None:
    """Whose approval is missing; None where nobody's is. Whoever trained it counts once, under whatever names."""
    others = [each for each in people if each not in trained_by]
    counted = len(others) + (len(others) < len(people))
    if counted >= rule.approvals_needed:
        return None
    left = [each for each in rule.approvers if each not in people]
    if others != list(people):
        left = [each for each in left if each not in trained_by]
    so_far = f" ({', '.join(people)} approved{', and trained it' if not others else ''})" if people else ""
    return f"the approval of {rule.approvals_needed - counted} of {', '.join(left) or 'nobody who is left'}{so_far}"


def _weak(said: Sequence[Entry], counted: Sequence[Entry]) -> str:
    """How many answers do not count."""
    ignored = len(said) - len(counted)
    return f"; {ignored} answers in the ledger do not count" if ignored else ""


def _how(asked: Entry) -> str:
    command = f"{asked.model} {asked.version} --reason ..."
    return f"`mlops-assets approve {command}` or `mlops-assets refuse {command}`."


def _after(links: Iterable[Link], question: Link) -> list[Link]:
    return [link for link in links if link.model == question.model and link.sequence > question.sequence]


def _version(link: Link) -> int:
    if link.entry.version is None:
        raise ValueError(f"entry {link.sequence} of the ledger asks about no version.")
    return link.entry.version


def _time(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC" if moment else "no moment"


def _short(digest: str | None) -> str:
    return digest[:12] if digest else "none"
