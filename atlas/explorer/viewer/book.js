// What the page holds: inert blocks of text -> maps, levels, cells, pictures.

const FORMAT = 1;
const CELL_CLASSES = 5;
const PER_SHEET = 100;

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
    this.hasValues = about.values;
    this.index = new Int32Array(this.grid * this.grid).fill(-1);
    let total = 0;
    for (let cell = 0; cell < this.size; cell++) {
      this.index[this.row[cell] * this.grid + this.col[cell]] = cell;
      total += this.count[cell];
    }
    // Area by count, up to the average count.
    const mean = total / Math.max(1, this.size);
    this.side = Float32Array.from(this.count, (count) => Math.max(0.35, Math.min(1, Math.sqrt(count / mean))));
    this.sheets = new Array(Math.ceil(this.size / PER_SHEET));
  }

  at(row, col) {
    const inside = row >= 0 && col >= 0 && row < this.grid && col < this.grid;
    return inside ? this.index[row * this.grid + col] : -1;
  }

  key(cell) { return `${this.grid}/${this.row[cell]}/${this.col[cell]}`; }

  // The sheet that holds a cell's icon: null while it loads (then `ready` is called), false where it is missing.
  sheet(cell, ready) {
    const number = Math.floor(cell / PER_SHEET);
    const known = (this.sheets[number] ??= { picture: null, waiting: new Set(), asked: false });
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

  // Where in its sheet a cell's icon lies.
  place(cell) {
    const number = cell % PER_SHEET;
    const inSheet = Math.min(PER_SHEET, this.size - (cell - number));
    const columns = Math.min(10, inSheet);
    return [(number % columns) * this.pixels, Math.floor(number / columns) * this.pixels];
  }

  // Cell -> its mean effect on a class, for every cell; of a level without values, those of the next coarser one.
  async values(label) {
    if (!this.hasValues) {
      const coarser = this.map.levels.filter((other) => other.hasValues).at(-1);
      if (!coarser) return null;
      const known = await coarser.values(label);
      const scale = coarser.grid / this.grid;
      return Float32Array.from({ length: this.size }, (_, cell) => {
        const parent = coarser.at(Math.floor((this.row[cell] + 0.5) * scale), Math.floor((this.col[cell] + 0.5) * scale));
        return parent < 0 ? 0 : known[parent];
      });
    }
    this.whole ??= this.book.block(`${this.name}/values`).then((text) => (text ? numbers(text, Int8Array) : null));
    this.scale ??= this.book.block(`${this.name}/scale`).then((text) => (text ? numbers(text, Float32Array) : null));
    const [whole, scale] = await Promise.all([this.whole, this.scale]);
    if (!whole || !scale) return null;
    const classes = this.book.classes.length;
    return Float32Array.from({ length: this.size }, (_, cell) => (whole[cell * classes + label] * scale[cell]) / 127);
  }
}

class Book {
  constructor(model) {
    this.model = model;
    const about = model.get("manifest");
    Object.assign(this, about);
    this.maps = about.maps.map((map, number) => {
      const made = { ...map };
      made.levels = map.levels.map((level, place) => new Level(this, `${number}/${place}`, level));
      for (const level of made.levels) level.map = made;
      return made;
    });
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

  className(label) { return this.classes[label] ?? `class ${label}`; }
}
