// The official client for JavaScript.
import { Ollama } from 'ollama'
import {
  areNear, chatModel, climb, embeddingModel, endlessModel, host, isFreeAgain, keyedHost, longTokens, messages, missing,
  must, near, takesTheKey, tool, toolsModel, weather,
} from './rungs.mjs'

const client = new Ollama({ host })
const greedy = { temperature: 0, num_predict: 24 }

await climb('ollama (npm)', {
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
    const asked = { model: toolsModel, messages: weather, tools: [tool], options: { temperature: 0 } }
    const answer = await client.chat(asked)
    const { name, arguments: given } = answer.message.tool_calls[0].function
    must(name === 'get_weather' && given.city === 'Paris', JSON.stringify(answer.message))
  },
  async embeddings() {
    areNear((await client.embed({ model: embeddingModel, input: near })).embeddings)
  },
  async errors() {
    const error = await client.chat({ model: missing, messages }).then(() => null, (raised) => raised)
    must(error?.status_code === 404 && error.message === `model '${missing}' not found`, String(error))
  },
  async cancel() {
    const options = { num_predict: longTokens, temperature: 0 }
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
  async key() {
    const keyed = (key) => new Ollama({ host: keyedHost, headers: { Authorization: `Bearer ${key}` } })
    await takesTheKey((key) => keyed(key).list())
  },
})
