/**
 * A vitest reporter for scripts/test.mjs: writes counts, and the skipped tests with their reasons, as JSON into the file
 * that SHOAL_TEST_COUNTS names, and tells why a test that passed was tried more than once. A file that cannot be loaded
 * and an error outside any test count as failed tests.
 */

import { writeFileSync } from 'node:fs';

export default class Counts {
  /** One that went well at a later try is looked at all the same: what went wrong stays in the record. */
  onTestCaseResult(test) {
    const { state, errors = [] } = test.result();
    if (state !== 'passed') return;
    for (const { message } of errors) console.log(`tried again: ${test.fullName}: ${message}`);
  }

  onTestRunEnd(modules, unhandled) {
    const counts = { passed: 0, failed: unhandled.length, skips: [] };
    for (const module of modules) {
      counts.failed += module.errors().length;
      for (const suite of module.children.allSuites()) counts.failed += suite.errors().length;
      for (const test of module.children.allTests()) {
        const result = test.result();
        if (result.state === 'passed') counts.passed++;
        else if (result.state === 'failed') counts.failed++;
        else counts.skips.push(`${module.relativeModuleId} > ${test.fullName}: ${result.note ?? 'no reason given'}`);
      }
    }
    const target = process.env.SHOAL_TEST_COUNTS;
    if (target !== undefined) writeFileSync(target, JSON.stringify(counts));
  }
}
