"""Recoding: whether values that were never there are news, or the earlier ones written otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mlops_assets.ml.distributions import symbols
from mlops_assets.ml.observed import History

RENAMED, RARE = 0.9, 0.02


def newest_before(history: History, name: str) -> float:
    """The largest share that symbols new at the time have had in the recent partitions."""
    known = [symbols(each.profile.columns[name]) or {} for each in history.recent if name in each.profile.columns]
    newest, union = 0.0, set(known[0]) if known else set()
    for each in known[1:]:
        newest = max(newest, sum(share for symbol, share in each.items() if symbol not in union))
        union |= each.keys()
    return newest


def how_recoded(
    here: Mapping[str, float],
    new: Mapping[str, float],
    known: Sequence[Mapping[str, float]],
    usual: float,
    *,
    numeric: bool,
) -> str | None:
    """What became of the symbols, in words; None where the new ones are news. `usual` is how far shares ever moved."""
    if not numeric:
        plain = {_plain(symbol) for each in known for symbol in each}
        if sum(share for symbol, share in new.items() if _plain(symbol) in plain) >= RENAMED * sum(new.values()):
            return "the earlier ones in another spelling"
    ranked = sorted(here.values(), reverse=True)
    for each in known:
        if numeric and _in_order(here, each, usual):
            return "as many as before, in the same order and the same shares"
        others = sorted(each.values(), reverse=True)
        if len(here) > 2 and len(others) == len(here) and sum(new.values()) >= RENAMED:
            off = sum(abs(one - other) for one, other in zip(ranked, others, strict=True)) / 2
            if off <= usual:
                return "none of the earlier ones is left, and the shares are the same"
    return None


def _in_order(here: Mapping[str, float], before: Mapping[str, float], usual: float) -> bool:
    """Whether the frequent numbers come in the same shares, the least first, and so on."""
    one, other = ([each[name] for name in sorted(each, key=float) if each[name] >= RARE] for each in (here, before))
    return len(one) == len(other) > 2 and sum(abs(a - b) for a, b in zip(one, other, strict=True)) / 2 <= usual


def _plain(symbol: str) -> str:
    """A symbol without case, spaces, signs, leading zeros and empty decimals."""
    text = "".join(letter for letter in symbol.removesuffix(".0").casefold() if letter.isalnum())
    return text.lstrip("0") or text[:1]
