// Where one looks: the point in the middle (in the unit square) and how many pixels it is wide.

const SMALLEST_ICON = 44;
const LEAST = 0.6; // of the zoom
const MOST = 64;

class Camera {
  constructor() { Object.assign(this, { x: 0.5, y: 0.5, zoom: 1, width: 1, height: 1 }); }

  // Pixels per side of the unit square.
  get side() { return this.zoom * Math.min(this.width, this.height) * 0.94; }

  home() { Object.assign(this, { x: 0.5, y: 0.5, zoom: 1 }); }

  toScreen(x, y) { return [(x - this.x) * this.side + this.width / 2, (y - this.y) * this.side + this.height / 2]; }

  toAtlas(left, top) { return [(left - this.width / 2) / this.side + this.x, (top - this.height / 2) / this.side + this.y]; }

  // Nearer or farther, what lies under a point of the screen staying there.
  zoomAt(factor, left = this.width / 2, top = this.height / 2) {
    const [x, y] = this.toAtlas(left, top);
    this.zoom = Math.min(MOST, Math.max(LEAST, this.zoom * factor));
    this.x = x - (left - this.width / 2) / this.side;
    this.y = y - (top - this.height / 2) / this.side;
    this.keepInside();
  }

  move(across, down) {
    this.x -= across / this.side;
    this.y -= down / this.side;
    this.keepInside();
  }

  keepInside() {
    this.x = Math.min(1, Math.max(0, this.x));
    this.y = Math.min(1, Math.max(0, this.y));
  }

  // So that a cell is on the screen and large enough to see.
  show(level, cell) {
    const x = (level.col[cell] + 0.5) / level.grid;
    const y = (level.row[cell] + 0.5) / level.grid;
    const [left, top] = this.toScreen(x, y);
    const edge = this.side / level.grid;
    if (left < edge || top < edge || left > this.width - edge || top > this.height - edge) Object.assign(this, { x, y });
    this.keepInside();
  }

  // The finest level whose cells are large enough to see, and hold most of what the coarsest one's do.
  level(levels) {
    const fine = levels.filter((level) => this.side / level.grid >= SMALLEST_ICON && level.total >= levels[0].total / 2);
    return fine.at(-1) ?? levels[0];
  }
}
