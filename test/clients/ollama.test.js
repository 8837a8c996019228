// Ollama's own npm package.
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { Ollama } from 'ollama';
import {
  busy, checkCity, checkPerson, checkRepeats, checkUnit, citySchema, collect, failure, full, gateway, kept, lost, notStored, patience, personSchema,
  readBroken, single, startFleet,
} from './stage.js';

const client = new Ollama({ host: gateway });
const user = (content) => [{ role: 'user', content }];
const options = { temperature: 0 };
const weather = { type: 'function', function: { name: 'get_weather', description: 'Weather of a city', parameters: citySchema } };

function checkMetrics(last) {
  for (const field of ['total_duration', 'load_duration', 'prompt_eval_count', 'prompt_eval_duration', 'eval_count']) {
    assert.ok(Number.isInteger(last[field]) && last[field] > 0, `${field}: ${last[field]}`);
  }
}

// Checks what is true of every streamed chat and gives what it says.
function checkRecords(records, model, reason) {
  let thinking = '';
  let content = '';
  records.forEach((r, i) => {
    const last = i === records.length - 1;
    assert.equal(r.model, model, 'the model as it was spelt');
    assert.equal(r.done, last);
    assert.equal(r.message.role, 'assistant');
    assert.ok(Math.abs(Date.parse(r.created_at) - Date.now()) < 3_600_000, r.created_at);
    assert.ok(!(r.message.thinking && content), 'a thought after text');
    thinking += r.message.thinking ?? '';
    content += r.message.content;
    assert.equal('done_reason' in r, last);
  });
  assert.equal(records.at(-1).done_reason, reason);
  checkMetrics(records.at(-1));
  return { thinking, content, calls: records.flatMap((r) => r.message.tool_calls ?? []) };
}

// Asks the same streamed and single.
async function chatBoth(request, reason) {
  const streamed = await collect(await client.chat({ options, ...request, stream: true }));
  const single = await client.chat({ options, ...request });
  return {
    records: streamed,
    streamed: checkRecords(streamed, request.model, reason),
    single: checkRecords([single], request.model, reason),
  };
}

describe('npm ollama', { concurrency: 8 }, () => {
  test('lists, shows and tells its version as a node does', patience, async () => {
    const { models } = await client.list();
    assert.deepEqual(
      models.map((m) => m.name).sort(),
      ['sim-chat', 'sim-code', 'sim-embed', 'sim-small', 'sim-think', 'sim-tool', 'sim-vision'].map((m) => `${m}:latest`),
    );
    for (const m of models) {
      assert.deepEqual(Object.keys(m).sort(), ['details', 'digest', 'model', 'modified_at', 'name', 'size']);
      assert.match(m.digest, /^[0-9a-f]{64}$/);
      assert.equal(m.model, m.name);
      assert.equal(m.details.format, 'gguf');
    }
    const show = await client.show({ model: 'SIM-Tool:latest' });
    assert.deepEqual(show.capabilities, ['completion', 'tools']);
    assert.equal(show.model_info['general.architecture'], show.details.family);
    assert.ok(show.template.includes('.Tools'), show.template);
    assert.deepEqual(await client.version(), { version: '0.24.0' });
  });

  test('ps shows a model that has answered', patience, async () => {
    const client = new Ollama({ host: (await startFleet({ models: [], nodes: 2, scale: 0.05 })).url }); // others' models drive each other out
    await client.generate({ model: 'sim-code', prompt: 'hello', options: { num_predict: 1 } });
    let m;
    while (!m) m = (await client.ps()).models.find((m) => m.name === 'sim-code:latest'); // its node may be asked a little later
    assert.deepEqual(Object.keys(m).sort(), ['context_length', 'details', 'digest', 'expires_at', 'model', 'name', 'size', 'size_vram']);
    assert.ok(Date.parse(m.expires_at) > Date.now() && m.size > 0 && m.context_length > 0, JSON.stringify(m));
  });

  for (const model of ['SIM-Small', 'sim-small:LATEST', 'registry.ollama.ai/library/sim-small:latest']) {
    test(`the answer spells ${model} as the request does`, patience, async () => {
      const { streamed, single } = await chatBoth({ model, messages: user('how do you spell it'), options: { ...options, num_predict: 3 } }, 'length');
      assert.equal(streamed.content, single.content);
    });
  }

  test('a chat says the same streamed and single', patience, async () => {
    const { records, streamed, single } = await chatBoth({ model: 'sim-small', messages: user('why is the sky blue') }, 'stop');
    assert.ok(records.length >= 40, `${records.length} records, want one a token`);
    assert.equal(records.at(-1).message.content, '');
    assert.equal(streamed.content, single.content);
  });

  test('a generation says the same streamed and single', patience, async () => {
    const request = { model: 'sim-small', prompt: 'once upon a time', options };
    const records = await collect(await client.generate({ ...request, stream: true }));
    const single = await client.generate(request);
    assert.equal(records.map((r) => r.response).join(''), single.response);
    assert.ok(records.length >= 40 && records.every((r, i) => r.done === (i === records.length - 1)));
    for (const last of [records.at(-1), single]) {
      assert.equal(last.done_reason, 'stop');
      assert.ok(last.context.length > 40 && last.context.every(Number.isInteger));
      checkMetrics(last);
    }
    assert.deepEqual(records.at(-1).context, single.context);
  });

  test('tools are called and their results answered', patience, async () => {
    const messages = user('what is the weather in Paris?');
    const request = { model: 'sim-tool', messages, tools: [weather] };
    const { streamed, single } = await chatBoth(request, 'stop');
    for (const { calls } of [streamed, single]) {
      assert.equal(calls.length, 1);
      assert.match(calls[0].id, /^call_[a-z0-9]{8}$/);
      assert.equal(calls[0].function.name, 'get_weather');
      checkCity(calls[0].function.arguments);
      const after = await chatBoth({
        ...request,
        messages: [...messages, { role: 'assistant', content: '', tool_calls: calls }, { role: 'tool', content: '11 degrees', tool_name: 'get_weather' }],
      }, 'stop');
      for (const said of [after.streamed, after.single]) {
        assert.deepEqual(said.calls, []);
        assert.ok(said.content.length > 40, said.content);
      }
    }
  });

  test('a format shapes the answer', patience, async () => {
    const { streamed, single } = await chatBoth({ model: 'sim-chat', messages: user('a person'), format: personSchema }, 'stop');
    checkPerson(streamed.content);
    checkPerson(single.content);
    const any = await chatBoth({ model: 'sim-chat', messages: user('an object'), format: 'json' }, 'stop');
    assert.equal(typeof JSON.parse(any.streamed.content), 'object');
    assert.equal(typeof JSON.parse(any.single.content), 'object');
  });

  test('thoughts come apart from the answer', patience, async () => {
    for (const think of [undefined, true]) {
      const { streamed, single } = await chatBoth({ model: 'sim-think', messages: user('think'), think }, 'stop');
      assert.ok(single.thinking.length > 10 && single.content.length > 40, JSON.stringify(single));
      assert.deepEqual(streamed, single);
    }
    const { streamed, single } = await chatBoth({ model: 'sim-think', messages: user('do not'), think: false }, 'stop');
    assert.equal(streamed.thinking + single.thinking, '');
    const error = await failure(client.chat({ model: 'sim-chat', messages: user('think'), think: true, stream: true }));
    assert.equal(error.status_code, 400);
    assert.equal(error.message, '"sim-chat" does not support thinking');
  });

  test('embeddings are unit vectors', patience, async () => {
    const one = await client.embed({ model: 'SIM-Embed', input: 'the river' });
    const batch = await client.embed({ model: 'SIM-Embed', input: ['the boat', 'the river'] });
    assert.equal(one.model, 'SIM-Embed');
    for (const v of [...one.embeddings, ...batch.embeddings]) checkUnit(v, 768);
    assert.deepEqual(batch.embeddings[1], one.embeddings[0]);
    assert.ok(batch.prompt_eval_count > one.prompt_eval_count && one.prompt_eval_count > 0);
    checkUnit((await client.embed({ model: 'sim-embed', input: 'the river', dimensions: 3 })).embeddings[0], 3);
    assert.deepEqual(await client.embed({ model: 'sim-embed', input: '' }), { model: 'sim-embed', embeddings: [] });
    const old = await client.embeddings({ model: 'sim-embed', prompt: 'the river' });
    checkUnit(old.embedding, 768);
  });

  test('errors have a node\'s status and words', patience, async () => {
    const chat = { model: 'sim-chat', messages: user('hi') };
    for (const [what, ask, status, message] of [
      ['unknown model', () => client.chat({ ...chat, model: 'nope' }), 404, "model 'nope' not found"],
      ['unknown model, streamed', () => client.chat({ ...chat, model: 'nope', stream: true }), 404, "model 'nope' not found"],
      ['unknown model, embed', () => client.embed({ model: 'nope', input: 'x' }), 404, 'model "nope" not found, try pulling it first'],
      ['unknown model, show', () => client.show({ model: 'nope' }), 404, "model 'nope' not found"],
      ['no model', () => client.chat({ ...chat, model: '' }), 400, 'model is required'],
      ['invalid name', () => client.chat({ ...chat, model: 'a b' }), 400, 'invalid model name'],
      ['hosted model', () => client.chat({ ...chat, model: 'gpt-oss:120b-cloud' }), 403, 'ollama cloud is disabled: remote model is unavailable'],
      ['content that is no string', () => client.chat({ ...chat, messages: [{ role: 'user', content: 5 }] }), 400,
        'json: cannot unmarshal number into Go struct field ChatRequest.messages.content of type string'],
      ['wrong option', () => client.chat({ ...chat, options: { stop: '.' }, stream: true }), 500, 'option "stop" must be of type array'],
      ['wrong format', () => client.chat({ ...chat, format: 'yaml' }), 500, 'invalid format: "\\"yaml\\""; expected "json" or a valid JSON Schema object'],
    ]) {
      const error = await failure(ask());
      assert.deepEqual([error.name, error.status_code, error.message, error.error], ['ResponseError', status, message, message], what);
    }
  });

  test('aborting a stream frees the slot', patience, async () => {
    const fleet = await startFleet();
    const client = new Ollama({ host: fleet.url });
    const stream = await client.chat({ model: 'sim-chat', messages: user('tell me more'), stream: true });
    const error = await failure((async () => {
      for await (const record of stream) {
        assert.equal(record.done, false);
        stream.abort();
      }
    })());
    assert.equal(error.name, 'AbortError');
    await fleet.idle();
    const after = await client.chat({ model: 'sim-chat', messages: user('next'), options: { num_predict: 2 } });
    checkRecords([after], 'sim-chat', 'length');
  });

  test('a stream that breaks off is an error, not success', patience, async () => {
    const fleet = await startFleet({ nodes: 3 });
    const client = new Ollama({ host: fleet.url });
    const chat = await readBroken(await client.chat({ model: 'sim-chat', messages: user('tell me more'), stream: true }), fleet.kill);
    assert.equal(chat.error.message, lost);
    assert.ok(chat.came.every((r) => r.done === false));
    const text = await readBroken(await client.generate({ model: 'sim-chat', prompt: 'tell me more', stream: true }), fleet.kill);
    assert.equal(text.error.message, lost);
    assert.ok(text.came.every((r) => r.done === false));
    const after = await client.chat({ model: 'sim-chat', messages: user('next'), options: { num_predict: 2 } });
    checkRecords([after], 'sim-chat', 'length');
  });

  test('a full queue is an error that tells to come back', patience, async () => {
    const fleet = await startFleet(full);
    const client = new Ollama({ host: fleet.url });
    const holds = await client.chat({ model: 'sim-chat', messages: user('hold the slot'), stream: true });
    // Of two that come now one waits and one is refused, whichever is first.
    const asked = [1, 2].map(() => client.chat({ model: 'sim-chat', messages: user('me too'), options: { num_predict: 2 } }));
    const refused = await failure(Promise.race(asked));
    assert.deepEqual([refused.status_code, refused.message], [503, busy]);
    holds.abort();
    const served = (await Promise.allSettled(asked)).filter((one) => one.status === 'fulfilled');
    assert.equal(served.length, 1);
    checkRecords([served[0].value], 'sim-chat', 'length');
  });
});

describe('npm ollama and the cache', () => {
  let fleet;
  let client;
  before(async () => {
    fleet = await startFleet(kept);
    client = new Ollama({ host: fleet.url });
  }, patience);

  // Asks for a chat in either shape and gives all of it that is the same in a replay.
  const chat = (request, check) => async (streamed, prompt) => {
    const wanted = { ...request, messages: user(prompt), stream: streamed };
    const records = streamed ? await collect(await client.chat(wanted)) : [await client.chat(wanted)];
    const said = checkRecords(records, request.model, 'stop');
    check(said);
    return { ...said, counts: counts(records.at(-1)) };
  };
  const counts = ({ message, response, created_at, ...last }) => last;
  const speaks = ({ content, calls }) => assert.ok(content.length > 40 && calls.length === 0, content);

  test('a chat that is repeated is not generated again', patience, async () => {
    await checkRepeats(fleet, 'a chat', chat({ model: 'SIM-Small' }, speaks));
  });

  test('nor is one with thoughts', patience, async () => {
    await checkRepeats(fleet, 'thoughts', chat({ model: 'sim-think', think: true }, (said) => {
      speaks(said);
      assert.ok(said.thinking.length > 10, said.thinking);
    }));
  });

  test('nor one whose answer has a format', patience, async () => {
    await checkRepeats(fleet, 'a person', chat({ model: 'sim-small', format: personSchema }, ({ content }) => checkPerson(content)));
  });

  test('nor one that calls a tool', patience, async () => {
    await checkRepeats(fleet, 'what is the weather in Paris?', chat({ model: 'sim-tool', tools: [weather] }, ({ calls }) => {
      assert.equal(calls.length, 1);
      checkCity(calls[0].function.arguments);
    }));
  });

  test('nor a generation', patience, async () => {
    await checkRepeats(fleet, 'once upon a time', async (stream, prompt) => {
      const request = { model: 'sim-small', prompt, stream };
      const records = stream ? await collect(await client.generate(request)) : [await client.generate(request)];
      assert.ok(records.every((r, i) => r.model === 'sim-small' && r.done === (i === records.length - 1)));
      assert.equal(records.at(-1).done_reason, 'stop');
      checkMetrics(records.at(-1));
      return { text: records.map((r) => r.response).join(''), ...counts(records.at(-1)) };
    });
  });

  test('nor embeddings', patience, async () => {
    await checkRepeats(fleet, 'the river', async (_, input) => {
      const out = await client.embed({ model: 'SIM-Embed', input });
      checkUnit(out.embeddings[0], 768);
      return { model: out.model, embeddings: out.embeddings, tokens: out.prompt_eval_count };
    }, single);
    await checkRepeats(fleet, 'the old route', async (_, prompt) => {
      const out = await client.embeddings({ model: 'sim-embed', prompt });
      checkUnit(out.embedding, 768);
      return out;
    }, single);
  });

  test('who wants a stored answer or none hears that there is none', patience, async () => {
    const only = new Ollama({ host: fleet.url, headers: { 'Cache-Control': 'only-if-cached' } });
    const request = { model: 'sim-small', messages: user('have you said it before') };
    for (const stream of [false, true]) {
      const error = await failure(only.chat({ ...request, stream }));
      assert.deepEqual([error.name, error.status_code, error.message], ['ResponseError', 504, notStored]);
    }
    const first = await client.chat(request);
    assert.deepEqual(await only.chat(request), first);
  });
});
