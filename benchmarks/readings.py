"""Each benchmark's JSON -> tables, what the contenders did, and who wins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from common import OURS
from verdicts import US, Reading, Verdict, faster, higher, said

Figures = Mapping[str, Any]


def is_ours(name: str) -> bool:
    """Whether a contender is ours: its name begins so."""
    return name == OURS or name.startswith(f"{OURS},")


def peers(rows: Mapping[str, Any], key: Callable[[Any], float]) -> dict[str, float]:
    """A figure of every contender that is not ours."""
    return {name: key(row) for name, row in rows.items() if not is_ours(name)}


def apart(difference: float) -> str:
    """A largest difference."""
    return f"{difference:.0e}" if difference else "0"


def icons(figures: Figures) -> list[Reading]:
    """Channels beside lucent's, directions beside dreamlens's."""
    did = {
        "torch-lucent": (
            "ours: `maximize`, its network copied and prepared and its result scored within the time.",
            "lucent: `render_vis`, its default transforms, canvas and optimiser, cropped to the same size; channel by "
            "channel, in one batch, resized instead of cropped, and with frozen weights (helped).",
        ),
        "dreamlens": (
            "ours: `draw_icons`.",
            "dreamlens: `render_icons`, one attempt; helped: frozen weights and directions as long as its score wants.",
        ),
    }
    readings = []
    for found, peer in zip(figures["comparisons"], did, strict=True):
        rows = found["rows"]
        table = [
            (name, f"{row['ms']:.1f}", f"{1 / row['ours_over_this']:.2f}", f"{row['score_median']:.2f}")
            for name, row in rows.items()
        ]
        verdicts = (
            faster(f"{found['title']}, time", rows[OURS]["ms"], peers(rows, lambda row: row["ms"])),
            higher(
                f"{found['title']}, score", rows[OURS]["score_median"], peers(rows, lambda row: row["score_median"])
            ),
        )
        headings = ("", "ms per icon and step", "times ours", f"median {found['score']}")
        title = f"{found['title']}, {found['steps']} steps"
        readings.append(Reading(title, headings, table, did[peer], verdicts if len(rows) > 1 else ()))
    return readings


def superstimuli(figures: Figures) -> list[Reading]:
    """Pace, the time to the same activation, and classes."""
    pace, goal, classes = figures["pace"], figures["goal"], figures["classes"]
    speed = Reading(
        "Pace: channels of blocks.3, 128 px",
        ("", "ms per icon and step", "times ours"),
        [(name, f"{row['ms']:.1f}", f"{row['times_ours']:.2f}") for name, row in pace.items()],
        ("ours: `maximize`.", "lucent: `render_vis`, channel by channel and in one batch."),
        (faster("superstimuli, pace", pace[OURS]["ms"], peers(pace, lambda row: row["ms"])),),
    )
    reached = Reading(
        "Goal: seconds to the same activation",
        ("", "steps", "seconds", "mean activation, over robust views", "clean"),
        [
            (name, str(row["steps"]), f"{row['seconds']:.1f}", f"{row['over_views']:.1f}", f"{row['mean']:.1f}")
            for name, row in goal.items()
        ],
        ("ours: fewer steps than the default.", "lucent: its default number of steps in one batch."),
        [arrived(goal, key, label) for key, label in (("over_views", "over views"), ("mean", "clean"))],
    )
    first = ", ".join(f"{count} of {classes['classes']} first in {name}" for name, count in classes["first"].items())
    told = Reading(
        "Classes",
        ("pictures of classes, saved", ""),
        [("steps", str(classes["steps"])), ("named", first), ("burnt-out values", f"{classes['saturated']:.1%}")],
        notes=("The second network did not take part in drawing. No peer takes part.",),
    )
    return [speed, reached, told]


def arrived(goal: Mapping[str, Any], key: str, label: str) -> Verdict:
    """Which is sooner at what the peer reaches, within two hundredths."""
    subject = f"superstimuli, seconds to the same activation ({label})"
    theirs = peers(goal, lambda row: row["seconds"])
    if not theirs:
        return faster(subject, 1.0, {})
    name = min(theirs, key=lambda peer: theirs[peer])
    enough = {
        each: row["seconds"] for each, row in goal.items() if is_ours(each) and row[key] >= 0.98 * goal[name][key]
    }
    if not enough:
        sentence = f"{subject}: {said(name)} wins, {US} does not get there in the steps it was given."
        return Verdict(subject, said(name), "the only one to get there", sentence)
    return faster(subject, min(enough.values()), {name: theirs[name]})


def atlases(figures: Figures) -> list[Reading]:
    """A whole atlas beside dreamlens's."""
    rows, task = figures["rows"], figures["task"]
    table = [
        (
            name,
            *(f"{row['seconds'][stage]:.1f}" for stage in ("all", "sample", "layout", "icons")),
            f"{row['first_layout']:.1f}",
            str(row["icons"]),
            f"{row['ms_per_icon_and_step']:.1f}",
            *(f"{row['median_score'][label]:.2f}" for label in ("whitened", "plain")),
        )
        for name, row in rows.items()
    ]
    ours = rows[OURS]
    return [
        Reading(
            f"An atlas of {task['layer']}: {ours['vectors']} vectors of {task['count']} images, {task['grid']} × "
            f"{task['grid']} cells, {task['icon']} px, {task['steps']} steps",
            ("", "s", "sample", "layout", "icons", "a process's first layout", "icons drawn", "ms per icon and step",
             "median cosine, whitened", "plain"),
            table,
            ("ours: `atlas.build` without effects on classes.",
             "dreamlens: `collect_activations` over all positions, of which as many are kept, and `activation_atlas`; "
             "helped: frozen weights, our settings of UMAP, whitened means as long as its score wants."),
            (
                faster("atlas, start to end", ours["seconds"]["all"], peers(rows, lambda row: row["seconds"]["all"])),
                faster("atlas, per icon and step", ours["ms_per_icon_and_step"],
                       peers(rows, lambda row: row["ms_per_icon_and_step"])),
                *(higher(f"atlas, icon and {label} mean", ours["median_score"][label],
                         peers(rows, lambda row, label=label: row["median_score"][label]))
                  for label in ("whitened", "plain")),
            ),
            ("Cells and so the number of icons follow from each one's layout. The cosine is that of the icon's own "
             "activation with the mean of its cell; dreamlens draws plain means unless it is helped.",),
        )
    ]  # fmt: skip


def exemplars(figures: Figures) -> list[Reading]:
    """A pass over images beside a bare loop, the usual one and zennit-crp."""
    rows = {name: row["ms per image"] for name, row in figures["figures"].items()}
    five = {name for name in rows if "five layers" in name}
    others = {name: ms for name, ms in rows.items() if not is_ours(name) and not name.startswith("bare")}
    table = [
        (name, f"{ms:.1f}", f"{ms / rows['bare, five layers' if name in five else 'bare, one layer']:.2f}")
        for name, ms in rows.items()
    ]
    return [
        Reading(
            f"Strongest images of every channel, {figures['images']} images",
            ("", "ms per image", "times the bare loop"),
            table,
            ("bare: decodes, and forwards through the same prepared network.",
             "ours: `search.exemplars`: strongest, weakest, positions, statistics, receptive fields (all); the same "
             "without what does not grow with the images (the pass).",
             "everybody's: the network as it comes, batches of 32, maxima kept and sorted.",
             "zennit-crp: its FeatureVisualization on the same layer, relevance and all, on fewer images."),
            (faster("exemplars of one layer, all", rows["ours, one layer, all"], others),),
        )
    ]  # fmt: skip


def exactness(figures: Figures) -> list[Reading]:
    """Against sorting everything."""
    rows = [
        (name, str(case["rankings that differ"]), apart(case["largest difference of a value"]))
        for name, case in figures["cases"].items()
    ]
    note = "The twin keeps the full matrix and sorts it with Python's own sort. No peer takes part."
    title = f"Rankings of {figures['images']} images that differ from sorting everything"
    return [Reading(title, ("", "rankings that differ", "largest difference of a value"), rows, notes=(note,))]


def attributions(figures: Figures) -> list[Reading]:
    """A table of all methods, a verdict for each."""
    table, verdicts = [], []
    for method, rows in figures["methods"].items():
        for name, row in rows.items():
            far = row["largest_difference"]
            gap = "own noise" if far is None else apart(far)
            table.append((method, name, f"{row['ms']:.0f}", f"{row['times_ours']:.2f}", gap))
        theirs = peers(rows, lambda row: row["ms"])
        verdicts.append(faster(f"{method}, as called", rows[OURS]["ms"], theirs))
        verdicts.append(faster(f"{method}, target kept", rows[f"{OURS}, target kept"]["ms"], theirs))
    relu6 = figures["captum_guided_on_relu6_from_plain"]
    notes = ["torchcam's GradCAMpp (0.5) divides a copy of its weights, and so not at all: hence another map."]
    if relu6 is not None:
        does = "is the plain derivative" if relu6 < 1e-6 else f"differs from the plain derivative by {relu6:.0e}"
        notes.append(f"On Lite0 with its own ReLU6, captum's guided backpropagation {does}.")
    return [
        Reading(
            f"Maps for the class put first; images: {figures['images']}",
            ("method", "", "ms per image", "times ours", "largest difference"),
            table,
            (f"all: occluding squares of {figures['window']} pixels, {figures['steps']} steps of integrated gradients; "
             "guided and deconv on Lite0 with ReLU in the place of ReLU6.",
             "ours: `attribute`, which prepares the network for every image; target kept: prepared before.",
             "captum: as many windows or steps in a pass as ours; one by one: as it comes; helped: frozen weights, "
             "channels_last.",
             "torchcam: an extractor for every image, maps not normalised."),
            verdicts,
            notes,
        )
    ]  # fmt: skip


def effects(figures: Figures) -> list[Reading]:
    """Effects measured beside the derivative that estimates them."""
    rows = [
        (layer, f"{row['ours, ms an image']:.0f}", f"{row['forwards']:.1f}", f"{row['derivative, ms an image']:.0f}",
         f"{row['derivative right']:.0%}")
        for layer, row in figures["layers"].items()
    ]  # fmt: skip
    verdicts = [
        faster(f"effects on all classes, {layer}", row["ours, ms an image"],
               {"the derivative in forward mode": row["derivative, ms an image"]})
        for layer, row in figures["layers"].items()
    ]  # fmt: skip
    headings = ("", "ms per image", "forward passes", "derivative, ms per image", "derivative right")
    note = (
        f"right: the class that the derivative names first is among the {figures['among']} that change most, of "
        f"{figures['images']} images; chance is {figures['among'] / 1000:.1%}"
    )
    return [Reading("Effects of an activation on all 1000 classes", headings, rows, (note,), verdicts)]


def ald(figures: Figures) -> list[Reading]:
    """All classes at once beside a notebook's loop."""
    seconds = figures["seconds"]
    differ = sum(figures[key] for key in ("terminal sets that differ", "depths that differ"))
    note = f"Results that differ: {differ}; of R², by {figures['largest difference of R2']:.0e} at most."
    verdict = faster("fits and splits of weights", seconds["ours"], {"a notebook's loop": seconds["twin"]})
    rows = [(name, f"{value:.2f}") for name, value in seconds.items()]
    title = f"Fits and splits of the final layer, {figures['classes']} classes"
    return [Reading(title, ("", "seconds"), rows, ("twin: the same class by class.",), (verdict,), (note,))]


def explorer(figures: Figures) -> list[Reading]:
    """Bytes and frames."""
    frames = ", ".join(f"{value:.0f} at {side} × {side}" for side, value in figures[
        "frames_per_second_while_panning"].items())  # fmt: skip
    rows = [
        ("megabytes of the page", f"{figures['megabytes']:.1f}"),
        ("seconds until a click is answered", f"{figures['seconds_until_a_click_is_answered']:.1f}"),
        ("frames per second while panning", frames),
        ("icons in view at 80 × 80", str(figures["icons_in_view_at_80"])),
    ]
    return [Reading("The explorer", ("", ""), rows, notes=("No peer opens from a file without a network.",))]


def batches(figures: Figures) -> list[Reading]:
    """Milliseconds by size of batch."""
    readings = []
    for part in ("drawing", "scanning"):
        columns = figures[part]
        sizes = list(next(iter(columns.values())))
        rows = [(size, *(f"{column[size]:.1f}" for column in columns.values())) for size in sizes]
        unit = "picture and step" if part == "drawing" else "image"
        readings.append(Reading(f"{part.capitalize()}: ms per {unit} by batch", ("batch", *columns), rows))
    return readings


def scaling(figures: Figures) -> list[Reading]:
    """Two workers beside one."""
    seconds = figures["seconds"]
    rows = [
        (
            what,
            f"{seconds[f'1 workers{kind}']:.1f}",
            f"{seconds[f'2 workers{kind}']:.1f}",
            f"{figures[f'two of one{kind}']:.2f}",
        )
        for what, kind in (("the scan", ""), ("with the start of Ray and of the workers", ", from nothing"))
    ]
    same = "the same" if figures["same"] else "NOT the same"
    note = f"Ray on one machine, a thread for each worker; what they find is {same} as without Ray. No peer takes part."
    title = f"A scan of {figures['images']} images by two workers and by one"
    return [Reading(title, ("seconds", "one worker", "two workers", "two of one"), rows, notes=(note,))]


def large(figures: Figures) -> list[Reading]:
    """Memory, and how true the remaining times are."""
    rows = [
        (
            stage,
            f"{row['seconds']:.1f}",
            str(row["estimates"]),
            "" if row["worst miss"] is None else f"{row['worst miss']:.0%}",
            "" if row["within tolerance"] is None else f"{row['within tolerance']:.1%}",
        )
        for stage, row in figures["stages"].items()
    ]
    notes = (
        f"Killed with SIGKILL after {figures['killed at']:,} images and started again, which then took "
        f"{figures['seconds']:.0f} s, {figures['seconds without a bar']:.0f} s of them without a bar. At most "
        f"{figures['peak MB']:,} MB were resident over all processes. No peer takes part.",
    )
    title = f"An atlas of {figures['vectors']:,} vectors of {figures['images']:,} images: remaining times told"
    headings = ("stage", "seconds", "times told", "furthest off", "within 20 %")
    return [Reading(title, headings, rows, notes=notes)]


def gpu(figures: Figures) -> list[Reading]:
    """Shares of the bare passes."""
    rows = [
        (precision, unit, name, f"{row['per_second']:.4g}", f"{row['share_of_bare']:.2f}")
        for precision, parts in figures["precisions"].items()
        for unit in ("images", "icons")
        for name, row in parts[unit].items()
    ]
    did = (
        "bare: the same prepared network on images that are on the device; forward for images, for icons as many "
        f"forward and backward passes as {figures['task']['steps']} steps take.",
        "consumer: with a record of every channel behind it; scan: `search.scan`, from images in memory.",
    )
    headings = ("precision", "unit", "", "per second", "share of bare")
    return [Reading(f"On {figures['device']}", headings, rows, did)]


READINGS: Mapping[str, Callable[[Figures], list[Reading]]] = {
    "icons": icons,
    "superstimuli": superstimuli,
    "atlases": atlases,
    "exemplars": exemplars,
    "exactness": exactness,
    "attributions": attributions,
    "effects": effects,
    "ald": ald,
    "explorer": explorer,
    "batches": batches,
    "scaling": scaling,
    "large": large,
    "gpu": gpu,
}
