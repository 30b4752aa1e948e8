"""The command `atlas`: a thin skin over the Python interface."""

from __future__ import annotations

import json
import re
import sys
import webbrowser
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from featviz.errors import UserError
from featviz.layers import infer_layout, layer_names, read
from featviz.models import DEFAULT_MODEL, load_model, model_names
from featviz.progress import bars
from featviz.superstimuli import Drawing

from . import class_commands
from .ald_folder import AldSettings, study_weights
from .build import build
from .exemplars import find_exemplars
from .explorer import join_books, read_book, viewer_page
from .options import (
    DebugOption,
    DeviceOption,
    IconOption,
    ImagesOption,
    JsonOption,
    ModelOption,
    OutOption,
    OverwriteOption,
    PerImageOption,
    QuietOption,
    ReducerOption,
    RelaxOption,
    SampleOption,
    SeedOption,
    StepsOption,
    WeightsOption,
    WorkersOption,
    numbers,
)
from .render import render_units
from .settings import Settings
from .unit import draw_card

app = typer.Typer(
    help="See what a vision network has learned.", no_args_is_help=True, rich_markup_mode="rich", add_completion=False
)

_DEFAULTS = Settings(layer="")
_DRAWING = Drawing()
_ALD = AldSettings()


@app.command("build")
def build_command(
    layer: Annotated[
        str | None, typer.Argument(help="Dotted name, as `atlas layers` lists them. Default: the model's own choice.")
    ] = None,
    model: ModelOption = DEFAULT_MODEL,
    weights: WeightsOption = None,
    images: ImagesOption = "photos",
    out: OutOption = Path("atlas-out"),
    overwrite: OverwriteOption = False,
    grid: Annotated[str, typer.Option("--grid", help="Cells per side; several with commas: 20,40.")] = ",".join(
        map(str, _DEFAULTS.grid)
    ),
    icon: IconOption = _DEFAULTS.icon,
    steps: StepsOption = _DEFAULTS.steps,
    samples: SampleOption = _DEFAULTS.samples,
    per_image: PerImageOption = _DEFAULTS.per_image,
    min_count: Annotated[
        int, typer.Option("--min-count", help="Cells with fewer activations stay empty.")
    ] = _DEFAULTS.min_count,
    reducer: ReducerOption = _DEFAULTS.reducer,
    attempts: Annotated[int, typer.Option("--attempts", help="Draw each icon so often, keep the best.")] = 1,
    effects: Annotated[
        bool, typer.Option(help="Work out each activation's effect on every class: labels, and analysis later.")
    ] = True,
    classes: Annotated[
        list[str] | None, typer.Option("--class", help="Show the atlas through this class, too: by effect.")
    ] = None,
    relax_pools: RelaxOption = False,
    tiles: Annotated[
        str, typer.Option("--tiles", help="What a cell shows: icons, photos (the nearest part of one), or both.")
    ] = _DEFAULTS.tiles,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Draw the activation atlas of a layer: what it represents, laid out by similarity.

    Samples activations over the images, lays them out with UMAP, averages them on grids and draws each cell's icon.
    OUT gets index.html, atlas.png, cells.json, icons/, store/ and, last of all, manifest.json.

    Example: atlas build blocks.5 --images my-photos --grid 20,40 --class tabby --out my-atlas
    """
    wanted = numbers(grid, "--grid")
    with bars(quiet=quiet) as progress:
        made = build(
            load_model(model, weights=weights, device=device),
            layer,
            images,
            out=out,
            overwrite=overwrite,
            workers=workers,
            progress=progress,
            grid=wanted,
            icon=icon,
            steps=steps,
            samples=samples,
            per_image=per_image,
            min_count=min_count,
            reducer=reducer,
            attempts=attempts,
            effects=effects,
            classes=classes or [],
            relax_pools=relax_pools,
            tiles=tiles,
            seed=seed,
        )
    if as_json:
        print(json.dumps({"out": str(out), **made.manifest}, indent=1))
    elif not quiet:
        skipped = made.manifest["images"]["skipped"]
        console = Console(stderr=True)
        for level, count in made.manifest["cells"].items():
            console.print(f"{count} of {level} x {level} cells drawn")
        if made.manifest["median_score"] is not None:
            console.print(f"median score {made.manifest['median_score']:.2f}")
        if skipped:
            console.print(
                f"{len(skipped)} image(s) skipped, see manifest.json; the first: {escape(skipped[0]['name'])}"
            )
        console.print(f"open {escape(str(out / 'index.html'))}")


# A unit may begin with a minus, which is otherwise the sign of an option.
@app.command("render", context_settings={"ignore_unknown_options": True})
def render_command(
    units: Annotated[
        list[str],
        typer.Argument(help="blocks.3:5, blocks.3:0-31,40, blocks.3:*, blocks.3:5@center, class:tabby"),
    ],
    model: ModelOption = DEFAULT_MODEL,
    weights: WeightsOption = None,
    images: Annotated[
        str | None, typer.Option("--images", help="Compare with a data set: gain over its maximum, percentile, dead.")
    ] = None,
    out: OutOption = Path("superstimuli-out"),
    overwrite: OverwriteOption = False,
    canvas: Annotated[
        str, typer.Option("--canvas", help="fourier, pixel, maco (natural spectrum) or cppn.")
    ] = _DRAWING.canvas,
    size: Annotated[
        int, typer.Option("--size", help="Pixels; 0: the network's input size for classes and neurons, else 128.")
    ] = _DRAWING.size,
    steps: Annotated[int, typer.Option("--steps", help="Optimisation steps.")] = _DRAWING.steps,
    lr: Annotated[float, typer.Option("--lr", help="Peak learning rate; 0: the canvas's own.")] = _DRAWING.lr,
    attempts: Annotated[int, typer.Option("--attempts", help="Draw each so often, keep the best.")] = 1,
    diversity: Annotated[int, typer.Option("--diversity", help="Pictures per unit, unlike each other.")] = 1,
    pairs: Annotated[bool, typer.Option("--pairs", help="Draw every unit's opposite beside it.")] = False,
    similarity: Annotated[
        str | None,
        typer.Option("--similarity", help="A network whose features tell how interpretable each pair is (MIS)."),
    ] = None,
    transparency: Annotated[
        str, typer.Option("--transparency", help="none; learned: drawn too; importance: what moved the unit is opaque.")
    ] = _DRAWING.transparency,
    start: Annotated[str, typer.Option("--start", help="An image file to begin at, instead of noise.")] = "",
    settle: Annotated[
        float, typer.Option("--settle", help="Last share of the steps without transforms: more gain, less robust.")
    ] = _DRAWING.settle,
    precision: Annotated[str, typer.Option("--precision", help="float32, or bfloat16: faster on a GPU.")] = "float32",
    compiled: Annotated[bool, typer.Option("--compile", help="torch.compile the network: pays on a GPU.")] = False,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Draw what excites units the most, each picture with evidence of how well it does.

    OUT gets a PNG per unit, superstimuli.png, units.json, index.html and, last of all, manifest.json. A unit's picture
    does not depend on what else is drawn. A leading - asks for what excites the opposite of a unit.

    Example: atlas render blocks.5:0-15 class:tabby -blocks.5:12 --images my-photos --out superstimuli
    """
    for unit in units:
        if unit.startswith("--"):
            raise typer.BadParameter(f"No such option: {unit}")
    drawing = Drawing(
        canvas=canvas,
        size=size,
        steps=steps,
        lr=lr,
        attempts=attempts,
        diversity=diversity,
        transparency=transparency,  # type: ignore[arg-type]  # checked by Drawing
        start=start,
        settle=settle,
        precision=precision,  # type: ignore[arg-type]  # checked by Trunk
        compiled=compiled,
        seed=seed,
    )
    with bars(quiet=quiet) as progress:
        certificates = render_units(
            load_model(model, weights=weights, device=device),
            units,
            out=out,
            images=images,
            drawing=drawing,
            pairs=pairs,
            similarity=similarity,
            overwrite=overwrite,
            workers=workers,
            progress=progress,
        )
    if as_json:
        print(json.dumps([asdict(certificate) for certificate in certificates], indent=1))
    elif not quiet:
        console = Console(stderr=True)
        gains = [certificate.gain for certificate in certificates if certificate.gain is not None]
        if gains:
            console.print(f"median gain over the data set's maximum {median(gains):.2f}")
        console.print(f"open {escape(str(out / 'index.html'))}")


@app.command("exemplars")
def exemplars_command(
    layers: Annotated[list[str], typer.Argument(help="Dotted names or globs; output is the classes' logits.")],
    model: ModelOption = DEFAULT_MODEL,
    weights: WeightsOption = None,
    images: ImagesOption = "photos",
    out: OutOption = Path("exemplars-out"),
    overwrite: OverwriteOption = False,
    k: Annotated[int, typer.Option("-k", help="Strongest and weakest images of each unit.")] = 9,
    reduce: Annotated[str, typer.Option("--reduce", help="What a channel's map counts for: max or mean.")] = "max",
    diverse: Annotated[
        str, typer.Option("--diverse", help="Pass over near-duplicates (images), or all but one of a class (classes).")
    ] = "no",
    per_class: Annotated[
        int, typer.Option("--per-class", help="Also each class's strongest so many images: classes.json.")
    ] = 0,
    units: Annotated[
        list[str] | None, typer.Option("--units", help="Units with a sheet of their own, such as blocks.5:0-9.")
    ] = None,
    matrix: Annotated[
        bool, typer.Option("--matrix", help="Keep every unit's value on every image: matrix/, for search.open_matrix.")
    ] = False,
    part: Annotated[
        str, typer.Option("--part", help="2/3: the second third of the images alone; search.load_exemplars joins them.")
    ] = "1/1",
    parquet: Annotated[
        bool, typer.Option("--parquet", help="Also exemplars.parquet and statistics.parquet (extra: parquet).")
    ] = False,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Find the images that excite every unit of layers the most, and where in them, in one pass.

    LAYERS may be directions too: blocks.5:pca.npy, a file of vectors (n, channels). OUT gets exemplars.json,
    weakest.json, quantiles.json (ordinary images), statistics.json, a sheet per layer and per unit asked for,
    index.html and, last of all, manifest.json.

    Example: atlas exemplars blocks.3 blocks.5 --images my-photos --units blocks.5:0-9 --out exemplars
    """
    with bars(quiet=quiet) as progress:
        manifest = find_exemplars(
            load_model(model, weights=weights, device=device),
            layers,
            out=out,
            images=images,
            k=k,
            reduce=reduce,  # type: ignore[arg-type]  # checked there
            diverse=diverse,  # type: ignore[arg-type]  # likewise
            per_class=per_class,
            matrix=matrix,
            parquet=parquet,
            part=_part(part),
            units=units or [],
            overwrite=overwrite,
            workers=workers,
            progress=progress,
        )
    if as_json:
        print(json.dumps(manifest, indent=1))
    elif not quiet:
        console = Console(stderr=True)
        for note in manifest["images"]["notes"]:
            console.print(escape(note))
        console.print(f"open {escape(str(out / 'index.html'))}")


@app.command("unit", context_settings={"ignore_unknown_options": True})
def unit_command(
    unit: Annotated[str, typer.Argument(help="blocks.5:12, blocks.5:12@center, class:tabby, -blocks.5:12")],
    model: ModelOption = DEFAULT_MODEL,
    weights: WeightsOption = None,
    images: ImagesOption = "photos",
    out: OutOption = Path("unit-out"),
    overwrite: OverwriteOption = False,
    k: Annotated[int, typer.Option("--exemplars", help="Strongest and weakest images; nine fit on the card.")] = 9,
    steps: Annotated[int, typer.Option("--steps", help="Optimisation steps of the superstimuli.")] = _DRAWING.steps,
    similarity: Annotated[
        str | None, typer.Option("--similarity", help="Network whose features judge how interpretable the unit is.")
    ] = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Show on one card what one unit responds to.

    Its superstimulus and that of its opposite, its strongest and weakest images and where in them, how its values are
    distributed, the class it prefers against chance, its tuning to synthetic stimuli, the channels that go with it.

    Example: atlas unit blocks.5:12 --images my-photos --out unit-12
    """
    if unit.startswith("--"):
        raise typer.BadParameter(f"No such option: {unit}")
    with bars(quiet=quiet) as progress:
        draw_card(
            load_model(model, weights=weights, device=device),
            unit,
            out=out,
            images=images,
            drawing=Drawing(steps=steps, seed=seed),
            k=k,
            similarity=similarity,
            overwrite=overwrite,
            workers=workers,
            progress=progress,
        )
    if as_json:
        print((out / "card.json").read_text(encoding="utf-8"), end="")
    elif not quiet:
        Console(stderr=True).print(f"open {escape(str(out / 'index.html'))}")


@app.command("ald")
def ald_command(
    classes: Annotated[list[str], typer.Argument(help="Names or indices of classes; `all`; `report`: all, and tests.")],
    model: ModelOption = DEFAULT_MODEL,
    weights: WeightsOption = None,
    image: Annotated[Path | None, typer.Option("--image", help="Show each node of the trees on this image.")] = None,
    images: Annotated[
        str | None, typer.Option("--images", help="Labelled images for `report` (else photos), and for neurons.")
    ] = None,
    out: OutOption = Path("ald-out"),
    overwrite: OverwriteOption = False,
    full: Annotated[bool, typer.Option("--full", help="Every branch of the tree, not the pure chains alone.")] = False,
    neurons: Annotated[
        bool, typer.Option(help="Without an image: draw what excites each terminal neuron the most.")
    ] = True,
    bootstrap: Annotated[
        int, typer.Option("--bootstrap", help="Samples behind a p-value; 0 for none.")
    ] = _ALD.bootstrap,
    against: Annotated[
        list[str] | None, typer.Option("--against", help="Other networks to set the fits beside.")
    ] = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Study the final layer's weights: their distribution, and the split into discriminative and confusing features.

    OUT gets ald.json (of the classes, or of all), figures, a tree per class, index.html with a conclusion in plain
    words and, last of all, manifest.json. `report` also tests on labelled images whether terminal features matter.

    Example: atlas ald tabby --image cat.jpg --out tabby; atlas ald report --images my-labelled-photos --out report
    """
    with bars(quiet=quiet) as progress:
        manifest = study_weights(
            load_model(model, weights=weights, device=device),
            classes,
            out=out,
            image=image,
            images=images,
            settings=AldSettings(full, bootstrap, tuple(against or ()), neurons, seed=seed),
            overwrite=overwrite,
            workers=workers,
            progress=progress,
        )
    if as_json:
        print(json.dumps(manifest, indent=1))
    elif not quiet:
        console = Console(stderr=True, soft_wrap=True)
        for line in manifest["conclusion"]:
            console.print(f"- {escape(line)}", highlight=False)
        console.print(f"open {escape(str(out / 'index.html'))}")


@app.command("open")
def open_command(
    folders: Annotated[list[Path], typer.Argument(help="Folders that commands of this program wrote.")],
    together: Annotated[
        Path, typer.Option("--together", help="Of several folders: the page of all their maps that is written.")
    ] = Path("together.html"),
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Open a folder's page in the browser; of several atlases, one page with all of their maps.

    Example: atlas open atlas-blocks.3 atlas-blocks.5 --together both.html
    """
    pages = [folder / "index.html" for folder in folders]
    for page in pages:
        if not page.is_file():
            raise UserError(f"{str(page.parent)!r} holds no page (no index.html): what writes it has not finished.")
    page = pages[0]
    if len(pages) > 1:
        book = join_books([read_book(each) for each in pages], title=", ".join(folder.name for folder in folders))
        together.write_text(viewer_page(book), encoding="utf-8")
        page = together
    if not quiet:
        Console(stderr=True).print(f"opening {escape(str(page))}")
    webbrowser.open(page.resolve().as_uri())


@app.command("models")
def models_command(
    pattern: Annotated[str, typer.Argument(help="Show names that contain this.")] = "", as_json: JsonOption = False
) -> None:
    """List the networks that --model takes.

    Example: atlas models resnet50
    """
    names = [name for name in model_names() if pattern.lower() in name.lower()]
    print(json.dumps(names) if as_json else "\n".join(names))


@app.command("layers")
def layers_command(
    model: Annotated[str, typer.Argument(help="A name that `atlas models` lists.")] = DEFAULT_MODEL,
    weights: WeightsOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """List a network's layers: name, kind, channels and map size for its own input size.

    Example: atlas layers efficientnet_lite0
    """
    rows = _layer_table(model, weights)
    if as_json:
        print(json.dumps(rows))
        return
    table = Table("layer", "kind", "channels", "map")
    for row in rows:
        place = f"{row['rows']} x {row['columns']}" if row["channels"] else ""
        table.add_row(row["layer"], row["kind"], str(row["channels"] or ""), place)
    Console().print(table)


def _layer_table(name: str, weights: Path | None) -> list[dict[str, Any]]:
    import torch

    model = load_model(name, weights=weights, device="cpu")
    height, width = model.preprocess.size
    names = layer_names(model.network)
    with torch.inference_mode(), read(model.network.eval(), names) as outputs:
        model.network(torch.zeros(1, model.preprocess.channels, height, width))
    rows = []
    for layer, module in list(model.network.named_modules())[1:]:
        row: dict[str, Any] = {"layer": layer, "kind": type(module).__name__, "channels": None}
        if layer in outputs:
            try:
                layout = infer_layout(model.network, layer, outputs[layer], batch=1, size=(height, width))
                _, row["channels"], row["rows"], row["columns"] = layout.maps(outputs[layer]).shape
            except UserError:
                pass
        rows.append(row)
    return rows


def _part(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match:
        raise UserError(f"--part takes a part such as 2/3, the second of three; got {text!r}.")
    return (int(match[1]), int(match[2]))


class_commands.register(app)


def main() -> None:
    """Run the command: exit code 0 done, 1 failed (told in one paragraph), 2 wrong use of the command line."""
    debug = "--debug" in sys.argv
    try:
        app(standalone_mode=True)
    except UserError as error:
        if debug:
            raise
        Console(stderr=True, soft_wrap=True).print(f"[bold red]error:[/] {escape(str(error))}", highlight=False)
        sys.exit(1)
    except KeyboardInterrupt:
        Console(stderr=True).print("stopped; the same command goes on from here")
        sys.exit(130)
