// What the page holds: inert blocks of text -> maps, levels, cells, pictures.

const FORMAT = 1;
const CELL_CLASSES = 5;
const PER_SHEET = 100;
// Sheets kept decoded: a page of many levels has more than a browser should hold.
const MOST_SHEETS = 300;

const bytes = (text) => Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
const numbers = (text, Kind) => new Kind(bytes(text).buffer);

class Level {
  constructor(book, name, about) {
    Object.assign(this, { book, name, grid: about.grid, pixels: about.pixels, size: about.cells });
    this.row = numbers(about.row, Uint16Array);
    this.col = numbers(about.col, Uint16Array);
    this.count = numbers(about.count, Uint32Array);
    this.score = numbers(about.score, Float32Array);
    this.top = numbers(about.top, Int32Array);
    this.effect = numbers(about.effect, Float32Array);
    this.strong = numbers(about.strong, Int32Array);
    this.tint = about.tint ? numbers(about.tint, Float32Array) : null;
    this.seen = about.seen ?? [];
    this.names = about.names ?? [];
    this.named = this.names.some(Boolean);
    this.flow = Object.entries(about.flow ?? {}).map(([other, to]) => ({ map: Number(other), grid: to.grid, cells: numbers(to.cells, Int32Array) }));
    this.has = { class: about.values, channel: about.channels };
    this.index = new Int32Array(this.grid * this.grid).fill(-1);
    let total = 0;
    for (let cell = 0; cell < this.size; cell++) {
      this.index[this.row[cell] * this.grid + this.col[cell]] = cell;
      total += this.count[cell];
    }
    this.total = total;
    // Area by count, up to the average count.
    const mean = total / Math.max(1, this.size);
    this.side = Float32Array.from(this.count, (count) => Math.max(0.35, Math.min(1, Math.sqrt(count / mean))));
    this.sheets = new Array(Math.ceil(this.size / PER_SHEET));
  }

  at(row, col) {
    const inside = row >= 0 && col >= 0 && row < this.grid && col < this.grid;
    return inside ? this.index[row * this.grid + col] : -1;
  }

  // The next cell in a direction, [down, across], over empty places; -1 where there is none.
  next(cell, [down, across]) {
    let [row, col] = [this.row[cell] + down, this.col[cell] + across];
    while (row >= 0 && col >= 0 && row < this.grid && col < this.grid) {
      if (this.at(row, col) >= 0) return this.at(row, col);
      row += down;
      col += across;
    }
    return -1;
  }

  // The cell nearest to a point of the unit square.
  nearest(x, y) {
    const far = (cell) => Math.hypot((this.col[cell] + 0.5) / this.grid - x, (this.row[cell] + 0.5) / this.grid - y);
    let best = 0;
    for (let cell = 1; cell < this.size; cell++) if (far(cell) < far(best)) best = cell;
    return this.size ? best : -1;
  }

  key(cell) { return `${this.grid}/${this.row[cell]}/${this.col[cell]}`; }

  // The sheet that holds a cell's icon: null while it loads (then `ready` is called), false where it is missing.
  sheet(cell, ready) {
    const number = Math.floor(cell / PER_SHEET);
    const known = (this.sheets[number] ??= { picture: null, waiting: new Set(), asked: false });
    this.book.keep(known);
    if (known.picture === null) {
      known.waiting.add(ready);
      if (!known.asked) {
        known.asked = true;
        this.book.picture(`${this.name}/icons/${number}`).then((found) => {
          known.picture = found ?? false;
          for (const each of known.waiting) each();
          known.waiting.clear();
        });
      }
    }
    return known.picture;
  }

  // Whether a cell's name is this one, or lies below it.
  isA(cell, text) {
    const name = this.names[cell]?.text;
    return name === text || (this.map.above?.[name] ?? []).includes(text);
  }

  // Where in its sheet a cell's icon lies.
  place(cell) {
    const number = cell % PER_SHEET;
    const inSheet = Math.min(PER_SHEET, this.size - (cell - number));
    const columns = Math.min(10, inSheet);
    return [(number % columns) * this.pixels, Math.floor(number / columns) * this.pixels];
  }

  // The other map's cells that hold the activations of one of ours: {level, cell}, most first.
  linked(cell, other) {
    const to = this.flow.find((each) => each.map === other.number);
    const level = to && other.levels.find((each) => each.grid === to.grid);
    if (!level) return [];
    const most = to.cells.length / this.size;
    return [...to.cells.slice(cell * most, (cell + 1) * most)].filter((each) => each >= 0).map((each) => ({ level, cell: each }));
  }

  // For every cell, its mean effect on a class or what a channel's mean is above the map's; of a level that does not
  // know it, that of the next coarser one.
  async values(kind, number) {
    if (kind === "name") return Float32Array.from({ length: this.size }, (_, cell) => Number(this.isA(cell, number)));
    if (!this.has[kind]) {
      const coarser = this.map.levels.filter((other) => other.has[kind] && other.grid < this.grid).at(-1);
      const known = await coarser?.values(kind, number);
      if (!known) return null;
      const scale = coarser.grid / this.grid;
      return Float32Array.from({ length: this.size }, (_, cell) => {
        const parent = coarser.at(Math.floor((this.row[cell] + 0.5) * scale), Math.floor((this.col[cell] + 0.5) * scale));
        return parent < 0 ? 0 : known[parent];
      });
    }
    if (kind === "class" && this.map.names) return null;
    const columns = kind === "class" ? this.book.classes.length : this.map.cards.length;
    const column = kind === "class" ? number : this.map.cards.findIndex((card) => card.channel === number);
    const [whole, scale] = await this.shares(kind);
    if (!whole || !scale || column < 0) return null;
    return Float32Array.from({ length: this.size }, (_, cell) => (whole[cell * columns + column] * scale[cell]) / 127);
  }

  shares(kind) {
    const [values, scale] = kind === "class" ? ["values", "scale"] : ["channels", "channel-scale"];
    this.read ??= {};
    const array = (name, Kind) => this.book.block(`${this.name}/${name}`).then((text) => (text ? numbers(text, Kind) : null)).catch(() => null);
    return (this.read[kind] ??= Promise.all([array(values, Int8Array), array(scale, Float32Array)]));
  }
}

class Book {
  constructor(model) {
    this.model = model;
    const about = model.get("manifest");
    Object.assign(this, about);
    this.maps = about.maps.map((map, number) => {
      const cards = map.cards ?? [];
      const made = { ...map, number, cards, card: (channel) => cards.find((card) => card.channel === channel) ?? null };
      made.levels = map.levels.map((level, place) => new Level(this, `${number}/${place}`, level));
      for (const level of made.levels) level.map = made;
      return made;
    });
    // Classes that can be searched by: where what cells change most means anything.
    this.told = this.maps.some((map) => map.speaking?.worth) ? this.classes : [];
    // What cells are called, and what lies above that: all that can be searched by.
    this.words = [...new Set(this.maps.flatMap((map) => map.levels.flatMap((level) => level.names.flatMap((name) => (name ? [name.text, ...(map.above?.[name.text] ?? [])] : [])))))].sort();
    this.sheets = new Map();
    this.recent = new Set();
    this.frame = 0;
  }

  // A sheet that is in use; of those that no frame drew lately, the oldest goes where there are too many.
  keep(sheet) {
    this.recent.delete(sheet);
    this.recent.add(sheet);
    sheet.frame = this.frame;
    for (const oldest of this.recent) {
      if (this.recent.size <= MOST_SHEETS || oldest.frame >= this.frame - 2) break;
      this.recent.delete(oldest);
      if (!oldest.picture) continue;
      oldest.picture.close();
      Object.assign(oldest, { picture: null, asked: false });
    }
  }

  // The sheet, ten pictures in a row, that holds a picture by its number: null where it is missing.
  sheetOf(name, number) {
    const sheet = `${name}/${Math.floor(number / PER_SHEET)}`;
    if (!this.sheets.has(sheet)) this.sheets.set(sheet, this.picture(sheet));
    return this.sheets.get(sheet);
  }

  async block(name) {
    try {
      const find = this.model.get("block");
      return find ? await find(name) : (this.model.get("blocks")[name] ?? null);
    } catch {
      return null;
    }
  }

  // A picture by name, null where it is missing or damaged.
  async picture(name) {
    const text = await this.block(name);
    if (!text) return null;
    try {
      return await createImageBitmap(new Blob([bytes(text.trim())], { type: "image/webp" }));
    } catch {
      return null;
    }
  }

  // A class's name on a map, whose network may have others than the page.
  className(label, map) { return (map?.names ?? this.classes)[label] ?? `class ${label}`; }
}
