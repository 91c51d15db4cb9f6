"""The same as compare_factors.rs with the Python package `implicit`: python compare_factors.py DIR [--grid] [--synthetic].

DIR holds train.csv, test.csv and synthetic.csv (user, item), written by
`cargo run --release --example compare_factors -- --out DIR --synthetic`.
"""

import os
import sys
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import scipy.sparse as sp
from implicit.als import AlternatingLeastSquares

DIMS, ROUNDS, THREADS = 64, 12, 2


def pairs(name):
    return np.loadtxt(os.path.join(sys.argv[1], name), delimiter=",", dtype=np.int64)


def matrix(rows, users, items):
    return sp.csr_matrix((np.ones(len(rows), dtype=np.float32), (rows[:, 0], rows[:, 1])), shape=(users, items))


def fit(data, regularization, alpha):
    model = AlternatingLeastSquares(
        factors=DIMS, regularization=regularization, alpha=alpha, iterations=ROUNDS, num_threads=THREADS,
        random_state=1, use_gpu=False)
    start = time.perf_counter()
    model.fit(data, show_progress=False)
    return model, time.perf_counter() - start


def measure(model, data, test, films):
    gain = 1.0 / np.log2(np.arange(10) + 2.0)
    ndcg = hits = 0.0
    users = np.unique(test[:, 0])
    for user in users:
        wanted = set(test[test[:, 0] == user, 1].tolist())
        # Solved exactly for the user's items, as the service does at a request.
        taste = model.recalculate_user(np.array([user]), data[user])[0]
        scores = model.item_factors @ taste
        scores[~films] = -np.inf
        scores[data[user].indices] = -np.inf
        top = np.argsort(-scores, kind="stable")[:10]
        found = np.array([film in wanted for film in top])
        ndcg += (gain * found).sum() / gain[: min(len(wanted), 10)].sum()
        hits += found.any()
    return ndcg / len(users), hits / len(users)


def main():
    train, test = pairs("train.csv"), pairs("test.csv")
    both = np.concatenate([train, test])
    for column in (0, 1):
        # Without gaps between the numbers, which would cost time.
        both[:, column] = np.unique(both[:, column], return_inverse=True)[1]
    train, test = both[: len(train)], both[len(train):]
    data = matrix(train, both[:, 0].max() + 1, both[:, 1].max() + 1)
    films = np.zeros(data.shape[1], dtype=bool)
    films[train[:, 1]] = True
    grid = [(0.05, 5.0)]
    if "--grid" in sys.argv:
        grid = [(r, a) for r in (0.1, 1.0, 3.0, 10.0, 30.0, 100.0) for a in (1.0, 2.0, 5.0)]
    for regularization, alpha in grid:
        model, seconds = fit(data, regularization, alpha)
        ndcg, hit = measure(model, data, test, films)
        print(f"regularization {regularization:<5} alpha {alpha:<5} NDCG@10 {ndcg:.4f}  HR@10 {hit:.4f}  {seconds:.3f} s",
              flush=True)
    if "--synthetic" in sys.argv:
        rows = pairs("synthetic.csv")
        data = matrix(rows, 50_000, 20_000)
        for turn in range(3):
            _, seconds = fit(data, 0.05, 10.0)
            print(f"synthetic, turn {turn}: {data.nnz} pairs, {DIMS} dims, {ROUNDS} rounds, 2 threads: {seconds:.3f} s",
                  flush=True)


main()
