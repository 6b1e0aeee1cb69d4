"""Rows that were scaled, imputed or selected all together, followed until they are split."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from mlops_assets.doctor.findings import Found
from mlops_assets.doctor.names import own
from mlops_assets.doctor.project import ASSETS, Function, Module, Project

_LEARNERS = {
    "StandardScaler", "MinMaxScaler", "RobustScaler", "MaxAbsScaler", "QuantileTransformer", "PowerTransformer",
    "KBinsDiscretizer", "TargetEncoder", "SimpleImputer", "KNNImputer", "IterativeImputer", "PCA", "IncrementalPCA",
    "KernelPCA", "TruncatedSVD", "FastICA", "NMF", "FactorAnalysis", "SelectKBest", "SelectPercentile",
    "SelectFromModel", "RFE", "RFECV", "SequentialFeatureSelector", "TfidfVectorizer", "TfidfTransformer", "SMOTE",
    "SMOTENC", "BorderlineSMOTE", "ADASYN", "RandomOverSampler", "SMOTETomek", "SMOTEENN",
}  # fmt: skip
_WRAPPERS = {"Pipeline", "make_pipeline", "ColumnTransformer", "make_column_transformer", "FeatureUnion", "make_union"}
_PACKAGES = {"sklearn", "imblearn", "category_encoders"}
_FITS = {"fit_transform", "fit_resample"}
_SPLITS = {
    "sklearn.model_selection.train_test_split", "sklearn.model_selection.cross_val_score",
    "sklearn.model_selection.cross_validate", "sklearn.model_selection.cross_val_predict",
}  # fmt: skip
_MEND = "Split first; put the transformer into a sklearn Pipeline that is fitted on the training rows only."
_ROUNDS = 4


@dataclass(frozen=True)
class Origin:
    """Where rows were transformed by what was learned from all of them."""

    path: str
    line: int
    what: str


@dataclass
class Passage:
    """One function, read from top to bottom: which names hold such rows, and whether they are split or handed on."""

    function: Function
    summaries: Mapping[str, Origin]
    tainted: dict[str, Origin] = field(default_factory=dict)
    split: set[str] = field(default_factory=set)
    fitted: dict[str, Origin] = field(default_factory=dict)
    found: dict[Origin, str] = field(default_factory=dict)
    returned: Origin | None = None

    def read(self) -> None:
        """Follow the rows through the function."""
        for node in own(self.function.node.body):
            match node:
                case ast.Assign(targets=targets, value=value):
                    self._assigned(targets, value)
                case ast.AnnAssign(target=target, value=ast.expr() as value):
                    self._assigned([target], value)
                case ast.Call():
                    self._called(node)
                case ast.Return(value=ast.expr() as value) | ast.Yield(value=ast.expr() as value):
                    self.returned = self.returned or self._origin(value)

    def _assigned(self, targets: list[ast.expr], value: ast.expr) -> None:
        names = {name for target in targets for name in _bases(target)}
        called = self._name(value.func) if isinstance(value, ast.Call) else ""
        origin = self._origin(value)
        if called in _SPLITS:
            self.split |= names
            origin = None
        for name in names:
            if origin is not None:
                self.tainted[name] = origin
                self.split.discard(name)
            elif any(isinstance(target, (ast.Name, ast.Tuple)) for target in targets):
                self.tainted.pop(name, None)

    def _called(self, call: ast.Call) -> None:
        name = self._name(call.func)
        if name in _SPLITS:
            for origin in filter(None, map(self._origin, call.args)):
                self.found.setdefault(origin, name.rpartition(".")[2])
            return
        match call.func:
            case ast.Attribute(value=ast.Name(id=transformer) as receiver, attr="fit"):
                if origin := self._learned(call, receiver):
                    self.fitted[transformer] = origin

    def _origin(self, value: ast.expr) -> Origin | None:
        """The first place in an expression that makes, or brings along, rows transformed all together."""
        for node in own([value]):
            match node:
                case ast.Call(func=ast.Attribute(value=receiver, attr=name)) if name in _FITS:
                    if origin := self._learned(node, receiver):
                        return origin
                case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="transform")) if name in self.fitted:
                    return self.fitted[name]
                case ast.Call() if self._name(node.func) in self.summaries:
                    return self.summaries[self._name(node.func)]
                case ast.Name(id=name) if name in self.tainted:
                    return self.tainted[name]
        return None

    def _learned(self, call: ast.Call, receiver: ast.expr) -> Origin | None:
        """Where a transformer learns here, unless from rows that have been split off before."""
        names = {each.id for arg in call.args for each in ast.walk(arg) if isinstance(each, ast.Name)}
        if names & self.split or any("train" in each.lower() or "test" in each.lower() for each in names):
            return None
        transformer = _transformer(self.function.module, receiver)
        if not transformer:
            return None
        return Origin(
            self.function.module.path,
            call.lineno,
            f"`{transformer}` in {self.function.node.name}() learns from all rows",
        )

    def _name(self, node: ast.expr) -> str:
        return self.function.module.name_of(node)


def leaks(project: Project) -> Iterator[Found]:
    """Every transformer that is fitted on rows which are split only afterwards, here or in an asset downstream."""
    summaries: dict[str, Origin] = {}
    by_asset: dict[str, Origin] = {}
    for _ in range(_ROUNDS):
        before = len(summaries), len(by_asset)
        passages = [_passage(function, summaries, by_asset) for function in project.reached.values()]
        for passage in passages:
            if passage.returned is not None:
                store = by_asset if passage.function.kind in ASSETS else summaries
                label = passage.function.node.name if passage.function.kind in ASSETS else passage.function.label
                store.setdefault(label, passage.returned)
        if before == (len(summaries), len(by_asset)):
            break
    for passage in passages:
        for origin, splitter in passage.found.items():
            where = f"{passage.function.node.name}() then gives to {splitter}"
            yield Found(origin.path, origin.line, f"{origin.what}, which {where}", _MEND)


def _passage(function: Function, summaries: Mapping[str, Origin], by_asset: Mapping[str, Origin]) -> Passage:
    given = [each.arg for each in function.parameters] if function.kind in ASSETS else []
    tainted = {each: by_asset[each] for each in given if each in by_asset and "train" not in each}
    passage = Passage(function, summaries, tainted)
    passage.read()
    return passage


def _transformer(module: Module, receiver: ast.expr) -> str:
    """The class of a transformer that learns from values, also inside a pipeline; empty for all else."""
    package, _, last = module.name_of(receiver).replace("()", "").rpartition(".")
    if package.partition(".")[0] not in _PACKAGES:
        return ""
    if last not in _WRAPPERS:
        return last if last in _LEARNERS else ""
    made = module.project.value(module, receiver) if isinstance(receiver, ast.Name) else receiver
    for node in ast.walk(made) if made is not None else ():
        if isinstance(node, (ast.Name, ast.Attribute, ast.Call)) and node is not made:
            inner = module.name_of(node).replace("()", "").rpartition(".")
            if inner[0].partition(".")[0] in _PACKAGES and (inner[2] in _LEARNERS or inner[2] in _WRAPPERS):
                deeper = inner[2] if inner[2] in _LEARNERS else _inside(module, node)
                if deeper:
                    return deeper
    return ""


def _inside(module: Module, node: ast.expr) -> str:
    return _transformer(module, node) if isinstance(node, ast.Name) else ""


def _bases(target: ast.expr) -> Iterator[str]:
    """The names that an assignment changes: `df` of `df["x"]`, each of a tuple."""
    match target:
        case ast.Name(id=name):
            yield name
        case ast.Subscript(value=value) | ast.Attribute(value=value) | ast.Starred(value=value):
            yield from _bases(value)
        case ast.Tuple(elts=each) | ast.List(elts=each):
            for one in each:
                yield from _bases(one)
