"""Random numbers, splits and estimators that are told no seed."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from mlops_assets.doctor.findings import Found
from mlops_assets.doctor.project import Function, Project, keywords, spreads

Given = dict[str, ast.expr]

_NUMPY = {
    "beta", "binomial", "bytes", "chisquare", "choice", "dirichlet", "exponential", "gamma", "geometric", "gumbel",
    "laplace", "logistic", "lognormal", "multinomial", "multivariate_normal", "normal", "pareto", "permutation",
    "poisson", "power", "rand", "randint", "randn", "random", "random_integers", "random_sample", "ranf",
    "rayleigh", "sample", "shuffle", "standard_normal", "triangular", "uniform", "vonmises", "wald", "weibull",
    "zipf",
}  # fmt: skip
_STANDARD = {
    "betavariate", "choice", "choices", "expovariate", "gammavariate", "gauss", "getrandbits", "lognormvariate",
    "normalvariate", "paretovariate", "randbytes", "randint", "random", "randrange", "sample", "shuffle",
    "triangular", "uniform", "weibullvariate",
}  # fmt: skip
_TORCH = {"bernoulli", "multinomial", "normal", "rand", "randint", "randn", "randperm"}
_ALWAYS = {
    "AdaBoostClassifier", "AdaBoostRegressor", "BaggingClassifier", "BaggingRegressor", "BayesianGaussianMixture",
    "DecisionTreeClassifier", "DecisionTreeRegressor", "ExtraTreeClassifier", "ExtraTreeRegressor",
    "ExtraTreesClassifier", "ExtraTreesRegressor", "GaussianMixture", "GradientBoostingClassifier",
    "GradientBoostingRegressor", "GroupShuffleSplit", "IsolationForest", "KMeans", "LatentDirichletAllocation",
    "MLPClassifier", "MLPRegressor", "MiniBatchKMeans", "PassiveAggressiveClassifier", "PassiveAggressiveRegressor",
    "RandomForestClassifier", "RandomForestRegressor", "RandomTreesEmbedding", "RandomizedSearchCV",
    "HalvingRandomSearchCV", "RepeatedKFold", "RepeatedStratifiedKFold", "SGDClassifier", "SGDRegressor",
    "ShuffleSplit", "StratifiedShuffleSplit", "TSNE", "resample", "shuffle", "make_blobs", "make_classification",
    "make_regression", "make_moons", "make_circles", "SMOTE", "ADASYN", "BorderlineSMOTE", "SMOTENC", "SMOTETomek",
    "SMOTEENN", "RandomOverSampler", "RandomUnderSampler",
}  # fmt: skip
_WHERE: dict[str, Callable[[Given], bool]] = {
    "train_test_split": lambda given: _literal(given.get("shuffle")) is not False,
    "KFold": lambda given: _literal(given.get("shuffle")) is True,
    "StratifiedKFold": lambda given: _literal(given.get("shuffle")) is True,
    "StratifiedGroupKFold": lambda given: _literal(given.get("shuffle")) is True,
    "LogisticRegression": lambda given: _literal(given.get("solver")) in {"sag", "saga", "liblinear"},
    "SVC": lambda given: _literal(given.get("probability")) is True,
    "PCA": lambda given: _literal(given.get("svd_solver")) == "randomized",
    "HistGradientBoostingClassifier": lambda given: _literal(given.get("early_stopping")) is True,
    "HistGradientBoostingRegressor": lambda given: _literal(given.get("early_stopping")) is True,
}
_GENERATORS = {
    "numpy.random.default_rng", "numpy.random.RandomState", "numpy.random.PCG64", "numpy.random.SeedSequence",
    "numpy.random.MT19937", "random.Random",
}  # fmt: skip
_SEEDS_BOTH = {"seed_everything", "set_seed", "set_random_seed", "seed_all", "set_seeds"}
_SEEDS = {"numpy": "numpy.random.seed", "random": "random.seed", "torch": "torch.manual_seed"}
_NOT_THE_RESULT = {"sleep", "wait", "to_markdown", "head", "md", "debug", "info"}
_NO_RESULT = re.compile(r"jitter|delay|backoff|sleep|wait|(^|_)(id|uid|uuid|name|suffix|slug|nonce)$", re.IGNORECASE)
_TENSORS = "Pass generator=torch.Generator().manual_seed(seed), or call torch.manual_seed(seed) first, in this step."
_STATE = "Pass random_state=, from a constant or a field of the asset's config."
_GENERATOR = (
    "Draw from np.random.default_rng(seed) or random.Random(seed), the seed from a constant or the asset's config."
)


def find(project: Project) -> Iterator[Found]:
    """Every draw without a seed in what Dagster runs or what that calls."""
    seeded = {kind: _seeded(project, kind) for kind in _SEEDS}
    for function in project.reached.values():
        for call, name in function.calls:
            for what, mend in _unseeded(function, call, name, seeded):
                yield Found(function.module.path, call.lineno, f"{what}, in {function.node.name}()", mend)


def _unseeded(
    function: Function, call: ast.Call, name: str, seeded: Mapping[str, set[str]]
) -> Iterator[tuple[str, str]]:
    if draws := _global(call, name):
        if function.label not in seeded[draws] and not _aside(function, call):
            what = f"`{_short(call.func)}` draws from the global generator, unseeded"
            yield what, _TENSORS if draws == "torch" else _GENERATOR
    elif name in _GENERATORS and not spreads(call) and _no_seed(call):
        yield f"`{_short(call)}` takes its seed from the operating system", _GENERATOR
    elif _wants_state(call, name):
        yield f"`{name.rpartition('.')[2]}` without random_state", _STATE
    elif _samples(function, call, name):
        yield f"`{_short(call.func)}` without random_state or seed", _STATE


def _short(node: ast.expr) -> str:
    text = ast.unparse(node)
    return text if len(text) <= 40 else "..." + text[-37:]


def _global(call: ast.Call, name: str) -> str:
    """Which global generator a call draws from."""
    package, _, drawn = name.rpartition(".")
    if name.startswith("torch.") and "generator" not in (given := keywords(call)) and not spreads(call):
        shuffles = drawn == "DataLoader" and _literal(given.get("shuffle")) is True
        draws = package == "torch" and drawn in _TORCH
        return "torch" if draws or shuffles or name == "torch.utils.data.random_split" else ""
    if package == "numpy.random" and drawn in _NUMPY:
        return "numpy"
    return "random" if package == "random" and drawn in _STANDARD else ""


def _seeded(project: Project, kind: str) -> set[str]:
    """The functions in whose module, or on whose way from what Dagster runs, the global generator is seeded."""

    def seeds(calls: Sequence[tuple[ast.Call, str]]) -> bool:
        return any(name == _SEEDS[kind] or name.rpartition(".")[2] in _SEEDS_BOTH for _, name in calls)

    modules = {module for module in project.modules if seeds(module.calls)}
    found = {function.label for function in project.reached.values() if function.module in modules}
    for root in project.dagster_functions:
        together = project.closure(root)
        if any(seeds(each.calls) for each in together):
            found |= {each.label for each in together}
    return found


def _no_seed(call: ast.Call) -> bool:
    given = [*call.args, *(each.value for each in call.keywords)]
    return not given or (len(given) == 1 and isinstance(given[0], ast.Constant) and given[0].value is None)


def _wants_state(call: ast.Call, name: str) -> bool:
    package, _, last = name.rpartition(".")
    if package.partition(".")[0] not in {"sklearn", "imblearn"} or spreads(call):
        return False
    given = keywords(call)
    if "random_state" in given and not _is_none(given["random_state"]):
        return False
    return last in _ALWAYS or (last in _WHERE and _WHERE[last](given))


def _samples(function: Function, call: ast.Call, name: str) -> bool:
    """Whether a frame is sampled: pandas, polars or Spark, told by the words of the call."""
    if not isinstance(call.func, ast.Attribute) or call.func.attr != "sample" or spreads(call):
        return False
    given = keywords(call)
    frame = name.startswith(("pandas.", "polars.")) or not name
    told = any(each in given and not _is_none(given[each]) for each in ("random_state", "seed"))
    return frame and not told and bool({"n", "frac", "fraction"} & set(given)) and not _aside(function, call)


def _aside(function: Function, call: ast.Call) -> bool:
    """Whether the draw only times a wait, makes up a name, or shows a few rows."""
    node: ast.AST | None = call
    while node is not None and not isinstance(node, ast.stmt):
        if isinstance(node, ast.Call) and isinstance(node.func, (ast.Attribute, ast.Name)):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
            if name in _NOT_THE_RESULT:
                return True
        node = function.module.parents.get(node)
    targets = [ast.unparse(each) for each in node.targets] if isinstance(node, ast.Assign) else []
    return any(_NO_RESULT.search(each) for each in [*targets, function.node.name])


def _literal(node: ast.expr | None) -> object:
    return node.value if isinstance(node, ast.Constant) else None


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None
