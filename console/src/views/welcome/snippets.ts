/** Code that asks a model for its first answer: to be copied, with the real address, key and model in it. */
import { pieces } from '@/api/chatStream'
import { send } from '@/api/gateway'

export const LANGUAGES = ['python', 'curl', 'js'] as const
export type Language = (typeof LANGUAGES)[number]

export interface Call {
  /** Base URL of the gateway, with or without a slash at its end. */
  gateway: string
  key: string
  model: string
  question: string
}

const base = (gateway: string) => `${gateway.replace(/\/+$/, '')}/v1`
/** Inside '…' of a shell. */
const shell = (text: string) => text.replaceAll("'", `'\\''`)

export function snippet(language: Language, { gateway, key, model, question }: Call): string {
  const url = base(gateway)
  const json = JSON.stringify
  const messages = [{ role: 'user', content: question }]
  if (language === 'curl')
    return [
      `curl ${url}/chat/completions \\`,
      `  -H 'Authorization: Bearer ${shell(key)}' \\`,
      `  -H 'Content-Type: application/json' \\`,
      `  -d '${shell(json({ model, messages }))}'`,
    ].join('\n')
  if (language === 'python')
    return [
      'from openai import OpenAI',
      '',
      `client = OpenAI(base_url=${json(url)}, api_key=${json(key)})`,
      'answer = client.chat.completions.create(',
      `    model=${json(model)},`,
      `    messages=[{"role": "user", "content": ${json(question)}}],`,
      ')',
      'print(answer.choices[0].message.content)',
    ].join('\n')
  return [
    "import OpenAI from 'openai'",
    '',
    `const client = new OpenAI({ baseURL: ${json(url)}, apiKey: ${json(key)} })`,
    'const answer = await client.chat.completions.create({',
    `  model: ${json(model)},`,
    `  messages: [{ role: 'user', content: ${json(question)} }],`,
    '})',
    'console.log(answer.choices[0].message.content)',
  ].join('\n')
}

/** Ask the gateway from this browser: the text of the answer, as it arrives. Throws what `send` and `pieces` throw. */
export async function* ask({ gateway, key, model, question }: Call, signal: AbortSignal): AsyncGenerator<string> {
  const response = await send(`${base(gateway)}/chat/completions`, key, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model, messages: [{ role: 'user', content: question }], stream: true }),
    signal,
  })
  for await (const { content } of pieces(response)) if (content) yield content
}
