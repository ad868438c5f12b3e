/** Which view a transfer gets: JSON lines when asked for, the live display on a terminal, plain lines otherwise. */

import { JsonLines, JsonView } from './json.ts';
import { LiveView } from './live.ts';
import { PlainView } from './plain.ts';
import { Screen } from './screen.ts';
import { isLive, themeOf } from './theme.ts';
import type { TransferView } from './view.ts';

/** `resumes`: whether the same command goes on where this one stops. */
export function chooseView(json: boolean, resumes = true): TransferView {
  if (json) return new JsonView(new JsonLines());
  if (!isLive(process.stdout, process.env)) return new PlainView(resumes);
  const screen = new Screen(process.stdout);
  // Whatever way the process ends, the cursor comes back.
  process.on('exit', () => screen.close());
  return new LiveView(screen, themeOf(process.stdout, process.env), resumes);
}
