/** Shell completions: `shoal complete bash|zsh|fish|powershell` prints a script. The only file that knows @bomb.sh/tab. */

import type { Command } from 'commander';

const SHELLS = 'bash, zsh, fish or powershell';

/** The command as help shows it; cheap, so that every start can have it. */
export function addCompletionsHelp(program: Command): void {
  program
    .command('complete')
    .argument('<shell>', SHELLS)
    .description('print a completion script for your shell')
    .addHelpText('after', '\nExamples:\n  source <(shoal complete bash)\n  shoal complete fish | source');
}

/** The command itself; it must know all other commands, so it is added last. */
export async function addCompletions(program: Command): Promise<void> {
  const { default: tab } = await import('@bomb.sh/tab/commander');
  tab(program);
}
