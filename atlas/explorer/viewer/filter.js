// Through what the map is seen: a class's effects, a channel's values, or a name, as opacity.

// How opaque cells are that are not what was searched by name.
const FAINT = 0.12;

class Filter {
  constructor() {
    this.kind = null;
    this.number = null;
    this.values = new Map(); // level -> a number for each cell, null where the page does not hold them
    this.turn = 0;
  }

  // Of what the state asks for, on all levels of some maps; true once there is something new to see.
  async show(state, maps) {
    this.kind = state.class !== null ? "class" : state.channel !== null ? "channel" : state.name !== null ? "name" : null;
    this.number = state.class ?? state.channel ?? state.name;
    const { kind, number } = this;
    const turn = (this.turn += 1);
    if (kind === null) {
      this.values = new Map();
      return true;
    }
    const [{ layer, model }] = maps;
    const all = maps.filter((map) => kind !== "channel" || (map.layer === layer && map.model === model)).flatMap((map) => map.levels);
    const found = new Map(await Promise.all(all.map(async (level) => [level, await level.values(kind, number)])));
    if (turn !== this.turn) return false;
    this.values = found;
    return true;
  }

  // Whether a map's level is seen through it: others are shown as they are.
  covers(level) { return this.kind !== null && Boolean(this.values.get(level)); }

  // How opaque a cell is.
  opacity(state, level, cell) {
    const known = this.values.get(level);
    if (!known) return 1;
    if (this.kind === "name") return known[cell] ? 1 : FAINT;
    known.most ??= Math.max(1e-9, known.reduce((most, value) => Math.max(most, Math.abs(value)), 0));
    return Math.max(0, Math.min(1, ((state.sign * known[cell]) / known.most) * state.strength));
  }
}
