"""Which model finds altered pictures again, which one knows films by their posters, and what does a second one add?

    python3 -m venv .venv && .venv/bin/pip install -r models/requirements.txt
    UPNEXT_DATA=<folder> .venv/bin/python examples/compare_models.py models/efficientnet-lite0.toml models/appearance.toml \
        --cache /tmp/embeddings --fuse 0.1,0.2,0.3,0.5,0.7

The folder holds `images/neardup_dev` (`refs/`, `queries/` and `ground_truth.csv` with query, ref and attack) and, for the last
column, `movielens/posters/` (`<movieId>.jpg`) and `movielens/items.csv` (movieId, title, genres). Each model is named by its
manifest and sees pictures as the service would show them. The script prints, for each model,

- how often the original comes first for the altered copies that the folder has (R@1), and for harder ones made here with a
  seed: the colours gone or turned, 30 % of the area cut out, turned by 20 degrees, bars, a frame, captions and a logo, and all at once.
  Originals are searched for among themselves and the posters, which are thousands of pictures that they are not;
- the mean Jaccard index of the genres of a film and of the ten films whose posters are most alike;
- milliseconds a picture on one thread, without decoding.

With --write-harder DIR the harder copies are only written, with their originals and a list, for `search_altered.py DIR`.
With --fuse, the last model named is put beside each of the others with these weights (the other one has 1): unit vectors are
joined as sqrt(weight) times each, so that a likeness is the weighted mean of the two. Without the folder it says so and ends well.
"""

import argparse
import csv
import io
import os
import sys
import time
import tomllib
import zlib
from collections import defaultdict
from pathlib import Path

import numpy as np

HARD_QUERIES = 250
NEIGHBOURS = 10


# --- models ----------------------------------------------------------------------------------------------------------


class Model:
    """An ONNX model behind its manifest."""

    def __init__(self, manifest):
        import onnxruntime

        self.spec = tomllib.loads(manifest.read_text(encoding="utf-8"))
        self.path = manifest.with_name(self.spec["file"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(self.path), options, providers=["CPUExecutionProvider"])
        self.name = self.spec["name"]
        self.seconds, self.runs = 0.0, 0

    def cache_key(self):
        how = self.path.read_bytes() + repr(sorted(self.spec["input"].items())).encode()
        return f"{self.name}-{zlib.crc32(how):08x}"

    def embed(self, picture):
        """The unit vector of a PIL picture."""
        rules = self.spec["input"]
        tensor = fitted(picture, rules)
        if rules["channels"] == "bgr":
            tensor = tensor[:, :, ::-1]
        if rules["dtype"] == "f32":
            tensor = (tensor - np.float32(rules.get("mean", [0] * 3))) / np.float32(rules.get("std", [1] * 3))
        if rules["layout"] == "nchw":
            tensor = tensor.transpose(2, 0, 1)
        feed = {rules["name"]: np.ascontiguousarray(tensor)[None]}
        start = time.perf_counter()
        (vector,) = self.session.run([self.spec["output"]["name"]], feed)
        self.seconds, self.runs = self.seconds + time.perf_counter() - start, self.runs + 1
        vector = vector.reshape(-1)
        return vector / max(np.linalg.norm(vector), 1e-12)


def fitted(picture, rules):
    """Cut and scaled in one pass, as `vision::preprocess` does it."""
    from PIL import Image

    width, height, box = rules["width"], rules["height"], None
    if rules["fit"] == "centre_crop":
        scale = min(picture.size) / rules.get("short_side", max(width, height))
        left, top = (picture.width - width * scale) / 2, (picture.height - height * scale) / 2
        box = (max(left, 0), max(top, 0), min(left + width * scale, picture.width), min(top + height * scale, picture.height))
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR, box))


# --- pictures --------------------------------------------------------------------------------------------------------


def harder(picture, name):
    """Kind -> altered copy; the random choices depend on the picture's name alone."""
    from PIL import Image, ImageDraw, ImageEnhance, ImageOps

    random = np.random.default_rng(zlib.crc32(name.encode()))
    width, height = picture.size

    def turned_hue(source):
        hue, saturation, value = source.convert("HSV").split()
        shift = int(random.choice([-1, 1]) * random.integers(25, 60))
        hue = hue.point(lambda h: (h + shift) % 256)
        return Image.merge("HSV", (hue, saturation, value)).convert("RGB")

    def tinted(source):
        gains = random.uniform(0.7, 1.3, 3)
        return Image.fromarray(np.clip(np.asarray(source) * gains, 0, 255).astype(np.uint8))

    def cut(source, area):
        side = area**0.5
        w, h = round(source.width * side), round(source.height * side)
        left, top = random.integers(0, source.width - w + 1), random.integers(0, source.height - h + 1)
        return source.crop((int(left), int(top), int(left) + w, int(top) + h))

    def written(source):
        copy = source.copy()
        draw, w, h = ImageDraw.Draw(copy), *source.size
        draw.rectangle((0, int(0.78 * h), w, h), fill=(20, 20, 20))
        draw.text((0.05 * w, 0.8 * h), "BREAKING: WHAT HAPPENED NEXT", fill=(255, 255, 255), font_size=max(10, h // 10))
        draw.ellipse((0.78 * w, 0.04 * h, 0.96 * w, 0.04 * h + 0.18 * w), fill=(220, 30, 40))
        return copy

    def compressed(source, quality):
        buffer = io.BytesIO()
        source.save(buffer, "JPEG", quality=quality)
        return Image.open(buffer).convert("RGB")

    bar = round(0.18 * height)
    return {
        "grey": ImageOps.grayscale(picture).convert("RGB"),
        "hue": turned_hue(picture),
        "tint": tinted(picture),
        "gamma": Image.fromarray((255 * (np.asarray(picture) / 255.0) ** random.choice([0.5, 2.0])).astype(np.uint8)),
        "crop30": cut(picture, 0.3),
        "rotate20": picture.rotate(int(random.choice([-20, 20])), Image.Resampling.BILINEAR),
        "letterbox": ImageOps.expand(picture, (0, bar, 0, bar), (0, 0, 0)),
        "frame": ImageOps.expand(picture, round(0.12 * min(width, height)), (245, 245, 245)),
        "overlay": written(picture),
        "combined": compressed(written(cut(ImageEnhance.Color(tinted(picture)).enhance(0.6), 0.6)), 30),
    }


def pictures(data):
    """(set, kind, name, original) and the picture, one after the other."""
    from PIL import Image

    opened = lambda path: Image.open(path).convert("RGB")
    folder = data / "images" / "neardup_dev"
    refs = sorted((folder / "refs").iterdir())
    for path in refs:
        yield ("ref", "", path.name, path.name), opened(path)
    with open(folder / "ground_truth.csv", newline="", encoding="utf-8") as rows:
        for row in csv.DictReader(rows):
            yield ("query", row["attack"], row["query"], row["ref"]), opened(folder / "queries" / row["query"])
    for path in refs[:: max(1, len(refs) // HARD_QUERIES)]:
        for kind, picture in harder(opened(path), path.name).items():
            yield ("hard", kind, path.name, path.name), picture
    for path in sorted((data / "movielens" / "posters").glob("*.jpg")):
        try:
            yield ("poster", "", path.stem, path.stem), opened(path)
        except OSError as error:
            print(f"{path.name}: {error}", file=sys.stderr)


def write_harder(data, folder):
    """The originals, the harder copies and the list of them, as `search_altered.py` reads them."""
    (folder / "queries").mkdir(parents=True, exist_ok=True)
    (folder / "refs").mkdir(exist_ok=True)
    for path in (data / "images" / "neardup_dev" / "refs").iterdir():
        (folder / "refs" / path.name).write_bytes(path.read_bytes())
    with open(folder / "ground_truth.csv", "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["query", "ref", "attack"])
        for (which, kind, name, original), picture in pictures(data):
            if which == "hard":
                query = f"{kind}-{Path(name).stem}.jpg"
                picture.save(folder / "queries" / query, quality=92)
                rows.writerow([query, original, kind])
            elif which == "poster":
                break


def embeddings(models, data, cache):
    """Model's name -> (labels, vectors); what the cache has is not computed again."""
    found, missing = {}, []
    for model in models:
        file = cache and cache / f"{model.cache_key()}.npz"
        if file and file.exists():
            with np.load(file) as saved:
                found[model.name] = ([tuple(row) for row in saved["labels"]], saved["vectors"])
                model.ms = float(saved["ms"])
        else:
            missing.append((model, file, []))
    labels = []
    if missing:
        for label, picture in pictures(data):
            labels.append(label)
            for model, _, vectors in missing:
                vectors.append(model.embed(picture))
    for model, file, vectors in missing:
        model.ms = 1000 * model.seconds / max(model.runs, 1)
        found[model.name] = (labels, np.float32(vectors))
        if file:
            cache.mkdir(parents=True, exist_ok=True)
            np.savez(file, labels=np.array(labels), vectors=found[model.name][1], ms=model.ms)
    return found


# --- measures --------------------------------------------------------------------------------------------------------


def first_places(labels, vectors):
    """Kind -> share of the queries whose original is nearest, and the same for both sets of kinds."""
    of = lambda name: [n for n, label in enumerate(labels) if label[0] == name]
    refs, posters = of("ref"), of("poster")
    names = [labels[n][2] for n in refs] + [""] * len(posters)
    gallery = vectors[refs + posters]
    shares = {}
    for which in ("query", "hard"):
        asked, hits = of(which), defaultdict(list)
        for n, best in zip(asked, np.argmax(vectors[asked] @ gallery.T, axis=1)):
            hits[labels[n][1]].append(names[best] == labels[n][3])
        shares[which] = {kind: float(np.mean(hit)) for kind, hit in sorted(hits.items())}
    return shares


def genre_agreement(labels, vectors, genres):
    """Mean Jaccard index of the genres of films and of those whose posters are nearest; NaN without posters."""
    posters = [n for n, label in enumerate(labels) if label[0] == "poster" and label[2] in genres]
    if len(posters) <= NEIGHBOURS:
        return float("nan")
    own = [genres[labels[n][2]] for n in posters]
    likeness = vectors[posters] @ vectors[posters].T
    np.fill_diagonal(likeness, -2)
    nearest = np.argpartition(-likeness, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
    jaccard = lambda a, b: len(a & b) / len(a | b)
    return float(np.mean([np.mean([jaccard(own[n], own[other]) for other in row]) for n, row in enumerate(nearest)]))


def report(rows, genres):
    """One line a model or mixture."""
    measured = [(name, ms, first_places(*pair), genre_agreement(*pair, genres)) for name, ms, pair in rows]
    kinds = [(which, kind) for which in ("query", "hard") for kind in measured[0][2][which]]
    print(f"{'':<44}" + "".join(f"{kind:>10}" for _, kind in kinds) + f"{'query':>10}{'hard':>10}{'genres':>10}{'ms':>8}")
    for name, ms, shares, agreement in measured:
        cells = [f"{100 * shares[which][kind]:>10.1f}" for which, kind in kinds]
        cells += [f"{100 * np.mean(list(shares[which].values())):>10.2f}" for which in ("query", "hard")]
        print(f"{name:<44}" + "".join(cells) + f"{agreement:>10.4f}{ms:>8.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifests", nargs="*", type=Path)
    parser.add_argument("--fuse", help="weights of the last model beside each of the others, with commas")
    parser.add_argument("--cache", type=Path, help="folder that keeps embeddings from one run to the next")
    parser.add_argument("--write-harder", type=Path, metavar="DIR", help="only write the harder copies, for search_altered.py")
    options = parser.parse_args()
    data = Path(os.environ.get("UPNEXT_DATA", ""))
    if not (data / "images" / "neardup_dev" / "ground_truth.csv").exists():
        print("skipped: UPNEXT_DATA does not name a folder with images/neardup_dev")
        return
    if options.write_harder:
        return write_harder(data, options.write_harder)
    if not options.manifests:
        parser.error("name a model's manifest")
    genres = {}
    if (data / "movielens" / "items.csv").exists():
        with open(data / "movielens" / "items.csv", newline="", encoding="utf-8") as rows:
            genres = {row["movieId"]: set(row["genres"].split("|")) for row in csv.DictReader(rows)}
    models = [Model(path) for path in options.manifests]
    found = embeddings(models, data, options.cache)
    rows = [(model.name, model.ms, found[model.name]) for model in models]
    second = models[-1]
    for model in models[:-1] if options.fuse else []:
        for weight in map(float, options.fuse.split(",")):
            labels, vectors = found[model.name]
            parts = [vectors, np.sqrt(weight) * found[second.name][1]]
            mixed = np.concatenate(parts, axis=1) / np.sqrt(1 + weight)
            rows.append((f"{model.name} + {weight:g} {second.name}", model.ms + second.ms, (labels, mixed)))
    report(rows, genres)


if __name__ == "__main__":
    main()
