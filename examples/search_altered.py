"""How well are altered pictures found again? Asks a running server, and needs nothing but Python 3.

    python examples/search_altered.py [DIR] --url https://localhost:8443 --cacert data/development-cert.pem [--limit N]

DIR (or the folder `images/neardup_dev` under UPNEXT_DATA) has originals in `refs/`, altered copies in `queries/`, and
`ground_truth.csv` with the columns query, ref and attack. The key is read from UPNEXT_KEY and needs the scopes `ingest`
and `recommend`. Originals become items named `altered/…`, which stay there unless --delete is given; other items of the
server take part in the search. Prints, for each kind of alteration, how often the original came first (R@1), how often it
was among the first ten (R@10), the mean reciprocal rank, and how long an answer took.
"""

import argparse
import base64
import csv
import http.client
import json
import os
import ssl
import sys
import time
import urllib.parse
from collections import defaultdict

PREFIX = "altered/"
BATCH = 32


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", help="originals, altered copies and the list of them")
    parser.add_argument("--url", default="https://localhost:8443")
    parser.add_argument("--cacert", help="the certificate to trust")
    parser.add_argument("--insecure", action="store_true", help="trust any certificate")
    parser.add_argument("--limit", type=int, help="so many altered copies of each kind")
    parser.add_argument("--delete", action="store_true", help="delete the items afterwards")
    return parser.parse_args()


class Server:
    """One connection, kept open."""

    def __init__(self, options):
        url = urllib.parse.urlsplit(options.url)
        if url.scheme == "https":
            context = ssl.create_default_context(cafile=options.cacert)
            if options.insecure:
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            self.connection = http.client.HTTPSConnection(url.hostname, url.port or 443, context=context, timeout=600)
        else:
            self.connection = http.client.HTTPConnection(url.hostname, url.port or 80, timeout=600)
        self.key = os.environ.get("UPNEXT_KEY")

    def ask(self, method, path, body=None, content_type=None):
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        if content_type:
            headers["Content-Type"] = content_type
        self.connection.request(method, path, body, headers)
        answer = self.connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            sys.exit(f"{method} {path}: {answer.status} {text.decode(errors='replace')}")
        return json.loads(text) if text else None


def main():
    options = arguments()
    data = os.environ.get("UPNEXT_DATA")
    folder = options.folder or (data and os.path.join(data, "images", "neardup_dev"))
    if not folder or not os.path.exists(os.path.join(folder, "ground_truth.csv")):
        print(f"skipped: no pictures at {folder}" if folder else "skipped: name a folder, or set UPNEXT_DATA")
        return
    with open(os.path.join(folder, "ground_truth.csv"), newline="") as file:
        queries = defaultdict(list)
        for row in csv.DictReader(file):
            queries[row["attack"]].append((row["query"], row["ref"]))
    server = Server(options)
    names = sorted(os.listdir(os.path.join(folder, "refs")))
    read = lambda kind, name: open(os.path.join(folder, kind, name), "rb").read()
    for start in range(0, len(names), BATCH):
        lines = (
            json.dumps({"item_id": PREFIX + name, "images_base64": [base64.b64encode(read("refs", name)).decode()]})
            for name in names[start:start + BATCH])
        server.ask("POST", "/v1/items/batch", "\n".join(lines) + "\n", "application/x-ndjson")
    print(f"{len(names)} originals")
    print(f"{'alteration':<12} {'copies':>6} {'R@1':>7} {'R@10':>7} {'MRR':>7} {'p50 ms':>8} {'p95 ms':>8}")
    every, times = [], []
    for kind in sorted(queries):
        ranks, took = [], []
        for name, ref in queries[kind][:options.limit]:
            start = time.perf_counter()
            found = server.ask("POST", "/v1/search?limit=100", read("queries", name), "image/jpeg")
            took.append(1000 * (time.perf_counter() - start))
            ids = [hit["item_id"] for hit in found["items"]]
            ranks.append(ids.index(PREFIX + ref) + 1 if PREFIX + ref in ids else None)
        show(kind, ranks, took)
        every += ranks
        times += took
    show("all", every, times)
    if options.delete:
        for name in names:
            server.ask("DELETE", "/v1/items/" + urllib.parse.quote(PREFIX + name, safe=""))


def show(kind, ranks, took):
    share = lambda place: 100 * sum(1 for rank in ranks if rank and rank <= place) / len(ranks)
    mrr = sum(1 / rank for rank in ranks if rank) / len(ranks)
    took = sorted(took)
    at = lambda share: took[min(len(took) - 1, int(share * len(took)))]
    print(f"{kind:<12} {len(ranks):>6} {share(1):>6.1f}% {share(10):>6.1f}% {mrr:>7.3f} {at(.5):>8.1f} {at(.95):>8.1f}")


if __name__ == "__main__":
    main()
