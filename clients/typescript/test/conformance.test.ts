import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';

import { play } from './conformance.js';
import { given } from './services.js';

const scripted = given('TEST_SCRIPTED');
const cases = execFileSync(scripted, ['--list'], { encoding: 'utf8' }).split('\n').filter(Boolean);

test('the table of cases is there', () => {
  assert.ok(cases.includes('plain'));
});

for (const name of cases) {
  test(`conformance: ${name}`, { timeout: 60_000 }, async () => {
    assert.equal(await play(scripted, name), undefined);
  });
}
