/** Names the folder of a file in one string: root, NUL, the folders below it joined by '/'. */
export function folderKey(root: string, path: readonly string[]): string {
  const last = path.length - 1;
  let key = `${root}\0`;
  for (let i = 0; i < last; i++) key += i === 0 ? path[i]! : `/${path[i]}`;
  return key;
}
