// What computes, beside the page: photographs are decoded and made small, networks run in ONNX Runtime, on one thread.
// The newest question is answered first; when there is none, the curves over all sizes go on.

import * as ort from "./onnxruntime/ort.wasm.bundle.min.mjs";
import { checkFile } from "./live-files.js";
import { centralSquare, normalise, resize, toBytes } from "./live-pixels.js";

const WEIGHTS = "weights.bin";
const BOTH = ["logits", "maps"];

let about = null; // live.json
let networks = []; // as in live.json, with their sessions by scale
let photograph = null; // {id, squares: crop ratio -> square}
const waiting = { photograph: null, question: null, points: [] };
let working = false;

/** Fetch a file, and tell how many bytes have come. */
async function fetchBytes(url, advance) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url.pathname.split("/").pop()} cannot be loaded: ${response.status}`);
  const parts = [];
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    advance(value.length);
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

/** Unpack gzip, unless a server has done so on the way. */
async function unpack(bytes) {
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes;
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Load the runtime and all networks. */
async function load(base, home, description) {
  about = description;
  let loaded = 0;
  const advance = (bytes) => postMessage({ kind: "progress", loaded: (loaded += bytes) });
  const wasm = Object.keys(about.runtime).find((name) => name.endsWith(".gz"));
  const packed = await fetchBytes(new URL(`onnxruntime/${wasm}`, base), advance);
  ort.env.wasm.numThreads = 1; // more need headers that many servers do not send
  ort.env.wasm.wasmBinary = await unpack(packed);
  for (const network of about.networks) {
    const files = {};
    for (const name of Object.keys(network.files)) {
      files[name] = await fetchBytes(new URL(`networks/${encodeURIComponent(network.name)}/${name}`, home), advance);
    }
    const options = { executionProviders: ["wasm"], externalData: [{ path: WEIGHTS, data: files[WEIGHTS] }] };
    const sessions = {};
    for (const scale of network.scales) {
      sessions[scale] = await ort.InferenceSession.create(files[`scale-${scale}.onnx`], options);
    }
    networks.push({ ...network, sessions });
    await warmUp(networks.at(-1));
  }
}

/** Run each graph of a network once: the first run takes several times as long as those that follow. */
async function warmUp(network) {
  const sides = new Map(network.serving.map(({ scale, side, place }) => [scale, { side, place }]));
  for (const [scale, { side, place }] of sides) {
    const square = { side, values: new Float32Array(3 * side * side) };
    await run(network, scale, place, square, (outputs) => outputs.logits.data.length);
  }
}

/** Run a network's graph of a scale on a square, and return what `keep` makes of its outputs: tensors do not stay. */
async function run(network, scale, place, square, keep) {
  const inputs = {
    images: new ort.Tensor("float32", normalise(square, network.normalisation), [1, 3, square.side, square.side]),
  };
  if (network.averages) inputs.place = new ort.Tensor("int64", BigInt64Array.of(BigInt(place)), [1]);
  const session = network.sessions[scale];
  const outputs = await session.run(inputs, BOTH.filter((name) => session.outputNames.includes(name)));
  const kept = keep(outputs);
  for (const tensor of [...Object.values(inputs), ...Object.values(outputs)]) tensor.dispose();
  return kept;
}

/** Decode a file, upright, and keep its central squares. */
async function open({ id, file }) {
  waiting.points = [];
  checkFile(new Uint8Array(await file.arrayBuffer()));
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image", colorSpaceConversion: "none" });
  } catch {
    throw new Error("the file is damaged: it cannot be decoded");
  }
  try {
    const { width, height } = bitmap;
    const squares = new Map();
    for (const { crop_ratio: ratio } of networks) {
      if (!squares.has(ratio)) squares.set(ratio, centralSquare(reader(bitmap), width, height, ratio, about.largest));
    }
    const side = Math.min(...[...squares.values()].map((square) => square.side));
    if (side < about.smallest) {
      throw new Error(`expected a photograph of at least ${about.smallest} pixels, got ${width} × ${height}`);
    }
    photograph = { id, squares };
    postMessage({ kind: "opened", id, width, height, largest: side });
  } finally {
    bitmap.close();
  }
}

/** A function that returns the RGBA bytes of a part of a picture; what is transparent is shown on white. */
function reader(bitmap) {
  let canvas = null;
  return (x, y, width, height) => {
    if (canvas?.width !== width || canvas.height < height) canvas = new OffscreenCanvas(width, height);
    const context = canvas.getContext("2d", { willReadFrequently: true, colorSpace: "srgb" });
    context.fillStyle = "#fff";
    context.fillRect(0, 0, width, height);
    context.drawImage(bitmap, -x, -y);
    return context.getImageData(0, 0, width, height).data;
  };
}

/** What a network says of the photograph at a size; `shown`: with the picture and the map. */
async function ask(network, size, shown) {
  const started = performance.now();
  const own = Math.min(size, network.scales.at(-1));
  const square = resize(photograph.squares.get(network.crop_ratio), own, true);
  const row = network.serving.find(({ upto }) => own <= upto);
  const served = resize(square, row.side, network.antialias);
  const { logits, map } = await run(network, row.scale, row.place, served, (outputs) => {
    const found = Float32Array.from(outputs.logits.data);
    return { logits: found, map: shown && outputs.maps ? evidence(outputs.maps, argmax(found)) : null };
  });
  const milliseconds = performance.now() - started;
  const answer = { size: own, scale: row.scale, flops: row.flops, milliseconds, logits, shares: softmax(logits), map };
  if (shown) answer.picture = toBytes(square);
  return answer;
}

function softmax(logits) {
  const most = Math.max(...logits);
  const powers = Array.from(logits, (logit) => Math.exp(logit - most));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / sum);
}

const argmax = (values) => values.reduce((best, value, place) => (value > values[best] ? place : best), 0);

/** The map of one class: the evidence for it, from 0 to 1, as Grad-CAM has it (Eq. 9). */
function evidence({ dims, data }, label) {
  const [height, width] = dims.slice(2);
  const kept = Array.from(data.subarray(label * height * width, (label + 1) * height * width), (v) => Math.max(0, v));
  const [low, high] = [Math.min(...kept), Math.max(...kept)];
  return { width, height, values: kept.map((value) => (high > low ? (value - low) / (high - low) : 0)) };
}

async function answer({ ticket, size }) {
  const id = photograph.id;
  const answers = [];
  for (const network of networks) answers.push(await ask(network, size, true));
  postMessage({ kind: "answer", id, ticket, size, answers });
}

async function point({ network, size }) {
  const { shares } = await ask(networks[network], size, false);
  postMessage({ kind: "point", id: photograph.id, network, size, shares });
}

/** Take what is the most urgent of what waits. */
function next() {
  for (const [kind, run] of [["photograph", open], ["question", answer]]) {
    const task = waiting[kind];
    if (task && (kind === "photograph" || photograph)) {
      waiting[kind] = null;
      return () => run(task);
    }
  }
  const task = photograph && waiting.points.shift();
  return task && (() => point(task));
}

/** Let messages come in. */
const pause = () => new Promise((resolve) => {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = () => (port1.close(), resolve());
  port2.postMessage(null);
});

async function work() {
  if (working) return;
  working = true;
  for (let task = next(); task; task = next()) {
    try {
      await task();
    } catch (error) {
      postMessage({ kind: "failed", message: error.message });
    }
    await pause();
  }
  working = false;
}

onmessage = async ({ data }) => {
  if (data.kind === "load") {
    try {
      await load(data.base, data.home, data.about);
      postMessage({ kind: "ready" });
    } catch (error) {
      postMessage({ kind: "broken", message: error.message });
    }
    return;
  }
  if (data.kind === "photograph") waiting.photograph = data;
  if (data.kind === "question") waiting.question = data;
  if (data.kind === "points") waiting.points = data.points;
  work();
};
