// What a file is, and how large, read from its first bytes: before a browser is asked to decode it.

const KINDS = [
  ["PNG", (bytes) => starts(bytes, [0x89, 0x50, 0x4e, 0x47]), (view) => [view.getUint32(16), view.getUint32(20)]],
  ["JPEG", (bytes) => starts(bytes, [0xff, 0xd8, 0xff]), jpegSize],
  ["GIF", (bytes) => text(bytes, 0, 4) === "GIF8", (view) => [view.getUint16(6, true), view.getUint16(8, true)]],
  ["WebP", (bytes) => text(bytes, 0, 4) === "RIFF" && text(bytes, 8, 4) === "WEBP", webpSize],
]; // name, whether bytes are of this kind, DataView -> [width, height]

const OTHERS = [
  ["HEIC", /^....ftyp(heic|heix|hevc|heim|heis|mif1|msf1)/s],
  ["AVIF", /^....ftypavi[fs]/s],
  ["a film", /^....ftyp/s],
  ["TIFF", /^(II\*\0|MM\0\*)/],
  ["BMP", /^BM/],
  ["PDF", /^%PDF/],
  ["SVG", /^[\s\S]{0,900}<svg/i],
  ["HTML", /^\s*<(!doctype|html)/i],
]; // files that people have, and that are not read here

export const ACCEPTED = "image/jpeg,image/png,image/webp,image/gif";
export const MOST_PIXELS = 50e6; // 200 MB in memory
const SCAN = 0xda; // the marker of a JPEG after which its pixels come

const starts = (bytes, first) => first.every((byte, place) => bytes[place] === byte);
const text = (bytes, from, length) => String.fromCharCode(...bytes.subarray(from, from + length));

/** Go from segment to segment of a JPEG: [marker, place of its content] of each, up to the first scan. */
function* jpegSegments(view) {
  let place = 2;
  while (place + 9 < view.byteLength && view.getUint8(place) === 0xff) {
    const marker = view.getUint8(place + 1);
    if (marker === 0xff) {
      place += 1; // padding
      continue;
    }
    yield [marker, place + 4];
    if (marker === SCAN) return;
    place += 2 + view.getUint16(place + 2);
  }
}

/** The size in a JPEG's frame header. */
function jpegSize(view) {
  for (const [marker, place] of jpegSegments(view)) {
    const frame = marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);
    if (frame) return [view.getUint16(place + 3), view.getUint16(place + 1)];
  }
  return null;
}

/** Whether the picture of a JPEG has its end; phones may put a film behind it. */
function jpegEnds(bytes, view) {
  const scan = [...jpegSegments(view)].find(([marker]) => marker === SCAN);
  let place = scan ? scan[1] : -1;
  while (place >= 0 && bytes[place + 1] !== 0xd9) place = bytes.indexOf(0xff, place + 1);
  return place >= 0;
}

function webpSize(view) {
  const kind = String.fromCharCode(...[12, 13, 14, 15].map((place) => view.getUint8(place)));
  const three = (place) => view.getUint16(place, true) + 65536 * view.getUint8(place + 2);
  if (kind === "VP8X") return [three(24) + 1, three(27) + 1];
  if (kind === "VP8 ") return [view.getUint16(26, true) & 0x3fff, view.getUint16(28, true) & 0x3fff];
  const bits = view.getUint32(21, true);
  return [(bits & 0x3fff) + 1, ((bits >>> 14) & 0x3fff) + 1];
}

/**
 * Refuse, in one line, a file that is no photograph which can be read here.
 *
 * @param bytes all of the file, a Uint8Array.
 */
export function checkFile(bytes) {
  const expected = "expected a photograph as JPEG, PNG, WebP or GIF";
  if (bytes.length === 0) throw new Error(`${expected}, got an empty file`);
  const kind = KINDS.find(([, matches]) => matches(bytes));
  if (!kind) {
    const first = text(bytes, 0, 1000);
    const other = OTHERS.find(([, pattern]) => pattern.test(first));
    throw new Error(`${expected}, got ${other ? other[0] : "something else"}`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let size = null;
  try {
    size = kind[2](view);
  } catch {
    // shorter than its own header: told below
  }
  if (!size) throw new Error(`the ${kind[0]} file is damaged: it does not say how large the picture is`);
  const [width, height] = size;
  if (width * height > MOST_PIXELS) {
    const megapixels = (count) => `${Math.round(count / 1e6)} megapixels`;
    throw new Error(`expected at most ${megapixels(MOST_PIXELS)}, got ${megapixels(width * height)}, ${width} × ${height}`);
  }
  if (kind[0] === "JPEG" && !jpegEnds(bytes, view)) {
    throw new Error("the JPEG file is damaged: its end is missing");
  }
}
