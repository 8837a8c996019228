// OpenAI's npm package: the Responses API.
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import OpenAI from 'openai';
import {
  checkCity, checkPerson, checkRepeats, citySchema, collect, failure, gateway, kept, kinds, lost, notStored, patience, personSchema, readBroken, startFleet,
} from './stage.js';

const open = (url) => new OpenAI({ baseURL: `${url}/v1`, apiKey: 'unused', maxRetries: 0 });
const client = open(gateway);
const weather = { type: 'function', name: 'get_weather', description: 'Weather of a city', parameters: citySchema, strict: false };

function checkResponse(r, model, output) {
  assert.match(r.id, /^resp_\d+$/);
  assert.deepEqual([r.object, r.model, r.status], ['response', model, 'completed']);
  assert.deepEqual([r.error, r.incomplete_details, r.previous_response_id, r.store], [null, null, null, false]);
  assert.ok(Math.abs(r.created_at - Date.now() / 1000) < 3600, `${r.created_at}`);
  assert.ok(r.usage.input_tokens > 0 && r.usage.output_tokens > 0, JSON.stringify(r.usage));
  assert.equal(r.usage.total_tokens, r.usage.input_tokens + r.usage.output_tokens);
  assert.deepEqual(r.output.map((item) => item.type), output);
}

function checkNumbers(events) {
  events.forEach((e, i) => assert.equal(e.sequence_number, i));
}

const textEvents = [
  'response.output_item.added', 'response.content_part.added', 'response.output_text.delta', 'response.output_text.done',
  'response.content_part.done', 'response.output_item.done',
];

describe('npm openai responses', { concurrency: 8 }, () => {
  test('a response says the same streamed and single', patience, async () => {
    const request = { model: 'SIM-Small:latest', input: 'why is the sky blue', instructions: 'be short', temperature: 0 };
    const single = await client.responses.create(request);
    checkResponse(single, 'SIM-Small:latest', ['message']);
    const [message] = single.output;
    assert.match(message.id, /^msg_\d+$/);
    assert.deepEqual([message.role, message.status, message.content.length], ['assistant', 'completed', 1]);
    assert.equal(single.instructions, 'be short');
    assert.ok(single.output_text.length > 40, single.output_text);

    const events = await collect(await client.responses.create({ ...request, stream: true }));
    assert.deepEqual(kinds(events), ['response.created', 'response.in_progress', ...textEvents, 'response.completed']);
    checkNumbers(events);
    const deltas = events.filter((e) => e.type === 'response.output_text.delta');
    assert.ok(deltas.length >= 40, `${deltas.length} deltas`);
    assert.equal(deltas.map((e) => e.delta).join(''), single.output_text);
    assert.equal(events[0].response.status, 'in_progress');
    assert.equal(events[0].response.id, events.at(-1).response.id);
    checkResponse(events.at(-1).response, 'SIM-Small:latest', ['message']);
    assert.deepEqual(events.at(-1).response.usage, single.usage);
  });

  test('the helper makes the single answer of a stream', patience, async () => {
    const request = { model: 'sim-small', input: [{ role: 'user', content: [{ type: 'input_text', text: 'helper' }] }], temperature: 0 };
    const single = await client.responses.create(request);
    const whole = await client.responses.stream(request).finalResponse();
    checkResponse(whole, 'sim-small', ['message']);
    assert.equal(whole.output_text, single.output_text);
  });

  test('max_output_tokens cut the answer, which is called completed', patience, async () => {
    const r = await client.responses.create({ model: 'sim-small', input: 'tell me more', max_output_tokens: 3 });
    checkResponse(r, 'sim-small', ['message']);
    assert.equal(r.usage.output_tokens, 3);
    assert.equal(r.max_output_tokens, 3);
  });

  test('tools are called and their results answered', patience, async () => {
    const request = { model: 'sim-tool', input: 'what is the weather in Paris?', tools: [weather], temperature: 0 };
    const single = await client.responses.create(request);
    checkResponse(single, 'sim-tool', ['function_call']);
    const events = await collect(await client.responses.create({ ...request, stream: true }));
    checkNumbers(events);
    // White space comes before the call; the item it opened stays open and shares its index.
    assert.deepEqual(kinds(events), [
      'response.created', 'response.in_progress', 'response.output_item.added', 'response.content_part.added', 'response.output_text.delta',
      'response.output_item.added', 'response.function_call_arguments.delta', 'response.function_call_arguments.done', 'response.output_item.done',
      'response.completed',
    ]);
    assert.deepEqual(events.filter((e) => e.type === 'response.output_item.added').map((e) => [e.item.type, e.output_index]), [['message', 0], ['function_call', 0]]);
    checkResponse(events.at(-1).response, 'sim-tool', ['function_call']);
    const helped = await client.responses.stream(request).finalResponse();
    checkResponse(helped, 'sim-tool', ['function_call']);

    for (const r of [single, events.at(-1).response, helped]) {
      const [call] = r.output;
      assert.deepEqual([call.name, call.status], ['get_weather', 'completed']);
      assert.match(call.call_id, /^call_[a-z0-9]{8}$/);
      assert.match(call.id, /^fc_/);
      checkCity(JSON.parse(call.arguments));
      const { id, type, call_id, name, arguments: args } = call;
      const after = await client.responses.create({
        ...request,
        input: [{ role: 'user', content: request.input }, { id, type, call_id, name, arguments: args }, { type: 'function_call_output', call_id, output: '11 degrees' }],
      });
      checkResponse(after, 'sim-tool', ['message']);
      assert.ok(after.output_text.length > 40, after.output_text);
    }
  });

  test('reasoning comes apart from the answer', patience, async () => {
    const request = { model: 'sim-think', input: 'think', temperature: 0, reasoning: { effort: 'high' } };
    const single = await client.responses.create(request);
    checkResponse(single, 'sim-think', ['reasoning', 'message']);
    const [reasoning] = single.output;
    assert.match(reasoning.id, /^rs_/);
    assert.equal(reasoning.summary.length, 1);
    assert.equal(reasoning.encrypted_content, reasoning.summary[0].text, 'it is the plain text');
    const events = await collect(await client.responses.create({ ...request, stream: true }));
    checkNumbers(events);
    assert.deepEqual(kinds(events), [
      'response.created', 'response.in_progress', 'response.output_item.added', 'response.reasoning_summary_text.delta',
      'response.reasoning_summary_text.done', 'response.output_item.done', ...textEvents, 'response.completed',
    ]);
    const whole = events.at(-1).response;
    checkResponse(whole, 'sim-think', ['reasoning', 'message']);
    assert.equal(whole.output[0].summary[0].text, reasoning.summary[0].text);
    assert.equal(whole.output[1].content[0].text, single.output_text);
  });

  test('a text format shapes the answer', patience, async () => {
    const request = { model: 'sim-chat', input: 'a person', text: { format: { type: 'json_schema', name: 'person', schema: personSchema } } };
    checkPerson((await client.responses.create(request)).output_text);
    checkPerson(JSON.stringify((await client.responses.parse(request)).output_parsed));
    checkPerson((await client.responses.stream(request).finalResponse()).output_text);
  });

  test('errors have a node\'s status, type and words', patience, async () => {
    for (const [what, request, kind, type, message] of [
      ['unknown model', { model: 'nope' }, OpenAI.NotFoundError, 'not_found_error', "model 'nope' not found"],
      ['unknown model, streamed', { model: 'nope', stream: true }, OpenAI.NotFoundError, 'not_found_error', "model 'nope' not found"],
      ['a model that cannot think', { model: 'sim-chat', reasoning: { effort: 'high' } }, OpenAI.BadRequestError, 'invalid_request_error', '"sim-chat" does not support thinking'],
    ]) {
      const error = await failure(client.responses.create({ input: 'hi', ...request }));
      assert.ok(error instanceof kind, `${what}: ${error}`);
      assert.deepEqual(error.error, { message, type, param: null, code: null }, what);
    }
    const kept = await failure(client.responses.retrieve('resp_1')); // nothing is kept, at a node neither
    assert.ok(kept instanceof OpenAI.NotFoundError, `${kept}`);
  });

  test('aborting a stream frees the slot', patience, async () => {
    const fleet = await startFleet();
    const client = open(fleet.url);
    for await (const event of await client.responses.create({ model: 'sim-chat', input: 'tell me more', stream: true })) {
      if (event.type === 'response.output_text.delta') break; // closes the connection
    }
    await fleet.idle();
    const after = await client.responses.create({ model: 'sim-chat', input: 'next', max_output_tokens: 2 });
    checkResponse(after, 'sim-chat', ['message']);
  });

  test('a stream that breaks off is an error, not success', patience, async () => {
    const fleet = await startFleet({ nodes: 3 });
    const client = open(fleet.url);
    const isText = (e) => e.type === 'response.output_text.delta';
    const { came, error } = await readBroken(await client.responses.create({ model: 'sim-chat', input: 'tell me more', stream: true }), fleet.kill, isText);
    assert.ok(error instanceof OpenAI.APIError, `${error}`);
    assert.equal(error.message, lost);
    assert.ok(came.every((e) => !e.type.endsWith('.done') && e.type !== 'response.completed'), `${kinds(came)}`);

    const stream = client.responses.stream({ model: 'sim-chat', input: 'tell me more' });
    const killed = new Promise((resolve, reject) => stream.once('response.output_text.delta', () => fleet.kill().then(resolve, reject)));
    const helped = await failure(stream.finalResponse());
    await killed;
    assert.equal(helped.message, lost);
    checkResponse(await client.responses.create({ model: 'sim-chat', input: 'next', max_output_tokens: 2 }), 'sim-chat', ['message']);
  });
});

describe('npm openai responses and the cache', () => {
  let fleet;
  let client;
  before(async () => {
    fleet = await startFleet(kept);
    client = open(fleet.url);
  }, patience);

  // Asks for a response in either shape and gives all of it that is the same in a replay.
  const respond = (request, output, check) => async (streamed, input) => {
    const wanted = { ...request, input };
    let r;
    if (streamed) {
      const events = await collect(await client.responses.create({ ...wanted, stream: true }));
      checkNumbers(events);
      assert.equal(events[0].response.id, events.at(-1).response.id);
      r = events.at(-1).response;
    } else {
      r = await client.responses.create(wanted);
    }
    checkResponse(r, request.model, output);
    check(r);
    return { id: r.id, said: r.output.map(({ id, ...item }) => item), usage: r.usage };
  };
  const text = (r) => r.output.at(-1).content[0].text; // output_text is the client's own, of whole answers
  const speaks = (r) => assert.ok(text(r).length > 40, text(r));

  test('a response that is repeated is not generated again', patience, async () => {
    await checkRepeats(fleet, 'a response', respond({ model: 'SIM-Small', instructions: 'be short' }, ['message'], speaks));
  });

  test('nor is one that reasons', patience, async () => {
    await checkRepeats(fleet, 'reasons', respond({ model: 'sim-think', reasoning: { effort: 'high' } }, ['reasoning', 'message'], speaks));
  });

  test('nor one whose answer has a format', patience, async () => {
    const format = { text: { format: { type: 'json_schema', name: 'person', schema: personSchema } } };
    await checkRepeats(fleet, 'a person', respond({ model: 'sim-small', ...format }, ['message'], (r) => checkPerson(text(r))));
    await checkRepeats(fleet, 'a parsed person', async (streamed, input) => {
      const wanted = { model: 'sim-small', input, ...format };
      const { id, output_text, output_parsed } = streamed ? await client.responses.stream(wanted).finalResponse() : await client.responses.parse(wanted);
      checkPerson(streamed ? output_text : JSON.stringify(output_parsed)); // the helper of streams parses no plain schema
      return { id, output_text };
    });
  });

  test('nor one that calls a tool, whose id stays', patience, async () => {
    await checkRepeats(fleet, 'what is the weather in Paris?', respond({ model: 'sim-tool', tools: [weather] }, ['function_call'], (r) => {
      assert.match(r.output[0].call_id, /^call_[a-z0-9]{8}$/);
      checkCity(JSON.parse(r.output[0].arguments));
    }));
  });

  test('who wants a stored answer or none hears that there is none', patience, async () => {
    for (const stream of [false, true]) {
      const error = await failure(client.responses.create({ model: 'sim-small', input: 'have you said it before', stream }, { headers: { 'Cache-Control': 'only-if-cached' } }));
      assert.ok(error instanceof OpenAI.InternalServerError, `${error}`);
      assert.deepEqual([error.status, error.error], [504, { message: notStored, type: 'api_error', param: null, code: null }]);
    }
  });
});
