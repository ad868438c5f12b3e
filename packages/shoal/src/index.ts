/** `shoal` for programs is the engine: `import { Session } from 'shoal'`. The command line is in `cli/`. */
export * from '@shoal/engine';
