import { expect, test } from 'vitest';
import { type Role, runAttack } from './attack.ts';

const SEEDS = Number(process.env['ATTACK_SEEDS'] ?? 25);
const FIRST = Number(process.env['ATTACK_FIRST'] ?? 1);

for (const role of ['leech', 'magnet', 'seed'] as const satisfies readonly Role[]) {
  test(`counts hold whatever strangers say, as ${role}`, () => {
    const counts = new Map<string, number>();
    for (let seed = FIRST; seed < FIRST + SEEDS; seed++) {
      const report = runAttack({ seed, role, moves: 400, slots: seed % 3 === 0 ? 24 : 96, private: seed % 5 === 0 });
      if (report.wrong !== null) {
        throw new Error(`${role}, seed ${seed}: ${report.wrong}\n${report.log.slice(-25).join('\n')}`);
      }
      for (const [what, n] of report.counts) counts.set(what, (counts.get(what) ?? 0) + n);
      counts.set('verified', (counts.get('verified') ?? 0) + report.verified);
    }
    if (process.env['ATTACK_COUNTS'] !== undefined) console.log(role, Object.fromEntries(counts));
    // the attack is of no use if it does not get that far
    expect(counts.get('verified')).toBeGreaterThan(SEEDS * 3);
    if (role === 'seed') expect(counts.get('served')).toBeGreaterThan(SEEDS);
  });
}
