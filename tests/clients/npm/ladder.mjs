// The official client for JavaScript. Prints one line of JSON for each rung, as rungs.py does.
import { Ollama } from 'ollama'

const { OLLAMA_HOST: host, CHAT_MODEL: chatModel, ENDLESS_MODEL: endlessModel } = process.env
const { TOOLS_MODEL: toolsModel, EMBEDDING_MODEL: embeddingModel } = process.env
const client = new Ollama({ host })
const messages = [{ role: 'user', content: 'What is the capital of France?' }]
const greedy = { temperature: 0, num_predict: 24 }
const tool = {
  type: 'function',
  function: {
    name: 'get_weather', description: 'The weather of a city',
    parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
  },
}
const near = ['The cat sleeps on the sofa.', 'A cat is asleep on the couch.', 'Interest rates rose again in March.']
const freeSeconds = 20

function must(holds, what) {
  if (!holds) throw new Error(what)
}

function cosine(one, other) {
  const norm = (vector) => Math.hypot(...vector)
  return one.reduce((sum, value, index) => sum + value * other[index], 0) / norm(one) / norm(other)
}

async function isFreeAgain() {
  const begun = Date.now()
  await client.generate({ model: endlessModel, prompt: 'Hi', options: { num_predict: 1 } })
  must(Date.now() - begun < freeSeconds * 1000, 'the slot was not free')
}

const rungs = {
  async list() {
    must((await client.list()).models.some((model) => model.name === chatModel), 'not listed')
    must((await client.show({ model: chatModel })).details.format === 'gguf', 'not shown')
  },
  async chat() {
    must((await client.chat({ model: chatModel, messages, options: greedy })).message.content.includes('Paris'), 'no Paris')
  },
  async stream() {
    const pieces = []
    for await (const part of await client.chat({ model: chatModel, messages, options: greedy, stream: true })) {
      pieces.push(part.message.content)
    }
    must(pieces.length > 3 && pieces.join('').includes('Paris'), pieces.join('|'))
  },
  async tools() {
    const asked = [{ role: 'user', content: 'Weather in Paris?' }]
    const answer = await client.chat({ model: toolsModel, messages: asked, tools: [tool], options: { temperature: 0 } })
    const { name, arguments: given } = answer.message.tool_calls[0].function
    must(name === 'get_weather' && given.city === 'Paris', JSON.stringify(answer.message))
  },
  async embeddings() {
    const { embeddings: [one, other, unlike] } = await client.embed({ model: embeddingModel, input: near })
    must(cosine(one, other) > cosine(one, unlike), 'not near')
  },
  async errors() {
    const error = await client.chat({ model: 'no-such-model:1b', messages }).then(() => null, (raised) => raised)
    must(error?.status_code === 404 && error.message === "model 'no-such-model:1b' not found", String(error))
  },
  async cancel() {
    const options = { num_predict: 100_000, temperature: 0 }
    const stream = await client.chat({ model: endlessModel, messages, options, stream: true })
    let aborted = false
    try {
      for await (const _ of stream) stream.abort()
    } catch (error) {
      aborted = error.name === 'AbortError'
    }
    must(aborted, 'no AbortError')
    await isFreeAgain()
  },
}

for (const [ability, rung] of Object.entries(rungs)) {
  let [result, detail] = ['ok', '']
  if ((ability === 'tools' && !toolsModel) || (ability === 'embeddings' && !embeddingModel)) {
    ;[result, detail] = ['-', 'no model for it on this server']
  } else {
    await rung().catch((error) => {
      ;[result, detail] = ['failed', String(error).slice(0, 300)]
      console.error(error)
    })
  }
  console.log(JSON.stringify({ client: 'ollama (npm)', ability, result, detail }))
}
