// What the tests of all clients need: the gateway, fleets of their own to hurt, and the few
// things that every dialect is asked for.
import assert from 'node:assert/strict';

/** The gateway that all tests share; they only ask it. */
export const gateway = need('GATEWAY');

const stage = need('STAGE');

/** How long a test may take, in ms. It is far above what a slow machine needs. */
export const patience = { timeout: 60_000 };

/** What the gateway says of a stream whose node was lost. */
export const lost = 'the answer is incomplete: the connection to the Ollama node was lost';

/** What a queue without room says; the two spaces are a node's. */
export const busy = 'server busy, please try again.  maximum pending requests exceeded';

/** What a cache without the answer says to a client that wants no other. */
export const notStored = 'there is no stored answer, and the request says only-if-cached';

/** What a route says whose operation nobody may use. */
export const closed = 'managing models is not allowed here; ask the operator of this gateway';

function need(name) {
  if (!process.env[name]) throw new Error(`${name} is not set: these tests are run by TestNodeClients, see doc.go`);
  return process.env[name];
}

async function ask(method, path, body) {
  const answer = await fetch(stage + path, { method, body: body && JSON.stringify(body) });
  const text = await answer.text();
  assert.ok(answer.ok, `${method} ${path}: ${text}`);
  return JSON.parse(text);
}

/**
 * Starts a gateway in front of nodes of its own, of one slot each, whose answers take a second
 * at least after their first token. It ends with the tests.
 */
export async function startFleet(plan) {
  const { id, url, nodes } = await ask('POST', '/fleets', { models: ['sim-chat'], ...plan });
  return {
    url,
    /** The URLs of the nodes themselves. */
    nodes,
    /** Kills a node, by its place in nodes. */
    killNode: (i) => ask('POST', `/fleets/${id}/kill/${i}`),
    /** Kills the one node that is answering, as a crash would. */
    kill: () => ask('POST', `/fleets/${id}/kill`),
    /** Comes back once no request holds a slot. */
    idle: () => ask('GET', `/fleets/${id}/idle`),
    /** Counts the answers and vectors that the nodes have made so far. */
    generated: () => ask('GET', `/fleets/${id}/generated`),
  };
}

/** A fleet whose gateway keeps all answers, sampled ones and calls of tools, too. */
export const kept = JSON.parse(need('KEPT'));

/** Three nodes that end a pull of sim-embed in three ways, see ollama_manage_test.go. */
export const uneven = JSON.parse(need('UNEVEN'));

/** The shapes of two requests in all orders: is the first one streamed, and the second? */
const orders = [[false, false], [true, true], [false, true], [true, false]];

/** The only order of what has no streams. */
export const single = [[false, false]];

/**
 * Asks the same twice, in each order of shapes. The nodes make the first answer alone, and the
 * second says the same under another id.
 *
 * ask(streamed, prompt, place) has a client ask one of the two and check what it gets, and gives
 * all of it that must be the same, and the id where the dialect has one.
 */
export async function checkRepeats(fleet, prompt, ask, shapes = orders) {
  for (const [i, order] of shapes.entries()) {
    const what = `${prompt}, ${order.map((streamed) => (streamed ? 'streamed' : 'whole')).join(' and then ')}`;
    const before = await fleet.generated();
    const first = await ask(order[0], `${prompt} ${i}`, 0);
    assert.equal(await fleet.generated(), before + 1, `${what}: the first answer`);
    const second = await ask(order[1], `${prompt} ${i}`, 1);
    assert.equal(await fleet.generated(), before + 1, `${what}: it was generated again`);
    assert.deepEqual({ ...second, id: 0 }, { ...first, id: 0 }, what);
    if (first.id !== undefined) assert.notEqual(second.id, first.id, `${what}: the id`);
  }
}

/** A fleet with one slot and room for one that waits. */
export const full = { queue: '\t\t\tmax_length 1\n\t\t\tmax_wait 30s' };

/** A tool's parameters. */
export const citySchema = {
  type: 'object',
  properties: { city: { type: 'string' }, unit: { type: 'string', enum: ['celsius', 'fahrenheit'] } },
  required: ['city'],
};

export function checkCity(args) {
  assert.deepEqual(Object.keys(args).sort(), ['city', 'unit']);
  assert.ok(typeof args.city === 'string' && args.city.length > 0, `city: ${args.city}`);
  assert.ok(['celsius', 'fahrenheit'].includes(args.unit), `unit: ${args.unit}`);
}

/** A schema for an answer. */
export const personSchema = {
  type: 'object',
  properties: { name: { type: 'string' }, age: { type: 'integer', minimum: 1 }, mood: { type: 'string', enum: ['calm', 'glad'] } },
  required: ['name', 'age', 'mood'],
  additionalProperties: false,
};

export function checkPerson(text) {
  const person = JSON.parse(text);
  assert.deepEqual(Object.keys(person).sort(), ['age', 'mood', 'name']);
  assert.ok(typeof person.name === 'string' && person.name.length > 0, text);
  assert.ok(Number.isInteger(person.age) && person.age >= 1, text);
  assert.ok(['calm', 'glad'].includes(person.mood), text);
}

export function checkUnit(vector, dimensions) {
  assert.equal(vector.length, dimensions);
  const square = vector.reduce((sum, x) => sum + x * x, 0);
  assert.ok(Math.abs(square - 1) < 1e-4, `a vector of length ${Math.sqrt(square)}`);
}

/** Reads a stream to its end. */
export async function collect(stream) {
  const all = [];
  for await (const one of stream) all.push(one);
  return all;
}

/** The error a promise ends with; it is one if there is none. */
export async function failure(promise) {
  let value;
  try {
    value = await promise;
  } catch (error) {
    return error;
  }
  assert.fail(`no error but ${JSON.stringify(value)}`);
}

/** Reads a stream that breaks off: hurt is called at the first piece. It gives what came and the error. */
export async function readBroken(stream, hurt, isFirst = () => true) {
  const came = [];
  let hurting;
  try {
    for await (const one of stream) {
      came.push(one);
      if (!hurting && isFirst(one)) await (hurting = hurt());
    }
  } catch (error) {
    assert.ok(hurting, `it broke off by itself: ${error}`);
    return { came, error };
  }
  assert.fail(`a stream that broke off ended as if it were whole, after ${came.length} pieces: ${JSON.stringify(came.at(-1))}`);
}

/** Lists the kinds of the events, each run of equal ones once. */
export function kinds(events) {
  return events.map((e) => e.type).filter((type, i, all) => type !== all[i - 1]);
}
