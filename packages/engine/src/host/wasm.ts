/** As much of WebAssembly as the host uses: shared memory, and functions that work in it. */

/** The types of the web are not among this project's. */
declare const WebAssembly: {
  readonly Memory: new (shape: { initial: number; maximum: number; shared: true }) => SharedMemory;
  readonly Module: new (bytes: Uint8Array<ArrayBuffer>) => object;
  readonly Instance: new (
    module: object,
    imports: { host: { memory: SharedMemory } },
  ) => { exports: Readonly<Record<string, unknown>> };
};

export interface SharedMemory {
  readonly buffer: SharedArrayBuffer;
}

export const PAGE_BYTES = 65536;
/** 4 GiB, what 32 bits can address. Modules that import the memory name it as its maximum. */
export const MAX_PAGES = 65536;

/** Pages never touched cost no memory. Throws RangeError when there is none. */
export function sharedMemory(pages: number): SharedMemory {
  return new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
}

/** What a module exports that imports "host" "memory" alone. */
export function instantiate(module: Uint8Array<ArrayBuffer>, memory: SharedMemory): Readonly<Record<string, unknown>> {
  return new WebAssembly.Instance(new WebAssembly.Module(module), { host: { memory } }).exports;
}
