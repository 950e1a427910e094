// Elements of a page made in one call, and numbers in words.

const SVG = "http://www.w3.org/2000/svg";

function make(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element[name] = value;
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** An element of HTML: its attributes (functions are listeners, false leaves one out) and what is in it. */
export const h = (tag, attributes = {}, ...children) => make(document.createElement(tag), attributes, children);

/** Likewise, of SVG. */
export const svg = (tag, attributes = {}, ...children) => make(document.createElementNS(SVG, tag), attributes, children);

/** A share from 0 to 1 as percent, never rounded to certainty or to nothing. */
export function percent(share) {
  if (share > 0.995 && share < 1) return "> 99 %";
  if (share < 0.005) return "< 1 %";
  return `${Math.round(100 * share)} %`;
}
