/** Code that asks a model for its first answer: to be copied, with the real address, key and model in it. */
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

export type Outcome = { kind: 'answer'; text: string } | { kind: 'refused'; status: number; reason: string } | { kind: 'unreachable' }

/** Ask the gateway from this browser. */
export async function ask({ gateway, key, model, question }: Call, send: typeof fetch = fetch): Promise<Outcome> {
  let answer: Response
  let text: string
  try {
    answer = await send(`${base(gateway)}/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
      body: JSON.stringify({ model, messages: [{ role: 'user', content: question }] }),
      signal: AbortSignal.timeout(120_000),
    })
    text = await answer.text()
  } catch {
    return { kind: 'unreachable' } // a browser tells no page why
  }
  try {
    const body = JSON.parse(text)
    const content = body?.choices?.[0]?.message?.content
    if (answer.ok && typeof content === 'string') return { kind: 'answer', text: content }
    return { kind: 'refused', status: answer.status, reason: String(body?.error?.message ?? text.slice(0, 500)) }
  } catch {
    return { kind: 'refused', status: answer.status, reason: text.slice(0, 500) || String(answer.status) }
  }
}
