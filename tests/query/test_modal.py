"""modAL's two dialects, and modAL itself on the libraries of today."""

import ast
import inspect
import subprocess
import sys

import modAL.batch
import modAL.models
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from fakes import TableModel
from modAL.models import ActiveLearner, Committee
from modAL.uncertainty import uncertainty_sampling
from modAL.utils import data
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from aift_sklearn import aift_sampling
from aift_sklearn.query._modal import _check_X_y, _Renewed, query_result

RETURNS_METRICS = "return_metrics" in inspect.signature(modAL.models.ActiveLearner.query).parameters
KINDS = {
    "array": np.asarray,
    "list": lambda X: np.asarray(X).tolist(),
    "frame": lambda X: pd.DataFrame(X, columns=list("abc")),
    "numbered frame": pd.DataFrame,
    "shuffled frame": lambda X: pd.DataFrame(X, index=np.arange(len(X))[::-1] * 7),
    "named rows": lambda X: pd.DataFrame(X, index=[f"patient {i}" for i in range(len(X))]),
    "matrix": sp.csr_matrix,
    "sparse array": sp.csr_array,
}


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 3)).round(3)
    return X, (X[:, 0] > 0).astype(int)


def indices_of(result):
    return result[0] if RETURNS_METRICS else result


def run(code, *flags):
    return subprocess.run(
        [sys.executable, *flags, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_modals_learner_takes_what_is_not_a_number_where_it_is_told_to(table):
    X, y = table
    X[0, 0] = np.nan
    tree = HistGradientBoostingClassifier(max_iter=2, min_samples_leaf=2)
    with pytest.raises(ValueError, match="NaN"):
        ActiveLearner(tree).teach(X, y)
    with pytest.raises(ValueError, match="NaN"):
        _check_X_y(X, y)
    learner = ActiveLearner(tree, force_all_finite=False)
    learner.teach(X[:20], y[:20])
    learner.teach(X[20:], y[20:])
    assert learner.X_training.shape == X.shape
    assert learner.predict(X).shape == y.shape


# --- dialects ---------------------------------------------------------------------------------


def test_strategy_returns_what_the_installed_modal_wants():
    patches = np.random.default_rng(0).dirichlet([1, 1], (9, 5))
    pool = np.arange(9.0)[:, None]
    model = TableModel(patches).partial_fit(pool[:2], [0, 1])
    result = aift_sampling(model, pool, 3)
    if RETURNS_METRICS:
        indices, metrics = result
        np.testing.assert_allclose(metrics, model.score_candidates(pool)[indices])
    else:
        assert isinstance(result, np.ndarray)


def test_query_result_speaks_both_dialects(monkeypatch):
    indices, score = np.array([2, 0]), np.array([0.3, 0.1])
    monkeypatch.setattr("aift_sklearn.query._modal._RETURNS_METRICS", False)
    assert query_result(indices, score) is indices
    monkeypatch.setattr("aift_sklearn.query._modal._RETURNS_METRICS", True)
    assert [part.tolist() for part in query_result(indices, score)] == [[2, 0], [0.3, 0.1]]
    assert np.isnan(query_result(indices, None)[1]).all()


# --- what is replaced ----------------------------------------------------------------------------


def test_nothing_but_what_fails_is_replaced_in_modal():
    code = """
import modAL.batch, modAL.density, modAL.multilabel, sys
import numpy, pandas, scipy.sparse, sklearn.utils
watched = [m for n, m in sys.modules.items() if n.split(".")[0] == "modAL"]
watched += [numpy, pandas, pandas.DataFrame, scipy.sparse, sklearn.utils]
def names():
    return {(m.__name__, k): v for m in watched for k, v in vars(m).items()}
before = names()
import aift_sklearn.query
after = names()
changed = {k for k in before if after[k] is not before[k] and not k[1].startswith("__")}
print(sorted({name for module, name in changed if module.startswith("modAL")}))
print(sorted(k for k in changed if not k[0].startswith("modAL")))
print("float" in vars(numpy), "append" in vars(pandas.DataFrame))
"""
    inside, outside, dropped_names = run(code, "-W", "error").splitlines()
    allowed = {
        "check_X_y", "data_hstack", "data_vstack", "drop_rows", "enumerate_data",
        "retrieve_rows", "select_cold_start_instance", "select_instance",
        # modAL 0.4.1 on NumPy 1: np.bool in batch.py
        "ranked_batch", "uncertainty_batch_sampling",
    }  # fmt: skip
    assert set(eval(inside)) <= allowed
    assert outside == "[]"
    assert dropped_names == "False False"


def test_importing_queries_loads_no_plots_and_no_study():
    code = """
import sys
import aift_sklearn.query, aift_sklearn.learner
from aift_sklearn.query import random_sampling
heavy = {"matplotlib", "jinja2", "PIL", "skimage", "onnxruntime", "aift_sklearn.study", "typer"}
print(sorted(heavy & set(sys.modules)))
"""
    assert run(code) == "[]"


def test_only_modal_loads_pandas():
    code = """
import sys, types
for name in ("modAL", "modAL.batch", "modAL.models", "modAL.models.base", "modAL.models.learners",
             "modAL.utils", "modAL.utils.data"):
    __import__(name)
kept = {n: m for n, m in sys.modules.items() if n.split(".")[0] == "pandas"}
for name in kept:
    del sys.modules[name]
import aift_sklearn.query, aift_sklearn.learner
print("pandas" in sys.modules)
"""
    assert run(code) == "False"


def test_a_plain_learner_can_be_shown_and_cloned(table):
    X, y = table
    learner = ActiveLearner(LogisticRegression(), X_training=X, y_training=y)
    assert "LogisticRegression" in repr(learner)
    np.testing.assert_array_equal(clone(learner).predict_proba(X), learner.predict_proba(X))


# --- expected error -------------------------------------------------------------------------------


def expected_error_reduction(*args, **params):
    # Not imported at the top, where it comes before the package that makes it importable.
    from modAL.expected_error import expected_error_reduction

    return indices_of(expected_error_reduction(*args, **params))


def slow_expected_error(learner, X, y, pool):
    """Roy and McCallum's expected 0/1 loss on the rest of the pool, candidate by candidate."""
    errors = []
    proba = learner.predict_proba(pool)
    for i in range(len(pool)):
        error = 0.0
        for k, label in enumerate(np.unique(y)):
            model = clone(learner.estimator).fit(
                np.concatenate([X, pool[[i]]]), np.append(y, label)
            )
            rest = model.predict_proba(np.delete(pool, i, axis=0))
            error += proba[i, k] * (1 - rest.max(axis=1)).sum()
        errors.append(error)
    return np.array(errors)


@pytest.mark.parametrize("kind", KINDS)
def test_expected_error_asks_alike_whatever_holds_the_table(table, kind):
    X, y = table
    learner = ActiveLearner(LogisticRegression(), uncertainty_sampling, KINDS[kind](X[:6]), y[:6])
    pool = KINDS[kind](X[6:20])
    asked = expected_error_reduction(learner, pool, n_instances=2)
    plain = ActiveLearner(LogisticRegression(), uncertainty_sampling, X[:6], y[:6])
    expected = np.argsort(slow_expected_error(plain, X[:6], y[:6], X[6:20]))[:2]
    assert sorted(asked) == sorted(expected)


def test_expected_error_is_a_module_like_the_others():
    import modAL.expected_error

    asked = inspect.signature(modAL.expected_error.expected_error_reduction).parameters
    assert asked["p_subsample"].annotation is float


def test_only_what_current_libraries_lack_is_written_anew():
    source = "x is None or x is 'log' or np.bool or np.float or np.float64 or torch.bool"
    renewed = ast.unparse(_Renewed().visit(ast.parse(source)))
    assert renewed == "x is None or x == 'log' or bool or float or np.float64 or torch.bool"


def test_the_loss_is_compared_by_its_value(table):
    X, y = table
    learner = ActiveLearner(LogisticRegression(), X_training=X[:6], y_training=y[:6])
    spelled = "".join(["l", "o", "g"])
    once = expected_error_reduction(learner, X[6:14], loss=spelled)
    again = expected_error_reduction(learner, X[6:14], loss="log")
    np.testing.assert_array_equal(once, again)


def test_rows_of_mixed_types_keep_them():
    frame = pd.DataFrame(
        {"site": ["skin", "lung"], "size": [3, 5], "mean": [0.5, 0.25], "old": [True, False]}
    )
    pairs = list(data.enumerate_data(frame.set_index(pd.Index(["x", "x"]))))
    assert [i for i, _ in pairs] == [0, 1]
    longer = data.add_row(frame, pairs[1][1])
    assert longer.dtypes.tolist() == frame.dtypes.tolist()
    assert longer.iloc[2].tolist() == frame.iloc[1].tolist()
    fraction = data.add_row(frame, pd.Series(["eye", 2.5, 1.0, True], index=frame.columns))
    assert fraction["size"].tolist() == [3, 5, 2.5]


def test_rows_keep_the_types_of_their_columns():
    frame = pd.DataFrame({"site": ["skin", "lung"], "size": [3, 5], "mean": [0.5, 0.25]})
    frame = frame.astype({"site": "category", "size": np.int8, "mean": np.float32})
    longer = data.add_row(frame, frame.iloc[1])
    assert longer.dtypes.tolist() == frame.dtypes.tolist()
    assert longer.iloc[2].tolist() == frame.iloc[1].tolist()


def test_a_row_of_other_types_is_kept_as_it_is():
    frame = pd.DataFrame({"site": ["skin", "lung"], "size": [3, 5]})
    longer = data.add_row(frame, pd.Series(["eye", "large"], index=frame.columns))
    assert longer["size"].tolist() == [3, 5, "large"]


def test_frames_are_stacked_picked_and_dropped_by_position():
    frame = pd.DataFrame(np.arange(12.0).reshape(4, 3), index=[3, 2, 1, 0])
    rows = np.array([0, 2])
    np.testing.assert_array_equal(data.retrieve_rows(frame, rows), frame.iloc[rows])
    assert data.retrieve_rows(frame, 1).tolist() == [3, 4, 5]
    np.testing.assert_array_equal(data.drop_rows(frame, rows), frame.iloc[[1, 3]])
    np.testing.assert_array_equal(data.drop_rows(frame, 0), frame.iloc[1:])
    np.testing.assert_array_equal(
        data.data_vstack((frame, frame.iloc[1:])), np.concatenate([frame, frame[1:]])
    )
    assert data.data_vstack([frame, np.zeros((2, 3))]).shape == (6, 3)
    wide = data.data_hstack([frame, frame])
    assert isinstance(wide, pd.DataFrame)
    assert wide.shape == (4, 6)
    assert data.data_hstack([frame, frame.to_numpy()]).shape == (4, 6)
    both = data.data_hstack([frame, sp.csr_matrix(frame)])
    np.testing.assert_array_equal(both.toarray(), wide)
    labels = pd.Series(["a", "b"], name="class")
    longer = data.data_vstack((labels, np.array(["c"])))
    assert longer.tolist() == ["a", "b", "c"]
    assert longer.name == "class"
    assert data.retrieve_rows(labels, [1]).tolist() == ["b"]


def test_what_is_no_frame_goes_to_modal_as_before():
    rows = np.arange(6.0).reshape(3, 2)
    np.testing.assert_array_equal(data.data_vstack((rows, rows)), np.concatenate([rows, rows]))
    assert data.data_vstack((rows.tolist(), rows.tolist())) == [*rows.tolist(), *rows.tolist()]
    assert data.retrieve_rows(rows.tolist(), [1]) == [[2.0, 3.0]]
    assert data.drop_rows(sp.csr_matrix(rows), 0).toarray().tolist() == [[2, 3], [4, 5]]
    with pytest.raises(TypeError, match="not supported"):
        data.data_vstack((1, 1))


# --- loops on frames, with transformations -------------------------------------------------------


def three_rounds(learner, pool, y):
    taught = 0
    for _ in range(3):
        indices, rows = learner.query(pool)
        np.testing.assert_array_equal(rows, pool.iloc[indices])
        learner.teach(rows, y[indices])
        taught += len(indices)
    return taught


@pytest.mark.parametrize(
    "steps",
    [
        [FunctionTransformer(pd.DataFrame.to_numpy)],
        [StandardScaler().set_output(transform="pandas")],
        [StandardScaler()],
        [],
    ],
    ids=["to array", "frame to frame", "frame to array", "no steps"],
)
@pytest.mark.parametrize("kind", ["frame", "numbered frame", "shuffled frame", "named rows"])
def test_batches_of_transformed_frames(table, steps, kind):
    X, y = table
    pool = KINDS[kind](X)
    learner = ActiveLearner(
        make_pipeline(*steps, RandomForestClassifier(5, random_state=0)),
        lambda *args: modAL.batch.uncertainty_batch_sampling(*args, n_instances=3),
        pool.iloc[:4],
        y[:4],
        on_transformed=True,
    )
    taught = three_rounds(learner, pool, y)
    assert len(learner.X_training) == 4 + taught
    assert list(learner.X_training.columns) == list(pool.columns)
    seen, unseen = map(learner.transform_without_estimating, (learner.X_training, pool))
    first = indices_of(learner.query_strategy(learner, pool))[0]
    gap = np.linalg.norm(np.asarray(unseen)[:, None] - np.asarray(seen)[None], axis=2).min(axis=1)
    share = len(X) / (len(X) + len(seen))
    uncertain = 1 - learner.predict_proba(pool).max(axis=1)
    score = share * (1 - 1 / (1 + gap)) + (1 - share) * uncertain
    assert score[first] == pytest.approx(score.max())


def test_batches_of_frames_start_cold(table):
    X, _ = table
    pool = pd.DataFrame(X)
    learner = ActiveLearner(RandomForestClassifier(5, random_state=0))
    asked = indices_of(modal_batch(learner, pool))
    expected = indices_of(modal_batch(learner, X))
    np.testing.assert_array_equal(asked, expected)
    first, _ = modAL.batch.select_cold_start_instance(pool, "euclidean", None)
    assert first == expected[0]


def modal_batch(learner, pool):
    return modAL.batch.uncertainty_batch_sampling(learner, pool, n_instances=3)


@pytest.mark.parametrize("names", [["benign", "malignant"], [0, 1]], ids=["text", "numbers"])
def test_committees_vote_with_labels_of_any_type(table, names):
    X, y = table
    labels = np.array(names)[y]
    members = [
        ActiveLearner(RandomForestClassifier(3, random_state=i), X_training=X, y_training=labels)
        for i in range(3)
    ]
    committee = Committee(members)
    np.testing.assert_array_equal(
        committee.vote(X), np.stack([m.predict(X) for m in members], axis=1)
    )
    indices, rows = committee.query(X)
    np.testing.assert_array_equal(rows, X[indices])
    assert committee.vote(X).dtype.kind == ("U" if isinstance(names[0], str) else "f")
    split = [len(set(row)) for row in committee.vote(X)]
    assert split[int(indices[0])] == max(split)
