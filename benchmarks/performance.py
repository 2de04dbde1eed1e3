"""The pool pass, measured: its peers, its limits, races, refreshes, memory.

Usage: python benchmarks/performance.py [--bccd FOLDER] [--pneumonia FILE.npz] [--only PART ...]

FOLDER holds boxes.csv and images/ of the BCCD data set, FILE is PneumoniaMNIST's archive. Parts:
throughput, stages, scaling, embedding, refresh, memory, racing, gpu. Each part's figures are kept,
with its date and machine, in benchmarks/performance.json; what is not run again stays. Writes
docs/performance.md and the README's sentence about it.
"""

import argparse
import datetime
import json
import platform
import re
import warnings
from pathlib import Path

import memory
import onnxruntime
import racing
import scores
import throughput
import torch

from aift_sklearn.onnx import count_threads

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).with_suffix(".json")
PAGE = ROOT / "docs" / "performance.md"
# Size: candidates of the pass, patches of the slower peers.
SIZES = {64: (4096, 512), 96: (2048, 256), 224: (1024, 64)}
OURS = throughput.OURS
EAGER, CHANNELS_LAST = "torch, eager (skorch)", "torch, channels-last (skorch)"


def machine(part):
    device = f"{torch.cuda.get_device_name()}, " if part == "gpu" else ""
    text = Path("/proc/cpuinfo").read_text("utf-8") if Path("/proc/cpuinfo").exists() else ""
    model = re.search(r"model name\s*: (.*)", text)
    return device + (
        f"{count_threads()} cores of {model[1] if model else platform.machine()}, torch "
        f"{torch.__version__.partition('+')[0]}, ONNX Runtime {onnxruntime.__version__}, Python "
        f"{platform.python_version()}, {platform.system()}"
    )


def measure_stages(options):
    return [throughput.stages(size) for size in SIZES] + [{"roof": throughput.matmul_gflops()}]


def measure_gpu(options):
    import gpu

    return gpu.measure(options.bccd, options.pneumonia)


MEASURES = {
    "throughput": lambda options: [throughput.sweep(size, *SIZES[size]) for size in SIZES],
    "stages": measure_stages,
    "scaling": lambda options: throughput.scaling(),
    "embedding": lambda options: throughput.embedding(),
    "refresh": lambda options: throughput.refresh(),
    "memory": lambda options: memory.measure(),
    "scores": lambda options: scores.measure(),
    "racing": lambda options: racing.measure(options.bccd, options.pneumonia),
    "gpu": measure_gpu,
}


def rates(result):
    return {row["name"]: row["rate"] for row in result["rows"]}


def bare(result):
    return max(v for k, v in rates(result).items() if k.startswith("ONNX Runtime"))


def of_throughput(results):
    sizes = [result["size"] for result in results]
    names = list(rates(results[0]))
    head = ["patches a second", *(f"{size} px" for size in sizes), "best batch"]
    rows = []
    for name in names:
        cells = [rates(result).get(name) for result in results]
        batch = [
            row["batch"] for result in results for row in result["rows"] if row["name"] == name
        ]
        shown = [f"{cell:,.0f}" if cell else "not run" for cell in cells]
        label = f"**{name}**" if name == OURS else name
        rows.append([label, *shown, ", ".join(map(str, batch))])
    for title, of in (
        ("over eager torch", lambda r: rates(r)[EAGER]),
        ("over channels-last torch", lambda r: rates(r)[CHANNELS_LAST]),
        ("of the bare network in ONNX Runtime", bare),
    ):
        ratios = [rates(result)[OURS] / of(result) for result in results]
        percent = title.startswith("of")
        shown = [f"{ratio:.0%}" if percent else f"{ratio:.1f} x" for ratio in ratios]
        rows.append([f"aift-sklearn {title}", *shown, ""])
    failed = {f"{name}: {why}" for result in results for name, why in result["failed"].items()}
    notes = "".join(f"\n\nNot run: {one}." for one in sorted(failed))
    return table(head, rows) + notes


def of_stages(results, measured):
    *parts, roof = results
    by_size = {result["size"]: result for result in measured["throughput"]["results"]}
    rows = []
    for part in parts:
        result = by_size[part["size"]]
        achieved = rates(result)[OURS] * result["gflop_per_patch"]
        rows.append(
            [
                f"{part['size']} px",
                f"{part['cutting']:.3f}",
                f"{part['scores']:.4f}",
                f"{part['whole pass']:.2f}",
                f"{part['cutting'] / part['whole pass']:.0%}",
                f"{result['gflop_per_patch']:.3f}",
                f"{achieved:.0f}",
                f"{achieved / roof['roof']:.0%}",
            ]
        )
    head = ["size", "cutting", "scores", "whole pass", "cutting's share"]
    head += ["GFLOP a patch", "GFLOP/s achieved", "of the roof"]
    return (
        table(head, rows)
        + "\n\nThe first three are core-seconds for a thousand patches. The roof is a float32 "
        + "product of 2048 x 2048 matrices on all cores, by the fastest of NumPy, torch and ONNX "
        + f"Runtime: {roof['roof']:.0f} GFLOP/s."
    )


def of_scaling(results):
    n = table(
        ["candidates, 28 px, m = 4", "patches a second"],
        [[f"{row['n']:,}", f"{row['rate']:,.0f}"] for row in results["n"]],
    )
    m = table(
        ["m, 300 candidates, 64 px", "patches a second"],
        [[row["m"], f"{row['rate']:,.0f}"] for row in results["m"]],
    )
    cores = table(
        ["cores, 64 px, m = 16", "patches a second"],
        [[row["cores"], f"{row['rate']:,.0f}"] for row in results["cores"]],
    )
    return f"{n}\n\n{m}\n\n{cores}"


def of_racing(results):
    rows = [
        [
            row["head"],
            row["pool"],
            row["labels"],
            f"{row['n']:,}",
            f"{row['full']:.2f} s",
            f"{row['raced']:.2f} s",
            f"{row['full'] / row['raced']:.1f} x",
            f"{row['cost']:.0%}",
            f"{row['recall']:.2f}",
        ]
        for row in results
    ]
    for head in dict.fromkeys(row["head"] for row in results):
        of_head = [row for row in results if row["head"] == head]
        n = len(of_head)
        faster = sum(row["full"] / row["raced"] for row in of_head) / n
        cost, recall = (sum(row[key] for row in of_head) / n for key in ("cost", "recall"))
        rows.append(
            [head, "mean", "", "", "", "", f"{faster:.1f} x", f"{cost:.0%}", f"{recall:.3f}"]
        )
    head = ["head", "pool", "labels", "candidates", "full pass", "race", "faster", "patches"]
    return table([*head, "recall"], rows)


def of_refresh(results):
    return (
        f"Exporting EfficientNet-Lite0, and proving that every weight can be replaced, took "
        f"{results['export']:.1f} s. What follows a round took {results['round']:.3f} s "
        f"(1/{results['export'] / results['round']:.0f}): writing the weights into the graph "
        f"({results['refresh']:.3f} s), opening a session ({results['session']:.3f} s), and "
        f"comparing with the estimator, as before every pass ({results['check']:.3f} s)."
    )


def of_embedding(results):
    ratio = results["engine"] / results["torch"]
    return (
        f"{results['n']:,} images of {results['size']} px, EfficientNet-Lite0: "
        f"{results['engine']:,.0f} a second through the engine, from bytes; "
        f"{results['torch']:,.0f} in torch at its best ({results['torch_at']}), of float "
        f"images that were at hand: {ratio:.1f} x."
    )


def of_memory(results):
    rows = [[row["what"].rstrip("."), f"{row['mb']:,.0f} MB"] for row in results]
    return table(["what", "anonymous memory, at most"], rows)


def of_gpu(results):
    sizes = results["sizes"]
    names = list(sizes[0]["rates"])
    *_, resident, alone, half, _ = names

    def per_size(show):
        return [show(one) for one in sizes]

    rows = [
        [name, *per_size(lambda one, name=name: f"{one['rates'][name]:,.0f}")] for name in names
    ]
    for title, show in (
        ("float16, of the network alone", lambda r, _: f"{r[half] / r[alone]:.0%}"),
        ("float16, of torch on the device", lambda r, _: f"{r[half] / r[resident]:.0%}"),
        (
            "float16, over the best of torch from memory",
            lambda r, _: f"{r[half] / max(r[name] for name in names[:2]):.1f} x",
        ),
        ("batch", lambda _, one: f"{one['batch']:,}"),
        ("first pass: plans of the kernels", lambda r, one: f"{extra(one, 'first', half):.1f} s"),
        ("first pass after a round: the same", lambda r, one: f"{extra(one, 'later', half):.1f} s"),
    ):
        rows.append([title, *per_size(lambda one, show=show: show(one["rates"], one))])
    head = ["patches a second", *(f"{one['size']} px" for one in sizes)]
    if not results.get("fidelity"):
        return table(head, rows) + "\n\nWhat half precision finds was not compared there yet."
    shared = [
        [row["pool"], f"{row['n']:,}", *(f"{share:.2f}" for share in row["shared"].values())]
        for row in results["fidelity"]
    ]
    best = [f"top {b} shared" for b in results["fidelity"][0]["shared"]]
    return f"{table(head, rows)}\n\n{table(['pool', 'candidates', *best], shared)}"


def extra(one, which, name):
    """Seconds that a pass took longer than those after it."""
    return one[which] - one["n"] * throughput.PATCHES / one["rates"][name]


def of_scores(results):
    rows = [
        [row["m"], row["K"], f"{row['slow']:.0f}", f"{row['fast']:.1f}", f"{row['ratio']:.0f} x"]
        for row in results
    ]
    return table(["m", "K", "double loop, µs", "closed form, µs", "ratio"], rows)


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def page(measured):
    def section(part, title, text, show):
        if part not in measured:
            return f"## {title}\n{text}\n\nNot measured yet."
        known = measured[part]
        shown = show(known["results"])
        return f"## {title}\n{text}\n\n{shown}\n\n{known['date']}; {known['machine']}."

    return "\n\n".join(
        [
            "# Performance\nWritten by `make bench`; figures are of one run each, on the machine "
            "that stands below them, and say little about another. What matters are the ratios.",
            section(
                "throughput",
                "A pool pass, and its peers",
                "EfficientNet-Lite0, 16 patches of each candidate. Peers are given float patches "
                "that were cut before the clock started, and only predict; each runs at its best "
                "batch size. The pass reads candidates as bytes, cuts the patches, predicts and "
                "scores.",
                of_throughput,
            ),
            section(
                "stages",
                "Where the time goes",
                "On one core, and against what the cores can do.",
                lambda results: of_stages(results, measured),
            ),
            section(
                "racing",
                "Racing for the top 20",
                "`top(pool, 20)` with a fine-tuned network, and with a strongly regularised "
                "logistic regression on frozen features, whose scores are flat; 16 patches, "
                "default parameters: "
                "patches evaluated, and the share of the exact top 20 that was found. Scores that "
                "are returned are always exact. Recall is measured, not guaranteed: where patches "
                "of a candidate that look certain are followed by some that do not, it may be "
                "lost.",
                of_racing,
            ),
            section(
                "embedding",
                "Embeddings",
                "For the first batch, for variety, and for frozen features.",
                of_embedding,
            ),
            section(
                "refresh",
                "New weights",
                "After every round only numbers change.",
                of_refresh,
            ),
            section(
                "memory",
                "Memory",
                "Above what stands there already, each in a process of its own.",
                of_memory,
            ),
            section("scaling", "Scaling", "Over candidates, patches and cores.", of_scaling),
            section(
                "scores",
                "The score itself",
                "Against the literal double loop over the patches of a candidate.",
                of_scores,
            ),
            section(
                "gpu",
                "On a GPU",
                "EfficientNet-Lite0, 16 patches of each candidate. Rows that are on the device "
                "need no upload and no patches to be cut: they are limits, not rivals. Half "
                "precision is the default. Where shared bests are told, they are those of single "
                "and half precision, with a network fine-tuned on 100 labels.",
                of_gpu,
            ),
        ]
    )


def readme(measured):
    """Put the ratios into the README."""
    results = {result["size"]: result for result in measured["throughput"]["results"]}
    small, large = results[64], results[224]
    text = (
        "{:.1f} times the patches per second of the same network in torch at 64 pixels and {:.1f} "
        "times at 224".format(*(rates(r)[OURS] / rates(r)[EAGER] for r in (small, large)))
    )
    path = ROOT / "README.md"
    old = path.read_text("utf-8")
    new = re.sub(
        r"(<!-- speed -->).*?(<!-- /speed -->)", lambda m: m[1] + text + m[2], old, flags=re.S
    )
    path.write_text(new, "utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--bccd", help="folder of the BCCD data set")
    parser.add_argument("--pneumonia", help="archive of PneumoniaMNIST")
    parser.add_argument("--only", nargs="*", choices=MEASURES, help="parts to measure")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    measured = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
    parts = list(MEASURES) if options.only is None else options.only
    if options.only is None and not torch.cuda.is_available():
        parts = [part for part in parts if part != "gpu"]
    if options.only is None and (options.bccd is None or options.pneumonia is None):
        print("racing is left as it was: --bccd and --pneumonia say where its pools are")
        parts = [part for part in parts if part != "racing"]
    for part in parts:
        print(f"--- {part}", flush=True)
        measured[part] = {
            "results": MEASURES[part](options),
            "date": datetime.date.today().isoformat(),
            "machine": machine(part),
        }
        RESULTS.write_text(json.dumps(measured, indent=1) + "\n", "utf-8")
    text = page(measured)
    PAGE.write_text(text + "\n", "utf-8")
    readme(measured)
    print(text)


if __name__ == "__main__":
    main()
