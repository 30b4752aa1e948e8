// The map or maps on their canvas, and the small one in the corner.

const FADE = 180; // milliseconds in which one grid takes over from another
const MINI = 240;

class Stage {
  constructor(page) {
    this.page = page;
    this.canvas = element("canvas", { class: "aa-map", tabindex: "0", role: "application", "aria-label": `${page.book.title}. Arrow keys move between cells, Enter keeps one, question mark shows help.` });
    this.context = this.canvas.getContext("2d");
    this.minimap = element("canvas", { class: "aa-mini", width: MINI, height: MINI, "aria-hidden": "true" });
    this.element = element("div", { class: "aa-stage" }, this.canvas, this.minimap);
    this.still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.wanted = false;
    this.shown = null; // the level that is drawn, and the one that it takes over from
    this.before = null;
    this.since = 0;
    this.draw = this.draw.bind(this);
  }

  // One map, or two side by side under one camera: each with how far to the right it begins.
  views() {
    const { state, book, camera } = this.page;
    const maps = [state.map, state.beside].filter((number) => number !== null).map((number) => book.maps[number]);
    return maps.map((map, place) => ({ map, shift: place * camera.width }));
  }

  // The level of a map that is shown where the first map's is.
  levelOf(map) {
    const grid = this.page.level().grid;
    return map.levels.find((level) => level.grid === grid) ?? this.page.camera.level(map.levels);
  }

  draw() {
    if (this.wanted) return;
    this.wanted = true;
    requestAnimationFrame((now) => this.paint(now));
  }

  paint(now) {
    const { page, context } = this;
    this.wanted = false;
    page.book.frame += 1;
    this.fit();
    const wanted = page.level();
    if (wanted !== this.shown) {
      this.before = this.shown && this.shown.map === wanted.map ? this.shown : null;
      this.shown = wanted;
      this.since = now;
      page.tell();
    }
    const part = this.still || !this.before ? 1 : Math.min(1, (now - this.since) / FADE);
    const colors = this.colors();
    for (const { map, shift } of this.views()) {
      context.save();
      context.beginPath();
      context.rect(shift, 0, page.camera.width, page.camera.height);
      context.clip();
      this.paintMap(map, shift, part, colors);
      context.restore();
    }
    this.paintMinimap(colors);
    page.el.dataset.drawn = String(Number(page.el.dataset.drawn ?? 0) + 1);
    page.el.dataset.level = String(wanted.grid);
    if (part < 1) this.draw();
  }

  fit() {
    const ratio = devicePixelRatio || 1;
    const [wide, high] = [this.element.clientWidth, this.element.clientHeight];
    const [width, height] = [Math.round(wide * ratio), Math.round(high * ratio)];
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
    this.page.camera.width = wide / this.views().length;
    this.page.camera.height = high;
    this.context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.context.clearRect(0, 0, wide, high);
  }

  paintMap(map, shift, part, colors) {
    const { page, context } = this;
    const { state, camera, filter } = page;
    const level = this.levelOf(map);
    const through = filter.covers(level) ? (where, cell) => filter.opacity(state, where, cell) : null;
    const view = { camera, context, colors, shift, ready: this.draw, plain: state.plain, filter: through, labels: state.labels };
    if (part < 1 && map === this.before?.map) drawLevel({ ...view, level: this.before, labels: false });
    drawLevel({ ...view, level, opacity: part });
    if (map.ends) drawEnds(view, map.ends);
    for (const { level: where, cell, width } of this.marked(map)) outline(view, where, cell, width > 2 ? colors.mark : colors.ink, width);
  }

  // Cells of a map to outline: the pinned one, the one pointed at, and in another map those with the same activations.
  marked(map) {
    const { hovered } = this.page;
    const pinned = this.page.pinned();
    const about = hovered ?? pinned;
    const found = [];
    if (about && about.level.map !== map) found.push(...about.level.linked(about.cell, map).map((each) => ({ ...each, width: 2 })));
    if (hovered && hovered.level.map === map) found.push({ ...hovered, width: 2 });
    if (pinned && pinned.level.map === map) found.push({ ...pinned, width: 3 });
    return found;
  }

  paintMinimap(colors) {
    const { camera } = this.page;
    this.minimap.hidden = camera.side <= Math.min(camera.width, camera.height);
    if (this.minimap.hidden) return;
    this.drawWhole(this.minimap, this.page.map(), this.draw);
    const pen = this.minimap.getContext("2d");
    const [left, top] = camera.toAtlas(0, 0).map((place) => place * MINI);
    const [right, bottom] = camera.toAtlas(camera.width, camera.height).map((place) => place * MINI);
    pen.lineWidth = 5;
    pen.strokeStyle = colors.mark;
    pen.strokeRect(left, top, right - left, bottom - top);
  }

  // A map's coarsest level on a canvas of its own, all of it.
  drawWhole(target, map, ready) {
    const camera = new Camera();
    Object.assign(camera, { width: target.width, height: target.height, zoom: 1 / 0.94 });
    const context = target.getContext("2d");
    context.clearRect(0, 0, target.width, target.height);
    drawLevel({ level: map.levels[0], camera, context, colors: this.colors(), ready, filter: null, labels: false });
  }

  thumbnail(map) {
    const small = element("canvas", { width: 96, height: 96, class: "aa-thumb", "aria-hidden": "true" });
    const draw = () => this.drawWhole(small, map, draw);
    draw();
    return small;
  }

  colors() {
    const style = getComputedStyle(this.page.el);
    const named = (name) => style.getPropertyValue(`--${name}`).trim();
    return { ink: named("ink"), empty: named("empty"), mark: named("mark"), paper: named("paper") };
  }

  // The cell under a pointer, null where there is none.
  cellAt(event) {
    const { camera } = this.page;
    const box = this.canvas.getBoundingClientRect();
    const inside = event.clientX - box.left;
    const place = Math.max(0, Math.min(this.views().length - 1, Math.floor(inside / camera.width)));
    const [x, y] = camera.toAtlas(inside - place * camera.width, event.clientY - box.top);
    const level = this.levelOf(this.views()[place].map);
    const cell = level.at(Math.floor(y * level.grid), Math.floor(x * level.grid));
    return cell < 0 ? null : { level, cell };
  }

  // What is on the canvas, on paper, as a file.
  save() {
    const copy = element("canvas", { width: this.canvas.width, height: this.canvas.height });
    const pen = copy.getContext("2d");
    pen.fillStyle = this.colors().paper;
    pen.fillRect(0, 0, copy.width, copy.height);
    pen.drawImage(this.canvas, 0, 0);
    copy.toBlob((blob) => {
      const address = URL.createObjectURL(blob);
      element("a", { href: address, download: `${this.page.map().name.replace(/[^\w.-]+/g, "_")}.png` }).click();
      setTimeout(() => URL.revokeObjectURL(address), 10000);
    }, "image/png");
  }
}
