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
export async function addCompletions(program: Command, shell: string | undefined): Promise<void> {
  const { default: tab } = await import('@bomb.sh/tab/commander');
  tab(program);
  if (shell === 'bash') process.stdout.write(BASH_WORDS);
}

/** The script for bash asks for this function of the package bash-completion, which not every system has. */
const BASH_WORDS = `if ! type _get_comp_words_by_ref >/dev/null 2>&1; then
  _get_comp_words_by_ref() {
    while [ $# -gt 0 ]; do
      case $1 in
        -n) shift ;;
        cur) cur=\${COMP_WORDS[COMP_CWORD]} ;;
        prev) prev=\${COMP_WORDS[COMP_CWORD - 1]} ;;
        words) words=("\${COMP_WORDS[@]}") ;;
        cword) cword=$COMP_CWORD ;;
      esac
      shift
    done
  }
fi
`;
