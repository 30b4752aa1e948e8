// Through what the map is seen: a class's effects, or a channel's values, as opacity.

class Filter {
  constructor() {
    this.kind = null;
    this.number = null;
    this.values = new Map(); // level -> a number for each cell
  }

  // Of what the state asks for, on all levels of some maps; true once there is something new to see.
  async show(state, maps) {
    this.kind = state.class !== null ? "class" : state.channel !== null ? "channel" : null;
    this.number = state.class ?? state.channel;
    const { kind, number } = this;
    if (kind === null) {
      this.values = new Map();
      return true;
    }
    const layer = maps[0].layer;
    const all = maps.filter((map) => kind === "class" || map.layer === layer).flatMap((map) => map.levels);
    const found = new Map(await Promise.all(all.map(async (level) => [level, await level.values(kind, number)])));
    if (kind !== this.kind || number !== this.number) return false;
    this.values = found;
    return true;
  }

  // How opaque a cell is.
  opacity(state, level, cell) {
    const known = this.values.get(level);
    if (!known) return 1;
    known.most ??= Math.max(1e-9, known.reduce((most, value) => Math.max(most, Math.abs(value)), 0));
    return Math.max(0, Math.min(1, ((state.sign * known[cell]) / known.most) * state.strength));
  }
}
