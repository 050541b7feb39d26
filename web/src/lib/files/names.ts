/** File names as they are shown. */

/** Last characters of a name that stay when its middle is cut out. */
const TAIL_LENGTH = 7;
const LONGEST_EXTENSION = 6;

/** Scripts whose letters join, or run from right to left: a cut between two of them shows. */
const JOINED =
  /[\p{Script=Arabic}\p{Script=Hebrew}\p{Script=Syriac}\p{Script=Devanagari}\p{Script=Thai}\p{M}]/u;

/** Made once: making one takes longer than all else that draws a row. */
const SEGMENTER = new Intl.Segmenter();

/**
 * Split a name into a head, which may be cut short, and a tail, which stays: the extension and a
 * few characters before it, which tell `IMG_2041.jpg` from `IMG_2042.jpg`.
 */
export function splitName(name: string): readonly [head: string, tail: string] {
  const dot = name.lastIndexOf(".");
  const hasExtension = dot > 0 && name.length - dot <= LONGEST_EXTENSION;
  const extension = hasExtension ? name.slice(dot) : "";
  const stem = hasExtension ? name.slice(0, dot) : name;
  const characters = [...SEGMENTER.segment(stem)].map(({ segment }) => segment);
  const kept: string[] = [];
  while (characters.length > 1 && kept.length + extension.length < TAIL_LENGTH) {
    const last = characters.at(-1) ?? "";
    if (JOINED.test(last)) break;
    kept.unshift(last);
    characters.pop();
  }
  // A space at the edge of a box is not drawn.
  while (kept[0] === " ") characters.push(kept.shift() ?? "");
  return [characters.join(""), kept.join("") + extension];
}

const PHOTO = /\.(?:jpe?g|jfif|png|webp|gif|hei[cf]|avif|tiff?)$/i;

/** Whether a file of a folder is a photo. Files chosen by name are not asked: they get a reason. */
export function isPhoto(file: { readonly name: string; readonly type: string }): boolean {
  return !file.name.startsWith(".") && (file.type.startsWith("image/") || PHOTO.test(file.name));
}
