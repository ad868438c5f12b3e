/** The tests of this folder against real clients, for `npm test`; see scripts/interop.mjs. */
import { runInterop } from '../../scripts/interop.mjs';

process.exitCode = await runInterop([]);
