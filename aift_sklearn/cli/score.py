"""``aift score``."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated, Any

import typer

from . import options
from .terminal import announce, loading

__all__ = ["score"]

CLUSTER = "On a cluster"


class Precision(enum.StrEnum):
    """Of a network's numbers."""

    auto = "auto"
    float32 = "float32"
    float16 = "float16"


def score(
    source: options.Source,
    model: Annotated[
        Path,
        typer.Option(metavar="MODEL", help="Folder of a saved model, or FILE.onnx of aift export."),
    ] = Path("model"),
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="For the Parquet files and _manifest.json.")
    ] = Path("scores"),
    best: Annotated[
        int, typer.Option("-b", "--best", min=0, metavar="N", help="Print the N highest scores.")
    ] = 10,
    embeddings: Annotated[
        bool, typer.Option("--embeddings", help="Write embeddings of the images too.")
    ] = False,
    shard_size: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Images of a file; what is lost at most where the run is killed. 16,384, or fewer "
            "where they are large.",
        ),
    ] = None,
    retry_broken: Annotated[
        bool,
        typer.Option(
            "--retry-broken",
            help="Score files anew in which there were images that could not be read.",
        ),
    ] = False,
    precision: Annotated[
        Precision,
        typer.Option(
            metavar="NAME",
            help="Of networks: float32, float16, or auto, which is float16 on a GPU; a table has "
            "one.",
        ),
    ] = Precision.auto,
    size: options.PoolSize = None,
    groups: options.FolderGroups = False,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            rich_help_panel=CLUSTER,
            help="Score by way of Ray: local, a Ray of its own on this machine; auto, the cluster "
            "that this machine is part of; or HOST:PORT.",
        ),
    ] = None,
    actors: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            rich_help_panel=CLUSTER,
            help="Processes that score; one for every GPU, or else every core, unless given.",
        ),
    ] = None,
    cpus: Annotated[
        float | None,
        typer.Option(
            min=0.0, metavar="CORES", rich_help_panel=CLUSTER, help="Of one of them: 0.75."
        ),
    ] = None,
    gpus: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            metavar="GPUS",
            rich_help_panel=CLUSTER,
            help="Of one of them: 1 where there are any.",
        ),
    ] = None,
    trusted: options.Trusted = None,
    quiet: options.Quiet = False,
) -> None:
    """Score every image of a pool, of any size, into a folder of Parquet files.

    A run that is stopped or killed goes on where it was when the same command is given again.

    Example: aift score images --model model --out scores
    """
    if ray is None and (actors, cpus, gpus) != (None, None, None):
        raise typer.BadParameter(
            "--actors, --cpus and --gpus are those of Ray; add --ray local, or leave them out."
        )
    announce(f"Scoring {source}.", quiet=quiet)
    with loading(quiet=quiet):
        from ..batch_scoring import score_pool
        from ..cluster import score_pool as score_on_ray
        from ..labelling.saved import open_scored
        from ..pools import open_sized
    found, taught = open_scored(model, size, trusted)
    pool = open_sized(source, verbose=not quiet, **(taught | options.of_groups(groups)))
    how: dict[str, Any] = {
        "embeddings": embeddings,
        "shard_size": shard_size,
        "retry_broken": retry_broken,
        "precision": precision.value,
        "verbose": int(not quiet),
    }
    if ray is None:
        table = score_pool(pool, found, out, **how)
    else:
        address = None if ray == "local" else ray
        table = score_on_ray(
            pool, found, out, address=address, actors=actors, num_cpus=cpus, num_gpus=gpus, **how
        )
    broken = table.broken()
    pool.broken.update(broken)
    n_scored = len(table) - len(broken)
    for name, value in (
        zip(*table.top(min(best, n_scored)), strict=True) if best and n_scored else ()
    ):
        typer.echo(f"{name}\t{value:.3f}")
    options.report_broken(pool)
    announce(f"{out}: {n_scored} scores in {table.n_shards} Parquet files.", quiet=quiet)
