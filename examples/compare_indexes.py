"""Vectors to compare neighbour indexes on, and what hnswlib, usearch and faiss make of them.

    python compare_indexes.py make DIR COUNT [SPREAD]        1,000 clusters, or 50 of near-duplicates one after the other
    python compare_indexes.py photos DIR CROPS FOLDER...     what the default model sees in cuts of the pictures of these folders
    python compare_indexes.py measure DIR [hnswlib,usearch,faiss]

`make` writes vectors.f32 and queries.f32 (320 numbers each, little-endian) and truth.u32 (the ten nearest of each query, by
an exact search). With a SPREAD there are COUNT / 50 vectors in each cluster, at about that distance from its centre, and
they come cluster by cluster. `photos` takes as many random cuts of each picture (half of it to all of it, half of them mirrored) and
needs onnxruntime and pillow; one cut in forty becomes a query in place of a vector. `cargo run --release --example compare_indexes -- DIR` measures ours on the same files.
"""

import os
import sys
import time

import numpy as np

DIMS, LINKS, BUILD_EFFORT, THREADS = 320, 16, 200, 2


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def make(folder, count, spread):
    import faiss

    os.makedirs(folder, exist_ok=True)
    rng = np.random.default_rng(1)
    noise = lambda n: unit(rng.uniform(-1, 1, (n, DIMS)))
    if spread is None:
        centres = noise(1000)
        draw = lambda n: unit(centres[rng.integers(0, 1000, n)] + 0.6 * noise(n))
        vectors = np.concatenate([draw(min(100_000, count - start)) for start in range(0, count, 100_000)])
        queries = draw(1000)
    else:
        centres = noise(50)
        vectors = np.concatenate([unit(centre + spread * noise(count // 50)) for centre in centres])
        queries = unit(centres[rng.integers(0, 50, 200)] + spread * noise(200))
    exact = faiss.IndexFlatIP(DIMS)
    exact.add(vectors)
    vectors.tofile(f"{folder}/vectors.f32")
    queries.tofile(f"{folder}/queries.f32")
    exact.search(queries, 10)[1].astype(np.uint32).tofile(f"{folder}/truth.u32")


def photos(folder, crops, sources):
    import faiss
    import onnxruntime
    from pathlib import Path
    from PIL import Image

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    model = onnxruntime.InferenceSession(str(Path(__file__).parent / "../models/efficientnet-lite0.onnx"), options)
    files = sorted(file for source in sources for file in Path(source).iterdir() if file.suffix.lower() in (".jpg", ".jpeg", ".png"))
    rng = np.random.default_rng(1)

    def cuts(file):
        picture = Image.open(file).convert("RGB")
        for _ in range(crops):
            share = rng.uniform(0.5, 1.0) ** 0.5
            width, height = (int(side * share) for side in picture.size)
            left, top = rng.integers(0, picture.width - width + 1), rng.integers(0, picture.height - height + 1)
            cut = picture.crop((left, top, left + width, top + height)).resize((160, 160), Image.BILINEAR)
            yield cut.transpose(Image.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else cut

    rows = []
    for file in files:
        batch = np.stack([np.asarray(cut) for cut in cuts(file)])
        rows.append(model.run(["embedding"], {"image": batch})[0])
    rows = unit(np.concatenate(rows))
    asks = np.zeros(len(rows), bool)
    asks[rng.permutation(len(rows))[: len(rows) // 40]] = True
    vectors, queries = rows[~asks], rows[asks]
    os.makedirs(folder, exist_ok=True)
    exact = faiss.IndexFlatIP(DIMS)
    exact.add(vectors)
    vectors.tofile(f"{folder}/vectors.f32")
    queries.tofile(f"{folder}/queries.f32")
    exact.search(queries, 10)[1].astype(np.uint32).tofile(f"{folder}/truth.u32")
    print(f"{len(files)} pictures, {len(vectors)} vectors, {len(queries)} queries")


def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096


def hnswlib_index(vectors):
    import hnswlib

    index = hnswlib.Index("ip", DIMS)
    index.init_index(len(vectors), M=LINKS, ef_construction=BUILD_EFFORT)
    index.set_num_threads(THREADS)
    index.add_items(vectors)

    def search(queries, effort, threads):
        index.set_ef(effort)
        return index.knn_query(queries, 10, num_threads=threads)[0]

    return search


def usearch_index(dtype):
    def make(vectors):
        from usearch.index import Index

        index = Index(ndim=DIMS, metric="cos" if dtype == "i8" else "ip", dtype=dtype, connectivity=LINKS,
                      expansion_add=BUILD_EFFORT)
        index.add(np.arange(len(vectors)), vectors, threads=THREADS)

        def search(queries, effort, threads):
            index.expansion_search = effort
            return index.search(queries, 10, threads=threads).keys

        return search

    return make


def faiss_index(vectors):
    import faiss

    faiss.omp_set_num_threads(THREADS)
    index = faiss.IndexHNSWFlat(DIMS, LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = BUILD_EFFORT
    index.add(vectors)

    def search(queries, effort, threads):
        faiss.omp_set_num_threads(threads)
        index.hnsw.efSearch = effort
        return index.search(queries, 10)[1]

    return search


MAKERS = {"hnswlib": hnswlib_index, "usearch": usearch_index("f32"), "usearch-i8": usearch_index("i8"), "faiss": faiss_index}


def measure(folder, names):
    vectors = np.fromfile(f"{folder}/vectors.f32", dtype=np.float32).reshape(-1, DIMS)
    queries = np.fromfile(f"{folder}/queries.f32", dtype=np.float32).reshape(-1, DIMS)
    truth = np.fromfile(f"{folder}/truth.u32", dtype=np.uint32).reshape(-1, 10)
    many = np.concatenate([queries] * max(1, 5_000 // len(queries)))
    for name in names:
        before, start, worked = resident(), time.perf_counter(), time.process_time()
        search = MAKERS[name](vectors)
        seconds, worked = time.perf_counter() - start, time.process_time() - worked
        print(f"{name}: built in {seconds:.1f} s, {len(vectors) / seconds:.0f} a second, "
              f"{len(vectors) / worked:.0f} a second of processor time, "
              f"{(resident() - before) / len(vectors):.0f} bytes a vector", flush=True)
        for effort in (32, 64, 128, 256):
            found = search(queries, effort, 1)
            recall = np.mean([len(set(f) & set(t)) for f, t in zip(found.tolist(), truth.tolist())]) / 10
            rates = []
            for threads in (1, 2):
                start, worked = time.perf_counter(), time.process_time()
                search(many, effort, threads)
                rates.append(len(many) / (time.perf_counter() - start))
                if threads == 1:
                    own = len(many) / (time.process_time() - worked)
            print(f"  ef {effort:3}: recall {recall:.4f}, {rates[0]:.0f} and {rates[1]:.0f} q/s on 1 and 2 threads, "
                  f"{own:.0f} a second of processor time", flush=True)
        del search


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]) if len(sys.argv) > 4 else None)
    elif sys.argv[1] == "photos":
        photos(sys.argv[2], int(sys.argv[3]), sys.argv[4:])
    else:
        measure(sys.argv[2], sys.argv[3].split(",") if len(sys.argv) > 3 else list(MAKERS))
