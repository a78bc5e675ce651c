// What the scripts for JavaScript have in common; rungs.py is the same for Python.
export const {
  OLLAMA_HOST: host, CHAT_MODEL: chatModel, ENDLESS_MODEL: endlessModel, KEYED_HOST: keyedHost, KEY: key,
} = process.env
export const { TOOLS_MODEL: toolsModel, EMBEDDING_MODEL: embeddingModel } = process.env
export const missing = 'no-such-model:1b'
export const messages = [{ role: 'user', content: 'What is the capital of France?' }]
export const weather = [{ role: 'user', content: 'Weather in Paris?' }]
export const longTokens = 100_000
export const near = [
  'The cat sleeps on the sofa.', 'A cat is asleep on the couch.', 'Interest rates rose again in March.',
]
export const tool = {
  type: 'function',
  function: {
    name: 'get_weather', description: 'The weather of a city',
    parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
  },
}
const freeSeconds = 30

export function must(holds, what) {
  if (!holds) throw new Error(what)
}

export function areNear([one, other, unlike]) {
  const norm = (vector) => Math.hypot(...vector)
  const cosine = (a, b) => a.reduce((sum, value, index) => sum + value * b[index], 0) / norm(a) / norm(b)
  must(one.length === other.length && one.length > 100, 'no vectors')
  must(cosine(one, other) > cosine(one, unlike), 'not near')
}

export async function isFreeAgain() {
  const body = { model: endlessModel, prompt: 'Hi', stream: false, options: { num_predict: 1 } }
  const begun = Date.now()
  const answer = await fetch(`${host}/api/generate`, { method: 'POST', body: JSON.stringify(body) })
  must((await answer.json()).done, 'no answer')
  must(Date.now() - begun < freeSeconds * 1000, 'the slot was not free')
}

// `ask(key)` must succeed with the right key, and be refused with another.
export async function takesTheKey(ask) {
  await ask(key)
  const error = await ask('a-wrong-key').then(() => null, (raised) => raised)
  must(error?.status_code === 401 || error?.status === 401 || /401|unauthorized/i.test(String(error)), String(error))
}

// Tries each rung and prints one line of JSON for it; a text says why the client has no such thing.
export async function climb(client, rungs) {
  const absent = {
    tools: !toolsModel && 'no model for it on this server',
    embeddings: !embeddingModel && 'no model for it on this server',
    key: !keyedHost && 'nothing asks for one here',
  }
  for (const [ability, rung] of Object.entries(rungs)) {
    let [result, detail] = ['ok', '']
    if (typeof rung === 'string' || absent[ability]) {
      ;[result, detail] = ['-', typeof rung === 'string' ? rung : absent[ability]]
    } else {
      await rung().catch((error) => {
        ;[result, detail] = ['failed', String(error).slice(0, 300)]
        console.error(error)
      })
    }
    console.log(JSON.stringify({ client, ability, result, detail }))
  }
}
