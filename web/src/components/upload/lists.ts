/**
 * What draws uploads, and nothing of what sends them: a chunk of its own with the libraries for
 * long lists and for drags. `lazyLists.tsx` loads it.
 */
export { SortableRows } from "./SortableRows";
export { VirtualUploadList } from "./VirtualUploadList";
