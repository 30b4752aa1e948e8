// The page: a map to move around in, and a panel that tells about a cell.

const HELP = [
  ["drag, arrow keys with Shift", "move"], ["wheel, pinch, + and -", "nearer and farther"], ["0 or Home", "all of it"],
  ["arrow keys", "from cell to cell"], ["click, Enter", "keep a cell in the panel"], ["Escape", "let go"],
  ["/", "search a class"], ["[ and ]", "another map of this page"], ["?", "this help"],
];
const START = { map: 0, beside: null, level: null, cell: null, class: null, sign: 1, strength: 1, plain: false, labels: true };

export function render({ model, el }) {
  el.classList.add("aa");
  if (model.get("manifest").format > FORMAT) {
    el.dataset.drawn = "1";
    el.replaceChildren(element("p", { class: "aa-notice" }, "This page holds an atlas of a later version than its viewer can read: make it again with one version of activation-atlas."));
    return () => {};
  }
  const book = new Book(model);
  book.thumbs = [];
  const state = { ...START };
  const camera = new Camera();
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  let hovered = null; // {map, level, cell}
  let values = new Map(); // level -> effects on the class of the filter
  let shown = null; // the level drawn, and the one it takes over from
  let before = null;
  let since = 0;
  let wanted = false;
  let last = "";

  // The page's parts.
  const canvas = element("canvas", { class: "aa-map", tabindex: "0", role: "application", "aria-label": `${book.title}. Arrow keys move between cells, Enter keeps one, question mark shows help.` });
  const context = canvas.getContext("2d");
  const minimap = element("canvas", { class: "aa-mini", width: 240, height: 240, "aria-hidden": "true" });
  const panel = element("section", { class: "aa-panel", "aria-label": "cell", tabindex: "-1" });
  const live = element("p", { class: "aa-live", "aria-live": "polite" });
  const help = element("dialog", { class: "aa-help", "aria-label": "help" }, element("h2", {}, "Keys"),
    element("dl", {}, ...HELP.flatMap(([key, does]) => [element("dt", {}, key), element("dd", {}, does)])),
    element("form", { method: "dialog" }, element("button", { class: "aa-button" }, "Close")));
  const search = classSearch(book, (label) => filterBy(label));
  const button = (text, name, act) => element("button", { type: "button", class: "aa-button", title: name, "aria-label": text.length > 1 ? null : name, onclick: act }, text);
  const sign = element("button", { type: "button", class: "aa-button", "aria-label": "for or against", title: "for or against", onclick: () => change({ sign: -state.sign }) }, "for");
  const strength = element("input", { type: "range", min: "0.25", max: "4", step: "0.05", value: "1", "aria-label": "intensity of the filter", title: "intensity", oninput: () => change({ strength: Number(strength.value) }, false) });
  const filterOptions = element("span", { class: "aa-filter", hidden: true }, sign, strength);
  const levels = element("select", { "aria-label": "grid", title: "grid", onchange: () => change({ level: levels.value === "auto" ? null : Number(levels.value) }) });
  const maps = element("div", { class: "aa-maps", role: "group", "aria-label": "maps" });
  const beside = element("select", { "aria-label": "beside it", title: "another map beside it", hidden: book.maps.length < 2, onchange: () => change({ beside: beside.value === "" ? null : Number(beside.value) }) },
    element("option", { value: "" }, "alone"), ...book.maps.map((map, number) => element("option", { value: number }, `beside ${map.name}`)));
  const tick = (field, text, tip) => {
    const box = element("input", { type: "checkbox", onchange: () => change({ [field]: box.checked }) });
    return [box, element("label", { class: "aa-tick", title: tip }, box, text)];
  };
  const [plain, plainLabel] = tick("plain", "equal size", "icons of equal size, whatever their number of activations");
  const [labels, labelsLabel] = tick("labels", "labels", "the class that each cell speaks for the most");
  const link = button("Copy link", "copy a link to what you see", copyLink);
  const bar = element("div", { class: "aa-bar-top" },
    book.classes.length ? element("span", { class: "aa-search" }, search.input, search.list) : "", filterOptions, levels, beside, plainLabel, labelsLabel,
    element("span", { class: "aa-gap" }), button("−", "farther", () => zoom(1 / 1.5)), button("+", "nearer", () => zoom(1.5)), button("All", "show all of it", home),
    link, button("PNG", "save what you see as a picture", savePicture), button("?", "help", () => help.showModal()));
  const stage = element("div", { class: "aa-stage" }, canvas, minimap);
  el.replaceChildren(element("header", { class: "aa-head" }, element("h1", {}, book.title), maps, bar), stage, panel, live, help);
  book.maps.forEach((map, number) => maps.append(mapButton(map, number)));
  maps.hidden = book.maps.length < 2;

  function mapButton(map, number) {
    const made = element("button", { type: "button", class: "aa-map-button", "aria-pressed": "false", onclick: () => change({ map: number, cell: null, level: null }) });
    made.append(iconOf(map), element("span", {}, map.name));
    return made;
  }

  // A thumbnail: the coarsest level, small.
  function iconOf(map) {
    const small = element("canvas", { width: 96, height: 96, class: "aa-thumb", "aria-hidden": "true" });
    const draw = () => drawWhole(small, map, draw);
    draw();
    return small;
  }

  function drawWhole(target, map, ready) {
    const seen = new Camera();
    Object.assign(seen, { width: target.width, height: target.height, zoom: 1 / 0.94 });
    const pen = target.getContext("2d");
    pen.clearRect(0, 0, target.width, target.height);
    drawLevel({ level: map.levels[0], camera: seen, context: pen, colors: colors(), ready, filter: null, labels: false });
  }

  const map = () => book.maps[state.map];
  const level = () => map().levels.find((each) => each.grid === state.level) ?? camera.level(map().levels);
  const pinned = () => (state.cell === null ? null : cellOf(map(), state.cell));

  function cellOf(where, key) {
    const [grid, row, col] = key.split("/").map(Number);
    const found = where.levels.find((each) => each.grid === grid);
    const cell = found ? found.at(row, col) : -1;
    return cell < 0 ? null : { level: found, cell };
  }

  function colors() {
    const style = getComputedStyle(el);
    return { ink: style.getPropertyValue("--ink").trim(), empty: style.getPropertyValue("--empty").trim(), mark: style.getPropertyValue("--mark").trim(), paper: style.getPropertyValue("--paper").trim() };
  }

  // A change of the state: shown, told in the address, and with `step` gone back on by the back button.
  function change(more, step = true) {
    Object.assign(state, more);
    if (!book.maps[state.map]) state.map = 0;
    if (state.beside !== null && !book.maps[state.beside]) state.beside = null;
    if (state.cell !== null && !pinned()) state.cell = null;
    if (state.class !== null && !(state.class >= 0 && state.class < book.classes.length)) state.class = null;
    refresh();
    remember(step);
  }

  function remember(step) {
    const address = toAddress({ ...state, x: camera.x, y: camera.y, zoom: camera.zoom });
    if (address === last) return;
    last = address;
    model.set?.("view", address);
    model.set?.("selected_cell", state.cell);
    model.save_changes?.();
    try {
      history[step ? "pushState" : "replaceState"](null, "", address);
    } catch {
      // In a frame without an address of its own there is none to keep.
    }
  }

  let later = 0;
  const rememberSoon = () => { clearTimeout(later); later = setTimeout(() => remember(false), 200); };

  function refresh() {
    search.set(state.class);
    filterOptions.hidden = state.class === null;
    sign.textContent = state.sign > 0 ? "for" : "against";
    strength.value = state.strength;
    levels.replaceChildren(element("option", { value: "auto" }, "grid by zoom"), ...map().levels.map((each) => element("option", { value: each.grid }, `${each.grid} × ${each.grid}`)));
    levels.value = state.level ?? "auto";
    beside.value = state.beside ?? "";
    plain.checked = state.plain;
    labels.checked = state.labels;
    [...maps.children].forEach((each, number) => each.setAttribute("aria-pressed", String(number === state.map)));
    loadValues();
    tell();
    draw();
  }

  async function loadValues() {
    if (state.class === null) { values = new Map(); return; }
    const label = state.class;
    const all = [state.map, state.beside].filter((each) => each !== null).flatMap((each) => book.maps[each].levels);
    const found = new Map(await Promise.all(all.map(async (each) => [each, await each.values(label)])));
    if (label !== state.class) return;
    values = found;
    draw();
  }

  // How opaque a cell is under the filter.
  function opacity(where, cell) {
    const known = values.get(where);
    if (!known) return 1;
    known.most ??= Math.max(1e-9, known.reduce((most, value) => Math.max(most, Math.abs(value)), 0));
    return Math.max(0, Math.min(1, ((state.sign * known[cell]) / known.most) * state.strength));
  }

  // The parts of the stage: one map, or two side by side under one camera.
  function views() {
    const shownMaps = [state.map, state.beside].filter((each) => each !== null).map((each) => book.maps[each]);
    return shownMaps.map((each, place) => ({ map: each, shift: place * camera.width }));
  }

  function draw() {
    if (wanted) return;
    wanted = true;
    requestAnimationFrame(paint);
  }

  function paint(now) {
    wanted = false;
    const ratio = devicePixelRatio || 1;
    const [wide, high] = [stage.clientWidth, stage.clientHeight];
    if (canvas.width !== Math.round(wide * ratio) || canvas.height !== Math.round(high * ratio)) {
      canvas.width = Math.round(wide * ratio);
      canvas.height = Math.round(high * ratio);
    }
    camera.width = wide / views().length;
    camera.height = high;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, wide, high);
    const wantedLevel = level();
    if (wantedLevel !== shown) {
      before = shown && shown.map === wantedLevel.map ? shown : null;
      shown = wantedLevel;
      since = now;
      tell();
    }
    const part = still || !before ? 1 : Math.min(1, (now - since) / 180);
    const shades = colors();
    for (const { map: each, shift } of views()) {
      const own = each.levels.find((one) => one.grid === shown.grid) ?? camera.level(each.levels);
      context.save();
      context.beginPath();
      context.rect(shift, 0, camera.width, camera.height);
      context.clip();
      const common = { camera, context, colors: shades, shift, ready: draw, plain: state.plain, filter: state.class === null ? null : opacity, labels: state.labels };
      if (part < 1 && each === before?.map) drawLevel({ ...common, level: before, labels: false });
      drawLevel({ ...common, level: own, opacity: part });
      if (each.ends) drawEnds(common, each.ends);
      const kept = state.cell === null ? null : cellOf(each, state.cell);
      if (hovered && hovered.level.grid === own.grid) {
        const cell = own.at(hovered.level.row[hovered.cell], hovered.level.col[hovered.cell]);
        if (cell >= 0) outline(common, own, cell, shades.ink, 2);
      }
      if (kept) outline(common, kept.level, kept.cell, shades.mark, 3);
      context.restore();
    }
    drawMinimap(shades);
    el.dataset.drawn = String(Number(el.dataset.drawn ?? 0) + 1);
    el.dataset.level = String(shown.grid);
    if (part < 1) draw();
  }

  function drawMinimap(shades) {
    const all = camera.side <= Math.min(camera.width, camera.height);
    minimap.hidden = all;
    if (all) return;
    drawWhole(minimap, map(), draw);
    const pen = minimap.getContext("2d");
    const [left, top] = camera.toAtlas(0, 0).map((place) => place * 240);
    const [right, bottom] = camera.toAtlas(camera.width, camera.height).map((place) => place * 240);
    pen.lineWidth = 5;
    pen.strokeStyle = shades.mark;
    pen.strokeRect(left, top, right - left, bottom - top);
  }

  // What the panel and those who hear the page are told.
  function tell() {
    const kept = pinned();
    const about = kept ?? hovered;
    if (about) {
      panel.replaceChildren(...cellPanel({ book, ...about, pinned: Boolean(kept), go: (cell) => { pin(about.level, cell); canvas.focus(); }, filterBy }));
      live.textContent = summary(book, about.level, about.cell);
    } else {
      panel.replaceChildren(element("p", {}, "Point at a cell to read about it, click to keep it here. Wheel or pinch goes nearer: the grid grows finer as you do."), ...factList());
    }
  }

  function factList() {
    const rows = Object.entries(book.facts).flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, String(value))]);
    const notes = (book.notes ?? []).map((note) => element("li", {}, note));
    const links = book.links.map(([text, file]) => element("li", {}, element("a", { href: file }, text)));
    return [notes.length ? element("ol", { class: "aa-notes" }, ...notes) : "", links.length ? element("ul", { class: "aa-notes" }, ...links) : "", element("h3", {}, "How it was made"), element("dl", { class: "aa-facts" }, ...rows)];
  }

  function pin(where, cell) {
    camera.show(where, cell);
    change({ cell: where.key(cell) });
  }

  async function filterBy(label) {
    change({ class: label });
    if (label === null) return;
    const where = level();
    const known = await where.values(label);
    if (!known || state.class !== label) return;
    let best = 0;
    known.forEach((value, cell) => { if (value > known[best]) best = cell; });
    live.textContent = `The map through ${book.className(label)}. Strongest: ${summary(book, where, best)}`;
  }

  function zoom(factor, left, top) {
    camera.zoomAt(factor, left, top);
    draw();
    rememberSoon();
  }

  function home() {
    camera.home();
    draw();
    rememberSoon();
  }

  function cellAt(event) {
    const box = canvas.getBoundingClientRect();
    const inside = event.clientX - box.left;
    const place = Math.min(views().length - 1, Math.floor(inside / camera.width));
    const [x, y] = camera.toAtlas(inside - place * camera.width, event.clientY - box.top);
    const where = views()[place].map;
    const own = where.levels.find((one) => one.grid === level().grid) ?? camera.level(where.levels);
    const cell = own.at(Math.floor(y * own.grid), Math.floor(x * own.grid));
    return cell < 0 ? null : { level: own, cell };
  }

  // Pointers: one drags, two pinch, a short one pins.
  const held = new Map();
  let moved = 0;
  canvas.addEventListener("pointerdown", (event) => {
    held.set(event.pointerId, [event.clientX, event.clientY]);
    canvas.setPointerCapture(event.pointerId);
    if (held.size === 1) moved = 0;
  });
  canvas.addEventListener("pointermove", (event) => {
    const from = held.get(event.pointerId);
    if (!from) {
      const found = cellAt(event);
      if (found?.cell !== hovered?.cell || found?.level !== hovered?.level) {
        hovered = found;
        tell();
        draw();
      }
      return;
    }
    const to = [event.clientX, event.clientY];
    const box = canvas.getBoundingClientRect();
    if (held.size === 1) camera.move(to[0] - from[0], to[1] - from[1]);
    else {
      const other = [...held].find(([id]) => id !== event.pointerId)[1];
      const apart = (point) => Math.hypot(point[0] - other[0], point[1] - other[1]);
      camera.zoomAt(apart(to) / Math.max(1, apart(from)), (to[0] + other[0]) / 2 - box.left, (to[1] + other[1]) / 2 - box.top);
    }
    moved += Math.hypot(to[0] - from[0], to[1] - from[1]);
    held.set(event.pointerId, to);
    draw();
  });
  const release = (event) => {
    if (held.delete(event.pointerId) && held.size === 0) {
      if (moved < 5 && event.type === "pointerup") {
        const found = cellAt(event);
        if (found && found.level.map === map()) pin(found.level, found.cell);
        else if (found) change({ map: book.maps.indexOf(found.level.map), beside: state.map, cell: found.level.key(found.cell) });
        else change({ cell: null });
      } else rememberSoon();
    }
  };
  canvas.addEventListener("pointerup", release);
  canvas.addEventListener("pointercancel", release);
  canvas.addEventListener("pointerleave", () => { if (!held.size) { hovered = null; tell(); draw(); } });
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    event.stopPropagation();
    const box = canvas.getBoundingClientRect();
    zoom(Math.exp(-event.deltaY * (event.deltaMode === 1 ? 0.05 : event.ctrlKey ? 0.01 : 0.0016)), event.clientX - box.left, event.clientY - box.top);
  }, { passive: false });
  minimap.addEventListener("pointerdown", jump);
  minimap.addEventListener("pointermove", (event) => { if (event.buttons) jump(event); });
  function jump(event) {
    const box = minimap.getBoundingClientRect();
    Object.assign(camera, { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height });
    camera.keepInside();
    draw();
    rememberSoon();
  }

  const STEPS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = STEPS[event.key];
    if (step && event.shiftKey) { camera.move(-step[1] * 60, -step[0] * 60); draw(); rememberSoon(); }
    else if (step) walk(step);
    else if (event.key === "Enter" && hovered) pin(hovered.level, hovered.cell);
    else if (event.key === "+" || event.key === "=") zoom(1.3);
    else if (event.key === "-") zoom(1 / 1.3);
    else if (event.key === "0" || event.key === "Home") home();
    else return;
    event.preventDefault();
  });
  el.addEventListener("keydown", (event) => {
    if (event.target.matches("input, select") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "/") { search.input.focus(); search.input.select(); }
    else if (event.key === "?") help.showModal();
    else if (event.key === "Escape" && !help.open) { hovered = null; change({ cell: null }); canvas.focus(); }
    else if (event.key === "]" || event.key === "[") {
      const count = book.maps.length;
      change({ map: (state.map + (event.key === "]" ? 1 : count - 1)) % count, cell: null, level: null });
    } else return;
    event.preventDefault();
  });

  // From the cell in focus to the next one in a direction, over empty places; the first is the one in the middle.
  function walk([down, across]) {
    const where = level();
    const kept = hovered && hovered.level === where ? hovered.cell : pinned()?.level === where ? pinned().cell : -1;
    let cell = -1;
    if (kept < 0) {
      let nearest = Infinity;
      for (let each = 0; each < where.size; each++) {
        const far = Math.hypot((where.col[each] + 0.5) / where.grid - camera.x, (where.row[each] + 0.5) / where.grid - camera.y);
        if (far < nearest) [nearest, cell] = [far, each];
      }
    } else {
      let [row, col] = [where.row[kept] + down, where.col[kept] + across];
      while (row >= 0 && col >= 0 && row < where.grid && col < where.grid && (cell = where.at(row, col)) < 0) { row += down; col += across; }
    }
    if (cell < 0) { live.textContent = "No cell that way."; return; }
    hovered = { level: where, cell };
    if (state.cell !== null) state.cell = null;
    camera.show(where, cell);
    tell();
    draw();
    rememberSoon();
  }

  async function copyLink() {
    remember(false);
    try {
      await navigator.clipboard.writeText(location.href);
      link.textContent = "Copied";
    } catch {
      const field = element("input", { class: "aa-link", readonly: true, value: location.href, "aria-label": "link to what you see" });
      link.replaceWith(field);
      field.focus();
      field.select();
      field.addEventListener("blur", () => field.replaceWith(link), { once: true });
      return;
    }
    setTimeout(() => { link.textContent = "Copy link"; }, 1500);
  }

  // What is on the stage, on paper.
  function savePicture() {
    const copy = element("canvas", { width: canvas.width, height: canvas.height });
    const pen = copy.getContext("2d");
    pen.fillStyle = colors().paper;
    pen.fillRect(0, 0, copy.width, copy.height);
    pen.drawImage(canvas, 0, 0);
    copy.toBlob((blob) => {
      const address = URL.createObjectURL(blob);
      element("a", { href: address, download: `${map().name.replace(/[^\w.-]+/g, "_")}.png` }).click();
      setTimeout(() => URL.revokeObjectURL(address), 10000);
    }, "image/png");
  }

  function restore(address) {
    const told = fromAddress(address);
    Object.assign(state, START, told);
    Object.assign(camera, { x: told.x ?? 0.5, y: told.y ?? 0.5, zoom: told.zoom ?? 1 });
    camera.zoom = Math.min(MOST, Math.max(0.6, camera.zoom));
    camera.keepInside();
    delete state.x;
    delete state.y;
    delete state.zoom;
    change({}, false);
  }

  const back = () => restore(location.hash);
  const followHost = () => { if (model.get("view") !== last) restore(model.get("view")); };
  model.on?.("change:view", followHost);
  addEventListener("popstate", back);
  const watch = new ResizeObserver(draw);
  watch.observe(stage);
  const shade = matchMedia("(prefers-color-scheme: dark)");
  shade.addEventListener("change", draw);
  restore(model.get("view") || location.hash || book.start);
  return () => { model.off?.("change:view", followHost); removeEventListener("popstate", back); watch.disconnect(); shade.removeEventListener("change", draw); };
}
