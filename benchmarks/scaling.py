"""Pools past one machine: what scoring them costs, measured here, and a model of larger ones.

Usage: python benchmarks/scaling.py [--only PART ...] [--n N] [--files N]

Parts: pool, memory, ray, files, costs. Figures are kept in benchmarks/scaling.json, with their date
and machine; what is not run again stays. Writes docs/scaling.md. The rate of a GPU is taken from
benchmarks/performance.json.
"""

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).with_suffix(".json")
PAGE = ROOT / "docs" / "scaling.md"
SIZE, VIEWS, CLASSES = 64, 2, ["a", "b", "c", "d"]
JPEG_SIZE = 256
# Candidates of a chunk of the Zarr store: 3 MB.
CHUNK = 256
MB = 2**20


def smooth(n, size, seed=0):
    """Images that compress about as well as photographs do: noise of several scales."""
    rng = np.random.default_rng(seed)
    total = np.zeros((n, 3, size, size), dtype=np.float32)
    for cells, weight in ((4, 1.0), (16, 0.5), (size, 0.08)):
        noise = rng.random((n, 3, cells, cells), dtype=np.float32)
        total += weight * noise.repeat(size // cells, 2).repeat(size // cells, 3)
    return (total * (255 / 1.58)).astype(np.uint8)


def write_zarr(folder, n):
    import zarr

    store = zarr.create_array(
        folder / "pool.zarr", shape=(n, 3, SIZE, SIZE), chunks=(CHUNK, 3, SIZE, SIZE), dtype="uint8"
    )
    some = smooth(4 * CHUNK, SIZE)
    for start in range(0, n, len(some)):
        store[start : start + len(some)] = some[: n - start]
    return folder / "pool.zarr"


def write_files(folder, n):
    from PIL import Image

    some = smooth(200, JPEG_SIZE).transpose(0, 2, 3, 1)
    (folder / "files").mkdir()

    def write(k):
        image = Image.fromarray(some[k % len(some)])
        image.save(folder / "files" / f"{k:06}.jpg", quality=90)

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(write, range(n)))
    return folder / "files"


def write_model(folder):
    from aift_sklearn import AffinePatches, AIFTClassifier, CNNClassifier, save

    cnn = CNNClassifier(trainable="head", max_epochs=1)
    views = AffinePatches.for_microscopy(n_patches=VIEWS)
    model = AIFTClassifier(cnn, patches=views, random_state=0)
    return save(model.fit(smooth(8, SIZE), CLASSES * 2), folder / "model")


def run(task):
    """Do one task in this process: what it took, and its memory."""
    from memory import growth

    from aift_sklearn import cluster, load, score_pool
    from aift_sklearn.batch_scoring import pack_model
    from aift_sklearn.pools import ImageFolder, open_pool

    folder = Path(task["folder"])
    if task["of"] == "files":
        pool = ImageFolder(folder / "files", size=SIZE)
    else:
        pool = open_pool(folder / "pool.zarr")
    model = pack_model(load(folder / "model"), pool.shape[1:])
    n, whole = len(pool), pool[:] if task["how"] == "array" else pool
    if task["how"] == "read":
        step = 2**23 // (3 * SIZE * SIZE)
        grown, took = growth(lambda: sum(len(pool[k : k + step]) for k in range(0, n, step)))
    else:
        score = cluster.score_pool if task["how"] == "ray" else score_pool
        options = {"actors": 2} if task["how"] == "ray" else {}
        out = folder / f"scores-{task['of']}-{task['how']}"
        # What runs once in a process is no cost of a pool.
        score_pool(whole[:600], model, folder / f"warm-{task['how']}-{task['of']}")
        grown, took = growth(lambda: score(whole, model, out, **options))
    return {"n": n, "seconds": took, "mb": grown}


def in_a_process(**task):
    command = [sys.executable, __file__, "--task", json.dumps(task)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    print(task["of"], task["how"], done.stdout.splitlines()[-1], flush=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure_store(options):
    with tempfile.TemporaryDirectory() as folder:
        path = write_zarr(Path(folder), options.n)
        write_model(Path(folder))
        size = sum(one.stat().st_size for one in path.rglob("*") if one.is_file())
        found = {
            how: in_a_process(folder=folder, of="store", how=how)
            for how in ("read", "array", "pool", "ray")
        }
        return found | {"stored_bytes": size / options.n}


def measure_files(options):
    with tempfile.TemporaryDirectory() as folder:
        path = write_files(Path(folder), options.files)
        write_model(Path(folder))
        size = sum(one.stat().st_size for one in path.iterdir())
        found = {
            how: in_a_process(folder=folder, of="files", how=how)
            for how in ("read", "array", "pool")
        }
        return found | {"stored_bytes": size / options.files}


def measure_costs(options):
    """What the process that keeps the books pays for a candidate, and Ray for a block."""
    from memory import growth

    from aift_sklearn.batch_scoring.writing import open_table
    from aift_sklearn.cluster.places import connected
    from aift_sklearn.cluster.pools import _read_pool
    from aift_sklearn.cluster.workers import ROW
    from aift_sklearn.pools import ArrayPool

    n = 10**6
    flat = np.lib.stride_tricks.as_strided(np.zeros(1, np.uint8), (n, 1, 4, 4), (0, 0, 0, 0))
    held = []
    ids, opened = growth(lambda: held.append(ArrayPool(flat, channels="first")))
    (pool,) = held
    found = {"ids": ids * MB / n, "open": opened / n}
    with tempfile.TemporaryDirectory() as folder:
        identity = {"n": n, "classes": CLASSES}
        how = {"shard_size": 2**14, "ids": pool.ids, "groups": None, "why_broken": {}.get}
        with open_table(Path(folder) / "table", identity, **how) as writer:
            rng, took = np.random.default_rng(0), 0.0
            for at in range(0, n, 1024):
                rows = np.arange(at, min(at + 1024, n))
                proba = rng.dirichlet(np.ones(4), len(rows)).astype(np.float32)
                some = {"score": rng.random(len(rows)), "proba": proba}
                start = time.perf_counter()
                writer.put(rows, some)
                took += time.perf_counter() - start
            found["book"] = took / n
            writer.finish()
        shards = Path(folder).glob("table/*.parquet")
        found["table"] = sum(path.stat().st_size for path in shards) / n
    blocks = 400
    with connected(None):
        tiny = np.zeros((2 * blocks, 1, 4, 4), dtype=np.uint8)
        for many in (2, blocks):
            # Of this process alone: on a cluster others do the rest side by side.
            start, busy = time.perf_counter(), time.process_time()
            bounds = [(k, k + 1) for k in range(many)]
            read = _read_pool(tiny, bounds).iter_batches(batch_size=None)
            assert sum(len(batch[ROW]) for batch in read) == many
            found[f"blocks_{many}"] = time.process_time() - busy
            found[f"wall_{many}"] = time.perf_counter() - start
    found["block"] = (found[f"blocks_{blocks}"] - found["blocks_2"]) / (blocks - 2)
    return found


MEASURES = {"store": measure_store, "files": measure_files, "costs": measure_costs}


class Machine:
    """What scores: cores that compute, or GPUs, and processes that read."""

    def __init__(self, name, cores, gpus=0, nodes=1):
        self.name, self.cores, self.gpus, self.nodes = name, cores, gpus, nodes


MACHINES = [
    Machine("this machine, 2 cores", 2),
    Machine("16 cores", 16),
    Machine("16 cores, an H100", 16, gpus=1),
    Machine("Ray, 8 nodes of 16 cores", 16, nodes=8),
    Machine("Ray, 8 nodes of 16 cores and an H100", 16, gpus=1, nodes=8),
    Machine("Ray, 64 nodes of 16 cores and an H100", 16, gpus=1, nodes=64),
]


def measured_rates(results):
    """Figures of the model, of which each was measured."""
    store, files, costs = (results[part]["results"] for part in ("store", "files", "costs"))
    gpu = json.loads((ROOT / "benchmarks" / "performance.json").read_text("utf-8"))["gpu"]
    (at_64,) = [one for one in gpu["results"]["sizes"] if one["size"] == SIZE]
    rate = {how: one["n"] / one["seconds"] for how, one in store.items() if how != "stored_bytes"}
    return {
        "core": rate["array"] * VIEWS / 2,
        "gpu": at_64["rates"]["aift-sklearn, float16, bytes to scores"],
        "read": rate["read"],
        "ray": rate["ray"] / rate["pool"],
        "decode": files["read"]["n"] / files["read"]["seconds"] / 2,
        "book": costs["book"],
        "block": costs["block"],
        "ids": costs["ids"],
        "table": costs["table"],
        "stored": store["stored_bytes"],
        "file": files["stored_bytes"],
    }


def predict(machine, n, views, known, source):
    """Seconds that each thing takes by itself; they overlap, so that the longest counts."""
    candidate = 3 * SIZE * SIZE
    on_ray = machine.nodes > 1
    computing = machine.gpus * known["gpu"] if machine.gpus else machine.cores * known["core"]
    seconds = {
        "computing": n * views / (computing * machine.nodes * (known["ray"] if on_ray else 1)),
    }
    # A pool of an array is read by one thread of a process, files by all cores; on Ray by as many
    # tasks as there are cores, which are a quarter of a core each.
    cores = machine.cores * machine.nodes
    if source == "array":
        seconds["reading"] = n / (known["read"] * (cores if on_ray else 1))
    elif machine.gpus:
        seconds["decoding"] = n / (known["decode"] * cores)
    else:
        # By the same cores.
        seconds["computing and decoding"] = seconds.pop("computing") + n / (known["decode"] * cores)
    blocks = n * candidate / 2**24 * known["block"] if on_ray else 0
    seconds["the books"] = n * known["book"] + blocks
    return seconds


def shown(seconds):
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:,.1f} s"


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def of_measured(results):
    store, files, costs = (results[part]["results"] for part in ("store", "files", "costs"))
    rows = []
    names = {
        ("store", "array"): "an array in memory, here",
        ("store", "pool"): "a Zarr store on disk, here",
        ("store", "ray"): "the same, two actors of a Ray of its own, which starts and ends in it",
        ("store", "read"): "the same, only read, by one thread",
        ("files", "array"): f"JPEG files of {JPEG_SIZE} px that were read into memory before, here",
        ("files", "pool"): "the files, here",
        ("files", "read"): "the files, only read, by two threads",
    }
    for (part, how), name in names.items():
        one = results[part]["results"][how]
        rows.append(
            [
                name,
                f"{one['n']:,}",
                f"{one['seconds']:,.1f} s",
                f"{one['n'] / one['seconds']:,.0f}",
                f"{one['mb']:,.0f} MB",
            ]
        )
    head = ["source", "candidates", "took", "a second", "anonymous memory, at most"]
    share = 1 - store["array"]["seconds"] / store["pool"]["seconds"]
    ray = store["pool"]["seconds"] / store["ray"]["seconds"]
    jpeg = files["array"]["seconds"] / files["pool"]["seconds"]
    shared = (files["array"]["seconds"] + files["read"]["seconds"]) / files["pool"]["seconds"]
    decode = files["read"]["n"] / files["read"]["seconds"]
    notes = [
        f"- Reading from Zarr takes {max(share, 0):.1%} of the wall time (the pass over the array "
        f"takes {1 - share:.1%} of it).",
        f"- Two actors reach {ray:.2f} of the throughput of the local engine, Ray's start and end "
        "included.",
        f"- From files the pass reaches {jpeg:.0%} of that over an array in memory. Decoding is "
        f"the limit: it uses the same cores, {decode:,.0f} files a second on both of them, and "
        f"decoding and computing one after the other would take {shared:.0%} of the time of the "
        "pass.",
        f"- The books: {costs['book'] * 1e6:.1f} µs a candidate to put scores in place and write "
        f"them, {costs['ids']:.0f} bytes of memory for ids, {costs['table']:.0f} "
        f"bytes of Parquet (K = {len(CLASSES)}). A block costs "
        f"the process that drives Ray {costs['block'] * 1e3:.1f} ms of a core, without what is in "
        "it.",
    ]
    return table(head, rows) + "\n\n" + "\n".join(notes)


def of_model(n, known):
    rows = []
    for machine in MACHINES:
        cells = []
        for source in ("array", "files"):
            for views in (2, 16):
                seconds = predict(machine, n, views, known, source)
                slowest = max(seconds, key=seconds.get)
                cells.append(f"{shown(seconds[slowest])}, {slowest}")
        rows.append([machine.name, *cells])
    head = ["machine", "array, m = 2", "array, m = 16", "JPEG files, m = 2", "JPEG files, m = 16"]
    return table(head, rows)


def of_breaking(known):
    candidate = 3 * SIZE * SIZE
    rows = [
        [
            f"10{'⁶' if n == 10**6 else '⁸'}",
            f"{n * candidate / 2**30:,.0f} GB",
            f"{n * known['stored'] / 2**30:,.0f} GB",
            f"{n * known['file'] / 2**30:,.0f} GB",
            f"{n * known['ids'] / 2**30:,.1f} GB",
            f"{n * known['table'] / 2**30:,.2f} GB in {-(-n // 2**14):,}",
            f"{n * candidate / 2**24:,.0f}",
            shown(n * known["book"]),
        ]
        for n in (10**6, 10**8)
    ]
    head = ["candidates", "as bytes, through Ray's object store once", "in Zarr", "as JPEG files"]
    head += ["ids in memory", "table in files", "blocks on Ray", "the books, one process"]
    return table(head, rows)


def page(results):
    known = measured_rates(results)
    dates = sorted({one["date"] for one in results.values()})
    where = results["store"]["machine"]
    each = known["book"] + known["block"] * 3 * SIZE * SIZE / 2**24
    hour, most = 3600 / each / 1e6, 16 / each / known["gpu"]
    return f"""# Pools past one machine
Written by `python benchmarks/scaling.py`. EfficientNet-Lite0, candidates of {SIZE} px, K = \
{len(CLASSES)}; measured {" and ".join(dates)} on {where}.

## Measured
m = {VIEWS} patches of each candidate.

{of_measured(results)}

## A model of larger ones
What is done to a candidate overlaps: it is read, computed on and booked by different threads or \
processes, so that the slowest of them decides. Each has a rate that was measured: computing \
{known["core"]:,.0f} patches a second on a core and {known["gpu"]:,.0f} on an H100 (half \
precision, `docs/performance.md`), reading {known["read"]:,.0f} candidates a second of Zarr in a \
thread, decoding {known["decode"]:,.0f} JPEG files a second on a core, and the books above. On \
Ray computing reaches {known["ray"]:.2f} of its rate. Arrays are read by one thread of a \
process, or by as many tasks on Ray as there are cores; files by all cores. Start-up, 10 to 40 \
s, and the network between nodes and store are left out. What takes longest, and how long:

### 10⁶ candidates
{of_model(10**6, known)}

### 10⁸ candidates
{of_model(10**8, known)}

Of these the cells of this machine with m = 2 follow from what was measured on it; the others are \
the model. The Zarr store lay in the page cache and hardly compresses, and blocks were counted \
without what is in them: on a cluster the network comes on top.

## What breaks first
{of_breaking(known)}

- **One thread that reads.** An array that lies in the page cache feeds {known["read"]:,.0f} \
candidates a second into a process; an H100 scores {known["gpu"] / 2:,.0f} with m = 2 and \
{known["gpu"] / 16:,.0f} with m = 16. A store that is slower than that makes it wait. On Ray \
several tasks read for each GPU.
- **The ids.** The process that keeps the books holds an id of every candidate. Past 10⁸ cut the \
pool into several, each with a folder of its own; their tables read as one.
- **The books.** One process puts every score in place and, on Ray, hands out every block: \
{hour:,.0f} million candidates an hour, which a cluster of more than about {most:,.0f} H100s would \
outrun at m = 16. Embeddings (5 kB each with EfficientNet-Lite0) take far more of it: ask for them \
for what was chosen, not for 10⁸.
- **Reading the source.** {known["stored"]:,.0f} bytes a candidate from Zarr; with eight H100s \
and m = 2 that is {8 * known["gpu"] / 2 * known["stored"] / 2**30:,.1f} GB a second from the \
store, more than most file servers give. More patches of each candidate cost no more reading.
- **A single file system folder.** 10⁸ JPEG files are listed, and their headers read, before \
anything is scored: keep them in Zarr, HDF5 or Parquet.
"""


def machine_text():
    import performance

    return performance.machine("scaling")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=MEASURES, metavar="PART")
    parser.add_argument("--n", type=int, default=200_000)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--write", action="store_true", help="only write the page")
    parser.add_argument("--task", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task:
        print(json.dumps(run(options.task)))
        return
    results = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
    for part in () if options.write else options.only or MEASURES:
        found = MEASURES[part](options)
        date = datetime.date.today().isoformat()
        results[part] = {"results": found, "date": date, "machine": machine_text()}
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    PAGE.write_text(page(results), "utf-8")


if __name__ == "__main__":
    main()
