// OpenAI's client for JavaScript on /v1.
import OpenAI from 'openai'
import {
  areNear, chatModel, climb, embeddingModel, endlessModel, host, isFreeAgain, keyedHost, longTokens, messages, missing,
  must, near, takesTheKey, tool, toolsModel, weather,
} from './rungs.mjs'

const to = (address, apiKey) => new OpenAI({ baseURL: `${address}/v1`, apiKey, maxRetries: 0 })
const client = to(host, 'none')
const asked = { model: chatModel, messages, temperature: 0, max_tokens: 24 }

await climb('openai (npm)', {
  async list() {
    const names = []
    for await (const model of client.models.list()) names.push(model.id)
    must(names.includes(chatModel), names.join())
    must((await client.models.retrieve(chatModel)).id === chatModel, 'not retrieved')
  },
  async chat() {
    must((await client.chat.completions.create(asked)).choices[0].message.content.includes('Paris'), 'no Paris')
    const answer = await client.responses.create({
      model: chatModel, input: messages[0].content, temperature: 0, max_output_tokens: 24,
    })
    must(answer.output_text.includes('Paris'), answer.output_text)
  },
  async stream() {
    const pieces = []
    for await (const chunk of await client.chat.completions.create({ ...asked, stream: true })) {
      if (chunk.choices[0]?.delta.content) pieces.push(chunk.choices[0].delta.content)
    }
    must(pieces.length > 3 && pieces.join('').includes('Paris'), pieces.join('|'))
  },
  async tools() {
    const answer = await client.chat.completions.create({
      model: toolsModel, messages: weather, tools: [tool], temperature: 0,
    })
    const { name, arguments: given } = answer.choices[0].message.tool_calls[0].function
    must(name === 'get_weather' && JSON.parse(given).city === 'Paris', given)
  },
  async embeddings() {
    const { data } = await client.embeddings.create({ model: embeddingModel, input: near })
    areNear(data.map((row) => row.embedding))
  },
  async errors() {
    const error = await client.chat.completions.create({ ...asked, model: missing }).then(() => null, (raised) => raised)
    must(error?.status === 404 && error.message.includes(`model '${missing}' not found`), String(error))
  },
  async cancel() {
    const stream = await client.chat.completions.create({
      ...asked, model: endlessModel, max_tokens: longTokens, stream: true,
    })
    for await (const _ of stream) break
    await isFreeAgain()
  },
  async key() {
    await takesTheKey((key) => to(keyedHost, key).models.list())
  },
})
