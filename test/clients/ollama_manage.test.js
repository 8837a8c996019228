// Ollama's own npm package, where it changes models.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, test } from 'node:test';
import { Ollama } from 'ollama';
import { closed, collect, failure, patience, startFleet, uneven } from './stage.js';

const names = ({ models }) => models.map((m) => m.name.replace(':latest', '')).sort();

// Checks that no layer goes back and gives the statuses that are of no layer.
function checkProgress(records) {
  const layers = new Map();
  for (const r of records.filter((r) => r.digest)) {
    const was = layers.get(r.digest) ?? { completed: 0, total: r.total };
    const completed = r.completed ?? 0; // 0 is left out, as by a node
    assert.ok(completed >= was.completed && r.total === was.total && completed <= r.total, `${JSON.stringify(r)} after ${JSON.stringify(was)}`);
    layers.set(r.digest, { completed, total: r.total });
  }
  for (const [digest, last] of layers) assert.equal(last.completed, last.total, digest);
  return records.filter((r) => !r.digest).map((r) => r.status);
}

describe('npm ollama changes models', { concurrency: 2 }, () => {
  test('three nodes are managed as one', patience, async () => {
    const fleet = await startFleet(uneven);
    const client = new Ollama({ host: fleet.url });
    const lists = async (gateway, ...nodes) => {
      assert.deepEqual(names(await client.list()), gateway);
      for (const [i, want] of nodes.entries()) assert.deepEqual(names(await new Ollama({ host: fleet.nodes[i] }).list()), want, `node ${i + 1}`);
    };

    const records = [];
    let killed = false;
    for await (const r of await client.pull({ model: 'sim-embed', stream: true })) {
      records.push(r);
      if (r.completed > 0 && !killed) {
        killed = true;
        await fleet.killNode(2);
      }
    }
    assert.ok(killed);
    assert.match(
      checkProgress(records).join('\n'),
      /^pulling manifest\nverifying sha256 digest\nwriting manifest\nfailed on node 1: no space left on its disk\nfailed on node 3: (the connection was lost|it could not be reached)\nsuccess$/,
    );
    await lists(['sim-chat', 'sim-embed'], ['sim-chat'], ['sim-chat', 'sim-embed']);

    assert.deepEqual(await client.copy({ source: 'sim-embed', destination: 'mine' }), { status: 'success' });
    await lists(['mine', 'sim-chat', 'sim-embed'], ['sim-chat'], ['mine', 'sim-chat', 'sim-embed']);
    assert.equal((await client.show({ model: 'mine' })).details.family, 'nomic-bert');

    // This client sends no files: who uses it sends them by itself.
    const file = `GGUF${'weights '.repeat(1000)}`;
    const digest = `sha256:${createHash('sha256').update(file).digest('hex')}`;
    const blob = `${fleet.url}/api/blobs/${digest}`;
    assert.equal((await fetch(blob, { method: 'HEAD' })).status, 404);
    assert.equal((await fetch(blob, { method: 'POST', body: file })).status, 201);
    const made = await collect(await client.create({ model: 'made', files: { 'made.gguf': digest }, system: 'be short', stream: true }));
    assert.equal(checkProgress(made).at(-1), 'success');
    assert.equal((await client.create({ model: 'made-too', from: 'made', system: 'be long' })).status, 'success');
    const all = ['made', 'made-too', 'mine', 'sim-chat', 'sim-embed'];
    await lists(all, ['made', 'made-too', 'sim-chat'], all);

    for (const model of ['made', 'made-too', 'mine']) assert.deepEqual(await client.delete({ model }), { status: 'success' });
    await lists(['sim-chat', 'sim-embed'], ['sim-chat'], ['sim-chat', 'sim-embed']);
    const again = await failure(client.delete({ model: 'mine' }));
    assert.deepEqual([again.status_code, again.message], [404, "model 'mine' not found"]);

    for (const stream of [true, false]) {
      const error = await failure((async () => {
        const answer = await client.pull({ model: 'nobody-has-this', stream });
        return stream ? collect(answer) : answer;
      })());
      assert.equal(error.message, 'pull model manifest: file does not exist');
    }
  });

  test('it is refused where it is denied', patience, async () => {
    const fleet = await startFleet({ scale: 0.05, manage: 'deny' });
    const client = new Ollama({ host: fleet.url });
    for (const [what, ask] of [
      ['pull', () => client.pull({ model: 'sim-chat' })],
      ['pull, streamed', () => client.pull({ model: 'sim-chat', stream: true })],
      ['push', () => client.push({ model: 'sim-chat' })],
      ['create', () => client.create({ model: 'mine', from: 'sim-chat' })],
      ['copy', () => client.copy({ source: 'sim-chat', destination: 'mine' })],
      ['delete', () => client.delete({ model: 'sim-chat' })],
    ]) {
      const error = await failure(ask());
      assert.deepEqual([error.name, error.status_code, error.message, error.error], ['ResponseError', 403, closed, closed], what);
    }
    assert.deepEqual(names(await client.list()), ['sim-chat']);
  });
});
