// Photographs made into what networks get, in floats: as msun_lite/runtime/model.py and msun_lite/live/squares.py do it.
// Never by a canvas: browsers make pictures smaller each in its own way.

const STRIP = 128; // rows of a photograph in memory at a time

/** Round as Python does: halves to the even neighbour. */
export function round(value) {
  const below = Math.floor(value);
  if (value - below !== 0.5) return Math.round(value);
  return below % 2 === 0 ? below : below + 1;
}

/**
 * The weights that resize one axis bilinearly: a triangle around each new pixel's centre, as wide as a step if the axis
 * shrinks and is low-passed.
 *
 * @param size pixels that there are; `side` how many they become; `first`, `count`: which of these are wanted.
 * @returns {starts, weights}: the first pixel and the weights, which sum to 1, of each wanted one.
 */
export function axis(size, side, antialias, first = 0, count = side) {
  const step = size / side;
  const reach = antialias ? Math.max(step, 1) : 1;
  const starts = new Int32Array(count);
  const weights = [];
  for (let index = 0; index < count; index++) {
    const centre = (first + index + 0.5) * step;
    const low = Math.max(0, Math.ceil(centre - reach - 0.5));
    const high = Math.min(size - 1, Math.floor(centre + reach - 0.5));
    const triangle = Float64Array.from({ length: high - low + 1 }, (_, place) =>
      Math.max(0, 1 - Math.abs(low + place + 0.5 - centre) / reach));
    const sum = triangle.reduce((total, weight) => total + weight, 0);
    starts[index] = low;
    weights.push(Float32Array.from(triangle, (weight) => weight / sum));
  }
  return { starts, weights };
}

/** The pixels that the weights of an axis take: [first, behind the last]. */
function span({ starts, weights }) {
  const last = starts.length - 1;
  return [starts[0], starts[last] + weights[last].length];
}

/**
 * Where the central square of a photograph is: the whole is made `shape` large, [width, height], of which a square of
 * `side` pixels from `left` and `top` on is kept. A photograph whose square is smaller than `largest` stays as it is.
 */
export function squareGeometry(width, height, ratio, largest) {
  const shorter = Math.min(width, height);
  let side = Math.max(1, round(ratio * shorter));
  let shape = [width, height];
  if (side >= largest) {
    side = largest;
    const reduced = round(largest / ratio);
    const others = Math.trunc((reduced * Math.max(width, height)) / shorter);
    shape = width <= height ? [reduced, others] : [others, reduced];
  }
  const [left, top] = shape.map((length) => round((length - side) / 2));
  return { shape, side, left, top };
}

/**
 * The central square of a photograph.
 *
 * @param rowsOf (x, y, width, height) -> RGBA bytes of that part of the photograph.
 * @returns {side, values}: floats from 0 to 255, one plane of side * side a colour.
 */
export function centralSquare(rowsOf, width, height, ratio, largest) {
  const { shape, side, left, top } = squareGeometry(width, height, ratio, largest);
  const across = axis(width, shape[0], true, left, side);
  const down = axis(height, shape[1], true, top, side);
  const [x, right] = span(across);
  const [y, bottom] = span(down);
  const rows = bottom - y;
  const narrow = new Float32Array(3 * rows * side);
  for (let start = 0; start < rows; start += STRIP) {
    const count = Math.min(STRIP, rows - start);
    const bytes = rowsOf(x, y + start, right - x, count);
    for (let row = 0; row < count; row++) {
      for (let column = 0; column < side; column++) {
        const weights = across.weights[column];
        let place = 4 * (row * (right - x) + across.starts[column] - x);
        let [red, green, blue] = [0, 0, 0];
        for (let tap = 0; tap < weights.length; tap++, place += 4) {
          red += weights[tap] * bytes[place];
          green += weights[tap] * bytes[place + 1];
          blue += weights[tap] * bytes[place + 2];
        }
        const target = (start + row) * side + column;
        narrow[target] = red;
        narrow[rows * side + target] = green;
        narrow[2 * rows * side + target] = blue;
      }
    }
  }
  return { side, values: shrinkRows(narrow, rows, side, down, y) };
}

/** Three planes of `rows` * `width` values, resized along their columns by the weights of an axis that starts at `y`. */
function shrinkRows(planes, rows, width, { starts, weights }, y = 0) {
  const side = starts.length;
  const found = new Float32Array(3 * side * width);
  for (let plane = 0; plane < 3; plane++) {
    for (let row = 0; row < side; row++) {
      for (let column = 0; column < width; column++) {
        let sum = 0;
        let place = (plane * rows + starts[row] - y) * width + column;
        for (const weight of weights[row]) {
          sum += weight * planes[place];
          place += width;
        }
        found[(plane * side + row) * width + column] = sum;
      }
    }
  }
  return found;
}

/** A square resized to another side, bilinearly, low-passed first if `antialias` and it shrinks. */
export function resize(square, side, antialias) {
  if (square.side === side) return square;
  const along = axis(square.side, side, antialias);
  const narrow = new Float32Array(3 * square.side * side);
  for (let row = 0; row < 3 * square.side; row++) {
    for (let column = 0; column < side; column++) {
      let sum = 0;
      let place = row * square.side + along.starts[column];
      for (const weight of along.weights[column]) sum += weight * square.values[place++];
      narrow[row * side + column] = sum;
    }
  }
  return { side, values: shrinkRows(narrow, square.side, side, along) };
}

/** What a network gets of a square: its mean off, by its deviation, both of values from 0 to 1. */
export function normalise({ side, values }, { mean, std }) {
  const found = new Float32Array(values.length);
  for (let plane = 0; plane < 3; plane++) {
    const [middle, width] = [255 * mean[plane], 255 * std[plane]];
    for (let place = plane * side * side; place < (plane + 1) * side * side; place++) {
      found[place] = (values[place] - middle) / width;
    }
  }
  return found;
}

/** A square as RGBA bytes, to be shown. */
export function toBytes({ side, values }) {
  const area = side * side;
  const bytes = new Uint8ClampedArray(4 * area);
  for (let place = 0; place < area; place++) {
    for (let plane = 0; plane < 3; plane++) bytes[4 * place + plane] = values[plane * area + place];
    bytes[4 * place + 3] = 255;
  }
  return bytes;
}
