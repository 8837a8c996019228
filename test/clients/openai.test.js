// OpenAI's npm package: chat, completions, embeddings and models.
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { Ollama } from 'ollama';
import OpenAI from 'openai';
import {
  busy, checkCity, checkPerson, checkRepeats, checkUnit, citySchema, collect, failure, full, gateway, kept, lost, notStored, patience, personSchema, readBroken,
  single, startFleet,
} from './stage.js';

const open = (url, more) => new OpenAI({ baseURL: `${url}/v1`, apiKey: 'unused', maxRetries: 0, ...more });
const client = open(gateway);
const user = (content) => [{ role: 'user', content }];
const weather = { type: 'function', function: { name: 'get_weather', description: 'Weather of a city', parameters: citySchema } };

function checkUsage(usage) {
  assert.deepEqual(Object.keys(usage).sort(), ['completion_tokens', 'prompt_tokens', 'total_tokens']);
  assert.ok(usage.prompt_tokens > 0 && usage.completion_tokens > 0, JSON.stringify(usage));
  assert.equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens);
}

function checkCompletion(c, model, reason) {
  assert.match(c.id, /^chatcmpl-\d+$/);
  assert.equal(c.object, 'chat.completion');
  assert.equal(c.model, model, 'the model as it was spelt');
  assert.equal(c.system_fingerprint, 'fp_ollama');
  assert.ok(Math.abs(c.created - Date.now() / 1000) < 3600, `${c.created}`);
  assert.equal(c.choices.length, 1);
  assert.equal(c.choices[0].index, 0);
  assert.equal(c.choices[0].finish_reason, reason);
  assert.equal(c.choices[0].message.role, 'assistant');
  checkUsage(c.usage);
  return c.choices[0].message;
}

// Checks what is true of every streamed chat and gives what it says.
function checkChunks(chunks, model, reason, usage) {
  let said = chunks;
  if (usage) {
    assert.deepEqual(chunks.at(-1).choices, []);
    checkUsage(chunks.at(-1).usage);
    said = chunks.slice(0, -1);
  }
  const whole = { content: '', reasoning: '', calls: [] };
  said.forEach((c, i) => {
    assert.equal(c.id, chunks[0].id);
    assert.match(c.id, /^chatcmpl-\d+$/);
    assert.equal(c.object, 'chat.completion.chunk');
    assert.equal(c.model, model);
    assert.equal(c.system_fingerprint, 'fp_ollama');
    assert.equal('usage' in c, false);
    assert.equal(c.choices.length, 1);
    const { delta, finish_reason } = c.choices[0];
    assert.equal(finish_reason, i === said.length - 1 ? reason : null);
    assert.equal(delta.role, 'assistant');
    assert.ok(!(delta.reasoning && whole.content), 'reasoning after text');
    whole.content += delta.content ?? '';
    whole.reasoning += delta.reasoning ?? '';
    whole.calls.push(...(delta.tool_calls ?? []));
  });
  return whole;
}

describe('npm openai', { concurrency: 8 }, () => {
  test('the models are those of the fleet', patience, async () => {
    const { data } = await client.models.list();
    assert.equal(data.length, 7);
    for (const m of data) {
      assert.match(m.id, /^sim-[a-z]+:latest$/);
      assert.deepEqual([m.object, m.owned_by], ['model', 'library']);
    }
    assert.equal((await client.models.retrieve('SIM-Chat')).id, 'SIM-Chat');
    assert.ok((await failure(client.models.retrieve('nope'))) instanceof OpenAI.NotFoundError);
  });

  for (const model of ['SIM-Small', 'sim-small:LATEST', 'library/sim-small']) {
    test(`a chat with ${model} says the same streamed and single`, patience, async () => {
      const request = { model, messages: user('why is the sky blue'), temperature: 0 };
      const single = await client.chat.completions.create(request);
      const { content } = checkCompletion(single, model, 'stop');
      assert.ok(content.length > 40, content);

      const plain = await collect(await client.chat.completions.create({ ...request, stream: true }));
      assert.ok(plain.length >= 40, `${plain.length} chunks`);
      assert.equal(checkChunks(plain, model, 'stop', false).content, content);

      const counted = await collect(await client.chat.completions.create({ ...request, stream: true, stream_options: { include_usage: true } }));
      assert.equal(checkChunks(counted, model, 'stop', true).content, content);
      assert.deepEqual(counted.at(-1).usage, single.usage);
    });
  }

  test('the helper makes the single answer of a stream', patience, async () => {
    const request = { model: 'sim-small', messages: user('helper'), temperature: 0, stream_options: { include_usage: true } };
    const { content } = checkCompletion(await client.chat.completions.create({ ...request, stream_options: undefined }), 'sim-small', 'stop');
    const stream = client.chat.completions.stream(request);
    assert.equal(await stream.finalContent(), content);
    checkUsage(await stream.totalUsage());
    assert.equal((await stream.finalChatCompletion()).choices[0].finish_reason, 'stop');
  });

  test('max_tokens cuts the answer, max_completion_tokens is unknown', patience, async () => {
    const request = { model: 'sim-small', messages: user('tell me more'), temperature: 0 };
    const cut = await client.chat.completions.create({ ...request, max_tokens: 3 });
    checkCompletion(cut, 'sim-small', 'length');
    assert.equal(cut.usage.completion_tokens, 3);
    checkChunks(await collect(await client.chat.completions.create({ ...request, max_tokens: 3, stream: true })), 'sim-small', 'length', false);
    checkCompletion(await client.chat.completions.create({ ...request, max_completion_tokens: 3 }), 'sim-small', 'stop');
  });

  test('logprobs are carried', patience, async () => {
    const request = { model: 'sim-small', messages: user('sure?'), temperature: 0, max_tokens: 4, logprobs: true, top_logprobs: 2 };
    const single = await client.chat.completions.create(request);
    const chunks = await collect(await client.chat.completions.create({ ...request, stream: true }));
    const listed = single.choices[0].logprobs.content;
    assert.deepEqual(chunks.flatMap((c) => c.choices[0].logprobs?.content ?? []), listed);
    assert.equal(listed.map((p) => p.token).join(''), single.choices[0].message.content);
    assert.ok(listed.every((p) => p.logprob <= 0 && p.top_logprobs.length === 2));
  });

  test('tools are called and their results answered', patience, async () => {
    const messages = user('what is the weather in Paris?');
    const request = { model: 'sim-tool', messages, tools: [weather], temperature: 0 };
    const single = checkCompletion(await client.chat.completions.create(request), 'sim-tool', 'tool_calls');
    const streamed = checkChunks(await collect(await client.chat.completions.create({ ...request, stream: true })), 'sim-tool', 'tool_calls', false);
    for (const calls of [single.tool_calls, streamed.calls]) {
      assert.equal(calls.length, 1);
      const [call] = calls;
      assert.deepEqual([call.type, call.index, call.function.name], ['function', 0, 'get_weather']);
      assert.match(call.id, /^call_[a-z0-9]{8}$/);
      checkCity(JSON.parse(call.function.arguments));
      const answered = { ...request, messages: [...messages, { role: 'assistant', content: null, tool_calls: calls }, { role: 'tool', tool_call_id: call.id, content: '11 degrees' }] };
      const after = checkCompletion(await client.chat.completions.create(answered), 'sim-tool', 'stop');
      assert.equal(after.tool_calls, undefined);
      assert.ok(after.content.length > 40, after.content);
      const again = checkChunks(await collect(await client.chat.completions.create({ ...answered, stream: true })), 'sim-tool', 'stop', false);
      assert.deepEqual(again.calls, []);
      assert.equal(again.content, after.content);
    }
  });

  test('the helper runs the tools itself', patience, async () => {
    const asked = [];
    const runner = client.chat.completions.runTools({
      model: 'sim-tool', messages: user('what is the weather in Paris?'), stream: true,
      tools: [{ type: 'function', function: { ...weather.function, parse: JSON.parse, function: (args) => { asked.push(args); return '11 degrees'; } } }],
    });
    const content = await runner.finalContent();
    assert.equal(asked.length, 1);
    checkCity(asked[0]);
    assert.ok(content.length > 40, content);
    assert.deepEqual(runner.messages.map((m) => m.role), ['user', 'assistant', 'tool', 'assistant']);
  });

  test('a response format shapes the answer', patience, async () => {
    const request = {
      model: 'sim-chat', messages: user('a person'), temperature: 0,
      response_format: { type: 'json_schema', json_schema: { name: 'person', strict: true, schema: personSchema } },
    };
    checkPerson(checkCompletion(await client.chat.completions.create(request), 'sim-chat', 'stop').content);
    checkPerson(checkChunks(await collect(await client.chat.completions.create({ ...request, stream: true })), 'sim-chat', 'stop', false).content);
    const parsed = await client.chat.completions.parse(request);
    checkPerson(JSON.stringify(parsed.choices[0].message.parsed));
    const any = await client.chat.completions.create({ ...request, response_format: { type: 'json_object' } });
    assert.equal(typeof JSON.parse(any.choices[0].message.content), 'object');
  });

  test('reasoning comes apart from the answer', patience, async () => {
    for (const reasoning_effort of [undefined, 'low', 'none']) {
      const request = { model: 'sim-think', messages: user('think'), temperature: 0, reasoning_effort };
      const single = checkCompletion(await client.chat.completions.create(request), 'sim-think', 'stop');
      const streamed = checkChunks(await collect(await client.chat.completions.create({ ...request, stream: true })), 'sim-think', 'stop', false);
      assert.equal((single.reasoning ?? '').length > 10, reasoning_effort !== 'none', single.reasoning);
      assert.ok(single.content.length > 40, single.content);
      assert.equal(streamed.reasoning, single.reasoning ?? '');
      assert.equal(streamed.content, single.content);
    }
    const error = await failure(client.chat.completions.create({ model: 'sim-think', messages: user('think'), reasoning_effort: 'minimal' }));
    assert.equal(error.status, 400);
    assert.equal(error.error.message, `invalid reasoning value: 'minimal' (must be "high", "medium", "low", "max", or "none")`);
  });

  test('a completion says the same streamed and single', patience, async () => {
    const request = { model: 'SIM-Small', prompt: 'once upon a time', temperature: 0 };
    const single = await client.completions.create(request);
    assert.match(single.id, /^cmpl-\d+$/);
    assert.deepEqual([single.object, single.model, single.system_fingerprint], ['text_completion', 'SIM-Small', 'fp_ollama']);
    const { text } = single.choices[0];
    assert.deepEqual(single.choices, [{ text, index: 0, finish_reason: 'stop' }]);
    checkUsage(single.usage);

    const plain = await collect(await client.completions.create({ ...request, stream: true }));
    assert.ok(plain.length >= 40, `${plain.length} chunks`);
    assert.ok(plain.every((c) => c.id === plain[0].id && c.model === 'SIM-Small' && !('usage' in c)));
    assert.equal(plain.map((c) => c.choices[0].text).join(''), text);
    assert.deepEqual(plain.at(-1).choices, [{ text: '', index: 0, finish_reason: 'stop' }]);

    // Every chunk carries zeros, then one without a choice the sums.
    const counted = await collect(await client.completions.create({ ...request, stream: true, stream_options: { include_usage: true } }));
    assert.deepEqual(counted[0].usage, { prompt_tokens: 0, completion_tokens: 0, total_tokens: 0 });
    assert.deepEqual([counted.at(-1).choices, counted.at(-1).usage], [[], single.usage]);
    assert.equal(counted.length, plain.length + 1);
  });

  test('a completion knows suffix, stop and max_tokens, and no list of prompts', patience, async () => {
    const filled = await client.completions.create({ model: 'sim-code', prompt: 'func main() {', suffix: '}', max_tokens: 4 });
    assert.equal(filled.usage.completion_tokens, 4);
    assert.equal(filled.choices[0].finish_reason, 'length');
    const stopped = await client.completions.create({ model: 'sim-small', prompt: 'stop there', stop: '.', temperature: 0 });
    assert.ok(stopped.choices[0].text && !stopped.choices[0].text.includes('.'), stopped.choices[0].text);
    const error = await failure(client.completions.create({ model: 'sim-small', prompt: ['a', 'b'] }));
    assert.equal(error.status, 400);
    assert.equal(error.error.message, 'json: cannot unmarshal array into Go struct field CompletionRequest.prompt of type string');
    const thinks = await client.completions.create({ model: 'sim-think', prompt: 'think', temperature: 0 });
    assert.ok(!thinks.choices[0].text.includes('think>'), 'reasoning is dropped');
    const loads = await client.completions.create({ model: 'sim-small', prompt: '' });
    assert.deepEqual(loads.choices, [{ text: '', index: 0, finish_reason: 'load' }]);
  });

  test('embeddings are the same by default, as numbers and as base64', patience, async () => {
    const request = { model: 'SIM-Embed', input: ['the river', 'the boat'] };
    const byDefault = await client.embeddings.create(request); // asks for base64 and decodes it itself
    const numbers = await client.embeddings.create({ ...request, encoding_format: 'float' });
    const packed = await client.embeddings.create({ ...request, encoding_format: 'base64' });
    for (const out of [byDefault, numbers, packed]) {
      assert.deepEqual([out.object, out.model, out.data.length], ['list', 'SIM-Embed', 2]);
      assert.deepEqual(out.data.map((e) => [e.object, e.index]), [['embedding', 0], ['embedding', 1]]);
      assert.ok(out.usage.prompt_tokens > 0 && out.usage.total_tokens === out.usage.prompt_tokens, JSON.stringify(out.usage));
    }
    for (const i of [0, 1]) {
      const list = numbers.data[i].embedding;
      checkUnit(list, 768);
      const bytes = Buffer.from(packed.data[i].embedding, 'base64');
      const unpacked = list.map((_, j) => bytes.readFloatLE(4 * j));
      assert.equal(bytes.length, 4 * 768);
      assert.deepEqual(unpacked, list.map(Math.fround));
      assert.deepEqual(Array.from(byDefault.data[i].embedding), unpacked);
    }
    checkUnit((await client.embeddings.create({ model: 'sim-embed', input: 'the river', dimensions: 3 })).data[0].embedding, 3);
    assert.equal((await client.embeddings.create({ model: 'sim-embed', input: '' })).data.length, 1, 'an empty string is an input here');
    const error = await failure(client.embeddings.create({ model: 'sim-embed', input: [] }));
    assert.deepEqual([error.status, error.error.message], [400, 'invalid input']);
  });

  test('errors have a node\'s status, type and words', patience, async () => {
    const chat = { model: 'sim-chat', messages: user('hi') };
    const make = (more) => client.chat.completions.create({ ...chat, ...more });
    for (const [what, ask, kind, type, message] of [
      ['unknown model', () => make({ model: 'nope' }), OpenAI.NotFoundError, 'not_found_error', "model 'nope' not found"],
      ['unknown model, streamed', () => make({ model: 'nope', stream: true }), OpenAI.NotFoundError, 'not_found_error', "model 'nope' not found"],
      ['unknown model, completion', () => client.completions.create({ model: 'nope', prompt: 'x' }), OpenAI.NotFoundError, 'not_found_error', "model 'nope' not found"],
      ['unknown model, embedding', () => client.embeddings.create({ model: 'nope', input: 'x' }), OpenAI.NotFoundError, 'not_found_error', 'model "nope" not found, try pulling it first'],
      ['no model', () => make({ model: '' }), OpenAI.BadRequestError, 'invalid_request_error', 'model is required'],
      ['no messages', () => make({ messages: [] }), OpenAI.BadRequestError, 'invalid_request_error', "[] is too short - 'messages'"],
      ['content that is null', () => make({ messages: user(null) }), OpenAI.BadRequestError, 'invalid_request_error', 'invalid message content type: <nil>'],
      ['image by URL', () => make({ messages: user([{ type: 'image_url', image_url: { url: 'http://localhost/x.png' } }]) }), OpenAI.BadRequestError, 'invalid_request_error',
        'image URLs are not currently supported, please use base64 encoded data instead'],
      ['embedding model', () => make({ model: 'sim-embed' }), OpenAI.BadRequestError, 'invalid_request_error', '"sim-embed" does not support chat'],
    ]) {
      const error = await failure(ask());
      assert.ok(error instanceof kind, `${what}: ${error}`);
      assert.deepEqual(error.error, { message, type, param: null, code: null }, what);
      assert.equal(error.message, `${error.status} ${message}`, what);
      assert.equal(error.type, type, what);
    }
    const hosted = await failure(make({ model: 'gpt-oss:120b-cloud' })); // a native refusal on every route
    assert.ok(hosted instanceof OpenAI.PermissionDeniedError, `${hosted}`);
    assert.equal(hosted.message, '403 "ollama cloud is disabled: remote model is unavailable"');
  });

  test('aborting a stream frees the slot', patience, async () => {
    const fleet = await startFleet();
    const client = open(fleet.url);
    const stream = await client.chat.completions.create({ model: 'sim-chat', messages: user('tell me more'), stream: true });
    for await (const chunk of stream) {
      assert.equal(chunk.choices[0].finish_reason, null);
      break; // closes the connection
    }
    await fleet.idle();
    const after = await client.chat.completions.create({ model: 'sim-chat', messages: user('next'), max_tokens: 2 });
    checkCompletion(after, 'sim-chat', 'length');
  });

  test('aborting a single answer frees the slot', patience, async () => {
    const fleet = await startFleet();
    const client = open(fleet.url);
    const leave = new AbortController();
    const asked = failure(client.chat.completions.create({ model: 'sim-chat', messages: user('tell me more') }, { signal: leave.signal }));
    const behind = client.chat.completions.create({ model: 'sim-chat', messages: user('next'), max_tokens: 2 });
    leave.abort();
    assert.ok((await asked) instanceof OpenAI.APIUserAbortError);
    checkCompletion(await behind, 'sim-chat', 'length');
    await fleet.idle();
  });

  test('a stream that breaks off is an error, not success', patience, async () => {
    const fleet = await startFleet({ nodes: 3 });
    const client = open(fleet.url);
    for (const stream of [
      () => client.chat.completions.create({ model: 'sim-chat', messages: user('tell me more'), stream: true }),
      () => client.completions.create({ model: 'sim-chat', prompt: 'tell me more', stream: true }),
    ]) {
      const { came, error } = await readBroken(await stream(), fleet.kill);
      assert.ok(error instanceof OpenAI.APIError, `${error}`);
      assert.equal(error.message, lost);
      assert.deepEqual(error.error, { message: lost, type: 'api_error', param: null, code: null });
      assert.ok(came.every((c) => c.choices[0].finish_reason === null));
    }
    checkCompletion(await client.chat.completions.create({ model: 'sim-chat', messages: user('next'), max_tokens: 2 }), 'sim-chat', 'length');
  });

  test('the helper fails when a stream breaks off', patience, async () => {
    const fleet = await startFleet();
    const stream = open(fleet.url).chat.completions.stream({ model: 'sim-chat', messages: user('tell me more') });
    const killed = new Promise((resolve, reject) => stream.once('content', () => fleet.kill().then(resolve, reject)));
    const error = await failure(stream.finalContent());
    await killed;
    assert.equal(error.message, lost);
  });

  test('a full queue is a 503 with Retry-After, and who retries is served', patience, async () => {
    const fleet = await startFleet(full);
    const client = open(fleet.url);
    const request = { model: 'sim-chat', messages: user('me too'), max_tokens: 2 };
    const holds = await client.chat.completions.create({ model: 'sim-chat', messages: user('hold the slot'), stream: true });
    // Of two that come now one waits and one is refused, whichever is first.
    const asked = [1, 2].map(() => client.chat.completions.create(request));
    const refused = await failure(Promise.race(asked));
    assert.ok(refused instanceof OpenAI.InternalServerError, `${refused}`);
    assert.deepEqual(refused.error, { message: busy, type: 'api_error', param: null, code: null });
    assert.deepEqual([refused.status, refused.headers.get('retry-after')], [503, '2']);
    const obeys = open(fleet.url, { maxRetries: 2 }).chat.completions.create(request); // refused, too; it comes back
    holds.controller.abort();
    checkCompletion(await obeys, 'sim-chat', 'length');
    const served = (await Promise.allSettled(asked)).filter((one) => one.status === 'fulfilled');
    assert.equal(served.length, 1);
    checkCompletion(served[0].value, 'sim-chat', 'length');
  });
});

describe('npm openai and the cache', () => {
  let fleet;
  let client;
  before(async () => {
    fleet = await startFleet(kept);
    client = open(fleet.url);
  }, patience);

  // Asks for a chat in either shape and gives all of it that is the same in a replay.
  const chat = (request, reason, check, usage = true) => async (streamed, prompt) => {
    const wanted = { ...request, messages: user(prompt) };
    let said;
    if (streamed) {
      const chunks = await collect(await client.chat.completions.create({ ...wanted, stream: true, stream_options: usage ? { include_usage: true } : undefined }));
      said = { id: chunks[0].id, ...checkChunks(chunks, request.model, reason, usage), usage: chunks.at(-1).usage };
    } else {
      const whole = await client.chat.completions.create(wanted);
      const { content, reasoning = '', tool_calls: calls = [] } = checkCompletion(whole, request.model, reason);
      said = { id: whole.id, content, reasoning, calls, usage: usage ? whole.usage : undefined };
    }
    check(said);
    return said;
  };
  const speaks = ({ content, calls }) => assert.ok(content.length > 40 && calls.length === 0, content);

  test('a chat that is repeated is not generated again', patience, async () => {
    await checkRepeats(fleet, 'a chat', chat({ model: 'SIM-Small' }, 'stop', speaks));
    await checkRepeats(fleet, 'a chat without usage', chat({ model: 'sim-small:LATEST' }, 'stop', speaks, false));
  });

  test('nor is one that reasons', patience, async () => {
    await checkRepeats(fleet, 'reasons', chat({ model: 'sim-think', reasoning_effort: 'high' }, 'stop', (said) => {
      speaks(said);
      assert.ok(said.reasoning.length > 10, said.reasoning);
    }));
  });

  test('nor one whose answer has a format', patience, async () => {
    const request = { model: 'sim-small', response_format: { type: 'json_schema', json_schema: { name: 'person', strict: true, schema: personSchema } } };
    await checkRepeats(fleet, 'a person', chat(request, 'stop', ({ content }) => checkPerson(content)));
    await checkRepeats(fleet, 'a parsed person', async (streamed, prompt) => {
      const wanted = { ...request, messages: user(prompt) };
      const { id, choices } = streamed ? await client.chat.completions.stream(wanted).finalChatCompletion() : await client.chat.completions.parse(wanted);
      const { content, parsed } = choices[0].message;
      checkPerson(streamed ? content : JSON.stringify(parsed)); // the helper of streams parses no plain schema
      return { id, content };
    });
  });

  test('nor one that calls a tool, whose id stays', patience, async () => {
    await checkRepeats(fleet, 'what is the weather in Paris?', chat({ model: 'sim-tool', tools: [weather] }, 'tool_calls', ({ calls }) => {
      assert.equal(calls.length, 1);
      checkCity(JSON.parse(calls[0].function.arguments));
    }));
  });

  test('nor one that the helper streams', patience, async () => {
    await checkRepeats(fleet, 'helper', async (_, prompt) => {
      const stream = client.chat.completions.stream({ model: 'sim-small', messages: user(prompt), stream_options: { include_usage: true } });
      const { id, choices } = await stream.finalChatCompletion();
      checkUsage(await stream.totalUsage());
      return { id, content: choices[0].message.content, usage: await stream.totalUsage() };
    }, [[true, true]]);
  });

  test('nor a completion', patience, async () => {
    for (const usage of [true, false]) {
      await checkRepeats(fleet, `once upon a time, usage ${usage}`, async (streamed, prompt) => {
        const request = { model: 'sim-small', prompt };
        if (!streamed) {
          const whole = await client.completions.create(request);
          checkUsage(whole.usage);
          return { id: whole.id, text: whole.choices[0].text, usage: usage ? whole.usage : undefined };
        }
        const chunks = await collect(await client.completions.create({ ...request, stream: true, stream_options: usage ? { include_usage: true } : undefined }));
        assert.ok(chunks.every((c) => c.id === chunks[0].id && c.model === 'sim-small' && 'usage' in c === usage));
        return { id: chunks[0].id, text: chunks.flatMap((c) => c.choices).map((c) => c.text).join(''), usage: chunks.at(-1).usage };
      });
    }
  });

  test('nor embeddings', patience, async () => {
    for (const encoding_format of [undefined, 'float', 'base64']) {
      await checkRepeats(fleet, `the river as ${encoding_format}`, async (_, input) => {
        const out = await client.embeddings.create({ model: 'SIM-Embed', input, encoding_format });
        if (encoding_format !== 'base64') checkUnit(Array.from(out.data[0].embedding), 768);
        return out;
      }, single);
    }
  });

  test('nor what an equal native chat has said', patience, async () => {
    const native = new Ollama({ host: fleet.url });
    const asked = chat({ model: 'SIM-Small', temperature: 0 }, 'stop', speaks, false);
    await checkRepeats(fleet, 'why is the sky blue', async (streamed, prompt, place) => {
      if (place === 1) return asked(streamed, prompt);
      const request = { model: 'sim-small', messages: user(prompt), options: { temperature: 0, top_p: 1 } };
      const records = streamed ? await collect(await native.chat({ ...request, stream: true })) : [await native.chat(request)];
      return { content: records.map((r) => r.message.content).join(''), reasoning: '', calls: [], usage: undefined };
    });
  });

  test('who wants a stored answer or none hears that there is none', patience, async () => {
    const only = { headers: { 'Cache-Control': 'only-if-cached' } };
    const request = { model: 'sim-small', messages: user('have you said it before') };
    const before = await fleet.generated();
    for (const ask of [
      () => client.chat.completions.create(request, only),
      () => client.chat.completions.create({ ...request, stream: true }, only),
      () => client.chat.completions.stream(request, only).finalContent(),
      () => client.completions.create({ model: 'sim-small', prompt: 'have you said it before' }, only),
      () => client.embeddings.create({ model: 'sim-embed', input: 'have you said it before' }, only),
    ]) {
      const error = await failure(ask());
      assert.ok(error instanceof OpenAI.InternalServerError, `${error}`);
      assert.deepEqual([error.status, error.error], [504, { message: notStored, type: 'api_error', param: null, code: null }]);
      assert.equal(error.message, `504 ${notStored}`);
    }
    assert.equal(await fleet.generated(), before);
    const first = await client.chat.completions.create(request);
    const { data, response } = await client.chat.completions.create(request, only).withResponse();
    assert.equal(checkCompletion(data, 'sim-small', 'stop').content, first.choices[0].message.content);
    assert.match(response.headers.get('cache-status'), /^caddy-ollama; hit; ttl=\d+$/);
    assert.match(response.headers.get('age'), /^\d+$/);
  });
});
