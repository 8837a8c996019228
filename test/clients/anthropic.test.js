// Anthropic's npm package.
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import Anthropic from '@anthropic-ai/sdk';
import {
  busy, checkCity, checkRepeats, citySchema, collect, failure, full, gateway, kept, kinds, lost, notStored, patience, readBroken, startFleet,
} from './stage.js';

const open = (baseURL, more) => new Anthropic({ baseURL, apiKey: 'unused', maxRetries: 0, ...more });
const client = open(gateway);
const user = (content) => [{ role: 'user', content }];
const weather = { name: 'get_weather', description: 'Weather of a city', input_schema: citySchema };
const textBlock = ['content_block_start', 'content_block_delta', 'content_block_stop'];

function checkMessage(m, model, reason, blocks) {
  assert.match(m.id, /^msg_[0-9a-f]{24}$/);
  assert.deepEqual([m.type, m.role, m.model, m.stop_reason], ['message', 'assistant', model, reason]);
  assert.ok(m.usage.input_tokens > 0 && m.usage.output_tokens > 0, JSON.stringify(m.usage));
  assert.deepEqual(m.content.map((b) => b.type), blocks);
  return m.content.filter((b) => b.type === 'text').map((b) => b.text).join('');
}

// Checks the order of a stream's events: blocks one after another, counted from 0.
function checkOrder(events, blocks) {
  assert.equal(events[0].type, 'message_start');
  assert.deepEqual(events.slice(-2).map((e) => e.type), ['message_delta', 'message_stop']);
  const inside = events.slice(1, -2);
  assert.deepEqual(kinds(inside), blocks.flatMap(() => textBlock));
  assert.deepEqual(inside.filter((e) => e.type === 'content_block_start').map((e) => [e.index, e.content_block.type]), blocks.map((b, i) => [i, b]));
  let index = -1;
  for (const e of inside) {
    if (e.type === 'content_block_start') index++;
    assert.equal(e.index, index, e.type);
  }
}

describe('npm anthropic', { concurrency: 8 }, () => {
  for (const model of ['SIM-Small', 'sim-small:LATEST']) {
    test(`a message of ${model} says the same streamed and single`, patience, async () => {
      const request = { model, max_tokens: 500, messages: user('why is the sky blue'), system: 'be short', temperature: 0 };
      const single = await client.messages.create(request);
      const text = checkMessage(single, model, 'end_turn', ['text']);
      assert.ok(text.length > 40, text);

      const events = await collect(await client.messages.create({ ...request, stream: true }));
      checkOrder(events, ['text']);
      const deltas = events.filter((e) => e.type === 'content_block_delta');
      assert.ok(deltas.length >= 40 && deltas.every((e) => e.delta.type === 'text_delta'), `${deltas.length} deltas`);
      assert.equal(deltas.map((e) => e.delta.text).join(''), text);
      const { message } = events[0];
      assert.deepEqual([message.model, message.role, message.content, message.usage.output_tokens], [model, 'assistant', [], 0]);
      assert.ok(message.usage.input_tokens > 0, 'an estimate');
      assert.equal(events.at(-2).delta.stop_reason, 'end_turn');
      assert.deepEqual(events.at(-2).usage, single.usage);
    });
  }

  test('the helper makes the single answer of a stream', patience, async () => {
    const request = { model: 'sim-small', max_tokens: 500, messages: user([{ type: 'text', text: 'helper' }]), temperature: 0 };
    const single = await client.messages.create(request);
    const stream = client.messages.stream(request);
    let heard = '';
    stream.on('text', (delta) => { heard += delta; });
    const whole = await stream.finalMessage();
    assert.equal(checkMessage(whole, 'sim-small', 'end_turn', ['text']), single.content[0].text);
    assert.equal(heard, single.content[0].text);
    assert.equal(await stream.finalText(), heard);
    assert.deepEqual([whole.usage.input_tokens, whole.usage.output_tokens], [single.usage.input_tokens, single.usage.output_tokens]);
  });

  test('max_tokens cut the answer, a stop sequence ends the turn', patience, async () => {
    const request = { model: 'sim-small', max_tokens: 3, messages: user('tell me more'), temperature: 0 };
    const cut = await client.messages.create(request);
    checkMessage(cut, 'sim-small', 'max_tokens', ['text']);
    assert.equal(cut.usage.output_tokens, 3);
    checkMessage(await client.messages.stream(request).finalMessage(), 'sim-small', 'max_tokens', ['text']);
    const stopped = await client.messages.create({ ...request, max_tokens: 500, stop_sequences: ['.'] });
    assert.ok(!checkMessage(stopped, 'sim-small', 'end_turn', ['text']).includes('.')); // not "stop_sequence"
    assert.equal(stopped.stop_sequence ?? null, null);
  });

  test('tools are called and their results answered', patience, async () => {
    const messages = user('what is the weather in Paris?');
    const request = { model: 'sim-tool', max_tokens: 500, messages, tools: [weather], temperature: 0 };
    const single = await client.messages.create(request);
    const events = await collect(await client.messages.create({ ...request, stream: true }));
    checkOrder(events, ['text', 'tool_use']); // white space comes before the call
    const json = events.filter((e) => e.delta?.type === 'input_json_delta');
    assert.equal(json.length, 1, 'the arguments come at once');
    checkCity(JSON.parse(json[0].delta.partial_json));
    const helped = await client.messages.stream(request).finalMessage();
    for (const m of [single, helped]) {
      checkMessage(m, 'sim-tool', 'tool_use', ['text', 'tool_use']);
      const call = m.content[1];
      assert.equal(call.name, 'get_weather');
      assert.match(call.id, /^call_[a-z0-9]{8}$/);
      checkCity(call.input);
      const answered = {
        ...request,
        messages: [...messages, { role: 'assistant', content: [{ type: 'tool_use', id: call.id, name: call.name, input: call.input }] },
          { role: 'user', content: [{ type: 'tool_result', tool_use_id: call.id, content: '11 degrees' }] }],
      };
      const after = await client.messages.create(answered);
      assert.ok(checkMessage(after, 'sim-tool', 'end_turn', ['text']).length > 40);
      checkMessage(await client.messages.stream(answered).finalMessage(), 'sim-tool', 'end_turn', ['text']);
    }
  });

  test('thinking comes apart from the answer', patience, async () => {
    for (const thinking of [undefined, { type: 'enabled', budget_tokens: 1024 }]) {
      const request = { model: 'sim-think', max_tokens: 2000, messages: user('think'), thinking, temperature: thinking ? undefined : 0 };
      const single = await client.messages.create(request);
      const text = checkMessage(single, 'sim-think', 'end_turn', ['thinking', 'text']);
      assert.ok(single.content[0].thinking.length > 10 && text.length > 40, JSON.stringify(single.content));
      assert.equal('signature' in single.content[0], false, 'a node signs nothing');
      const events = await collect(await client.messages.create({ ...request, stream: true }));
      checkOrder(events, ['thinking', 'text']);
      const whole = await client.messages.stream(request).finalMessage();
      checkMessage(whole, 'sim-think', 'end_turn', ['thinking', 'text']);
      if (!thinking) assert.equal(whole.content[0].thinking, single.content[0].thinking);
    }
    const quiet = await client.messages.create({ model: 'sim-think', max_tokens: 2000, messages: user('do not'), thinking: { type: 'disabled' } });
    checkMessage(quiet, 'sim-think', 'end_turn', ['text']);
    // A model that cannot think just answers, unlike in the other dialects.
    const plain = await client.messages.create({ model: 'sim-small', max_tokens: 2000, messages: user('think'), thinking: { type: 'enabled', budget_tokens: 1024 } });
    checkMessage(plain, 'sim-small', 'end_turn', ['text']);
  });

  test('what is empty after translation loads the model and says nothing', patience, async () => {
    const m = await client.messages.create({ model: 'sim-small', max_tokens: 5, messages: user('') });
    assert.deepEqual([m.content, m.stop_reason, m.usage], [null, 'stop_sequence', { input_tokens: 0, output_tokens: 0 }]);
  });

  test('errors have a node\'s status, type and words', patience, async () => {
    const request = { model: 'sim-chat', max_tokens: 5, messages: user('hi') };
    for (const [what, more, kind, type, message] of [
      ['unknown model', { model: 'nope' }, Anthropic.NotFoundError, 'not_found_error', "model 'nope' not found"],
      ['unknown model, streamed', { model: 'nope', stream: true }, Anthropic.NotFoundError, 'not_found_error', "model 'nope' not found"],
      ['no model', { model: '' }, Anthropic.BadRequestError, 'invalid_request_error', 'model is required'],
      ['invalid name', { model: 'a b' }, Anthropic.BadRequestError, 'invalid_request_error', 'invalid model name'],
      ['no max_tokens', { max_tokens: 0 }, Anthropic.BadRequestError, 'invalid_request_error', 'max_tokens is required and must be positive'],
      ['no messages', { messages: [] }, Anthropic.BadRequestError, 'invalid_request_error', 'messages is required'],
      ['no tools', { tools: [weather] }, Anthropic.BadRequestError, 'invalid_request_error', 'registry.ollama.ai/library/sim-chat:latest does not support tools'],
      ['no tools, streamed', { tools: [weather], stream: true }, Anthropic.BadRequestError, 'invalid_request_error', 'registry.ollama.ai/library/sim-chat:latest does not support tools'],
      ['embedding model', { model: 'sim-embed' }, Anthropic.BadRequestError, 'invalid_request_error', '"sim-embed" does not support chat'],
      ['image by URL', { messages: user([{ type: 'image', source: { type: 'url', url: 'http://localhost/x.png' } }]) }, Anthropic.BadRequestError, 'invalid_request_error',
        'invalid image source type: url. Only base64 images are supported.'],
    ]) {
      const error = await failure(client.messages.create({ ...request, ...more }));
      assert.ok(error instanceof kind, `${what}: ${error}`);
      const { request_id, ...body } = error.error;
      assert.deepEqual(body, { type: 'error', error: { type, message } }, what);
      assert.match(request_id, /^req_[0-9a-f]{24}$/, what);
    }
    const hosted = await failure(client.messages.create({ ...request, model: 'gpt-oss:120b-cloud' })); // a native refusal on every route
    assert.ok(hosted instanceof Anthropic.PermissionDeniedError, `${hosted}`);
    assert.deepEqual(hosted.error, { error: 'ollama cloud is disabled: remote model is unavailable' });
    const counted = await failure(client.messages.countTokens({ model: 'sim-chat', messages: user('hi') })); // a node has no such route
    assert.ok(counted instanceof Anthropic.NotFoundError, `${counted}`);
  });

  test('aborting a stream frees the slot', patience, async () => {
    const fleet = await startFleet();
    const client = open(fleet.url);
    const stream = client.messages.stream({ model: 'sim-chat', max_tokens: 500, messages: user('tell me more') });
    stream.once('text', () => stream.abort());
    assert.ok((await failure(stream.finalMessage())) instanceof Anthropic.APIUserAbortError);
    await fleet.idle();
    const after = await client.messages.create({ model: 'sim-chat', max_tokens: 2, messages: user('next') });
    checkMessage(after, 'sim-chat', 'max_tokens', ['text']);
  });

  test('a stream that breaks off is an error, not success', patience, async () => {
    const fleet = await startFleet({ nodes: 3 });
    const client = open(fleet.url);
    const request = { model: 'sim-chat', max_tokens: 500, messages: user('tell me more') };
    const { came, error } = await readBroken(await client.messages.create({ ...request, stream: true }), fleet.kill, (e) => e.type === 'content_block_delta');
    assert.ok(error instanceof Anthropic.APIError, `${error}`);
    assert.deepEqual(error.error, { type: 'error', error: { type: 'api_error', message: lost } });
    assert.deepEqual(kinds(came), ['message_start', 'content_block_start', 'content_block_delta']);

    const stream = client.messages.stream(request);
    const killed = new Promise((resolve, reject) => stream.once('text', () => fleet.kill().then(resolve, reject)));
    const helped = await failure(stream.finalMessage());
    await killed;
    assert.ok(helped instanceof Anthropic.APIError && helped.message.includes(lost), `${helped}`);
    checkMessage(await client.messages.create({ ...request, max_tokens: 2 }), 'sim-chat', 'max_tokens', ['text']);
  });

  test('a full queue is an overload with Retry-After, and who retries is served', patience, async () => {
    const fleet = await startFleet(full);
    const client = open(fleet.url);
    const request = { model: 'sim-chat', max_tokens: 2, messages: user('me too') };
    const holds = await client.messages.create({ ...request, max_tokens: 500, stream: true });
    for await (const event of holds) { // it holds the slot once it speaks
      if (event.type === 'content_block_delta') {
        // Of two that come now one waits and one is refused, whichever is first.
        const asked = [1, 2].map(() => client.messages.create(request));
        const refused = await failure(Promise.race(asked));
        assert.ok(refused instanceof Anthropic.InternalServerError, `${refused}`);
        assert.deepEqual([refused.status, refused.headers.get('retry-after'), refused.error.error], [503, '2', { type: 'overloaded_error', message: busy }]);
        const obeys = open(fleet.url, { maxRetries: 2 }).messages.create(request); // refused, too; it comes back
        holds.controller.abort();
        checkMessage(await obeys, 'sim-chat', 'max_tokens', ['text']);
        const served = (await Promise.allSettled(asked)).filter((one) => one.status === 'fulfilled');
        assert.equal(served.length, 1);
        checkMessage(served[0].value, 'sim-chat', 'max_tokens', ['text']);
        break;
      }
    }
  });
});

describe('npm anthropic and the cache', () => {
  let fleet;
  let client;
  before(async () => {
    fleet = await startFleet(kept);
    client = open(fleet.url);
  }, patience);

  // Asks for a message in either shape and gives all of it that is the same in a replay.
  const message = (request, reason, blocks, check = () => {}) => async (streamed, prompt) => {
    const wanted = { max_tokens: 2000, ...request, messages: user(prompt) };
    let m;
    if (streamed) {
      const stream = client.messages.stream(wanted);
      const events = await collect(stream);
      checkOrder(events, blocks);
      m = await stream.finalMessage();
    } else {
      m = await client.messages.create(wanted);
    }
    checkMessage(m, request.model, reason, blocks);
    check(m);
    const { input_tokens, output_tokens } = m.usage;
    const said = m.content.map(({ type, text, thinking, id, name, input }) => ({ type, text, thinking, id, name, input }));
    return { id: m.id, said, input_tokens, output_tokens };
  };

  test('a message that is repeated is not generated again', patience, async () => {
    await checkRepeats(fleet, 'a message', message({ model: 'SIM-Small', system: 'be short' }, 'end_turn', ['text']));
  });

  test('nor is one that is cut by max_tokens', patience, async () => {
    await checkRepeats(fleet, 'a short one', message({ model: 'sim-small', max_tokens: 5 }, 'max_tokens', ['text']));
  });

  test('nor one that thinks', patience, async () => {
    await checkRepeats(fleet, 'think', message({ model: 'sim-think', thinking: { type: 'enabled', budget_tokens: 1024 } }, 'end_turn', ['thinking', 'text']));
  });

  test('nor one that calls a tool, whose id stays', patience, async () => {
    await checkRepeats(fleet, 'what is the weather in Paris?', message({ model: 'sim-tool', tools: [weather] }, 'tool_use', ['text', 'tool_use'], (m) => {
      assert.match(m.content[1].id, /^call_[a-z0-9]{8}$/);
      checkCity(m.content[1].input);
    }));
  });

  test('who wants a stored answer or none hears that there is none', patience, async () => {
    const only = { headers: { 'Cache-Control': 'only-if-cached' } };
    const request = { model: 'sim-small', max_tokens: 5, messages: user('have you said it before') };
    for (const ask of [() => client.messages.create(request, only), () => client.messages.stream(request, only).finalMessage()]) {
      const error = await failure(ask());
      assert.ok(error instanceof Anthropic.InternalServerError, `${error}`);
      const { request_id, ...body } = error.error;
      assert.deepEqual([error.status, body], [504, { type: 'error', error: { type: 'api_error', message: notStored } }]);
    }
    const first = await client.messages.create(request);
    const { data, response } = await client.messages.create(request, only).withResponse();
    assert.deepEqual(data.content, first.content);
    assert.match(response.headers.get('cache-status'), /^caddy-ollama; hit; ttl=\d+$/);
  });
});
