/** From a conversation to what is sent to the gateway, and to the code and the files that people take away. */
import type { ChatMessage, ChatSettings, ChatToolCall } from '@/api/generated'

/** Body of POST /v1/chat/completions. */
export type ChatRequest = { model: string; messages: object[]; stream?: boolean } & Record<string, unknown>

/** A field that holds JSON does not: `field` is its name. */
export class NotJson extends Error {
  constructor(
    readonly field: 'tools' | 'response_format',
    reason: string,
  ) {
    super(reason)
  }
}

/**
 * The request for an answer to these messages. Throws NotJson. Tool calls are sent with their results; upstreams take no
 * call without one, no result without its call, and no answer without either text or calls: these are left out.
 */
export function requestOf(settings: ChatSettings, messages: ChatMessage[]): ChatRequest {
  const body: ChatRequest = { model: settings.model ?? '', messages: [] }
  if (settings.system?.trim()) body.messages.push({ role: 'system', content: settings.system })
  let open: string[] = []
  for (const [index, { role, content = '', images = [], tool_calls: calls = [], tool_call_id: id = '' }] of messages.entries()) {
    if (role === 'tool') {
      if (open.includes(id)) body.messages.push({ role, tool_call_id: id, content })
      continue
    }
    open = role === 'assistant' && haveResults(calls, messages.slice(index + 1)) ? calls.map((call) => call.id!) : []
    if (open.length) {
      const called = calls.map(({ id, name, arguments: text }) => ({ id, type: 'function', function: { name, arguments: text } }))
      body.messages.push({ role, content: content || null, tool_calls: called })
    } else if (images.length) {
      const parts = images.map((url) => ({ type: 'image_url', image_url: { url } }))
      body.messages.push({ role, content: content ? [{ type: 'text', text: content }, ...parts] : parts })
    } else if (content) body.messages.push({ role, content })
  }
  for (const name of ['temperature', 'top_p', 'max_tokens', 'seed'] as const) {
    const value = settings[name]
    if (value !== undefined && value !== null) body[name] = value
  }
  if (settings.stop?.length) body.stop = settings.stop
  for (const field of ['tools', 'response_format'] as const) {
    const text = settings[field]?.trim()
    if (!text) continue
    try {
      body[field] = JSON.parse(text)
    } catch (cause) {
      throw new NotJson(field, (cause as Error).message)
    }
  }
  return body
}

/** Whether the messages begin with a result for each of the calls. */
function haveResults(calls: readonly ChatToolCall[], after: ChatMessage[]): boolean {
  const end = after.findIndex((message) => message.role !== 'tool')
  const results = new Set((end < 0 ? after : after.slice(0, end)).map((message) => message.tool_call_id))
  return calls.every((call) => call.id && results.has(call.id))
}

/**
 * The calls of an answer, each with an id (of its own, where the upstream has given none), and the messages with their
 * results. `place` makes such an id one of a kind: it is the number of messages so far.
 */
export function resultsOf(answer: ChatMessage, place: number, results: string[]): { calls: ChatToolCall[]; answers: ChatMessage[] } {
  const calls = (answer.tool_calls ?? []).map((call, index) => ({ ...call, id: call.id || `call_${place}_${index}` }))
  return { calls, answers: calls.map((call, index) => ({ role: 'tool', tool_call_id: call.id, content: results[index] ?? '' })) }
}

/** Whether the results of an answer's tool calls may be written: it is whole. */
export const wantsResults = (answer: ChatMessage): boolean => Boolean(answer.tool_calls?.length && !answer.failure && !answer.stopped)

/** JSON with indents; what is no JSON, as it is. */
export function pretty(text: string): string {
  try {
    return JSON.stringify(JSON.parse(text), null, 2)
  } catch {
    return text // cut, or not JSON: as it was written
  }
}

/** The same request for a shell; the key comes from the environment. */
export function toCurl(gatewayUrl: string, body: ChatRequest): string {
  const quoted = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`
  return [
    `curl ${quoted(`${gatewayUrl}/v1/chat/completions`)} \\`,
    '  -H "Authorization: Bearer $TUNEGATE_API_KEY" \\',
    "  -H 'Content-Type: application/json' \\",
    `  -d ${quoted(JSON.stringify(body, null, 2))}`,
  ].join('\n')
}

/** The same request with OpenAI's library for Python. */
export function toPython(gatewayUrl: string, body: ChatRequest): string {
  const given = Object.entries(body).map(([name, value]) => `    ${name}=${python(value, '    ')},`)
  return [
    'import os',
    '',
    'from openai import OpenAI',
    '',
    `client = OpenAI(base_url=${python(`${gatewayUrl}/v1`)}, api_key=os.environ["TUNEGATE_API_KEY"])`,
    'answer = client.chat.completions.create(',
    ...given,
    ')',
    'print(answer.choices[0].message.content)',
  ].join('\n')
}

/** A value of JSON as Python writes it. JSON's strings are Python's, too. */
function python(value: unknown, indent = ''): string {
  const inner = `${indent}    `
  if (value === null) return 'None'
  if (value === true) return 'True'
  if (value === false) return 'False'
  if (typeof value !== 'object') return JSON.stringify(value)
  const [open, close] = Array.isArray(value) ? ['[', ']'] : ['{', '}']
  const items = Array.isArray(value)
    ? value.map((one) => python(one, inner))
    : Object.entries(value).map(([name, one]) => `${JSON.stringify(name)}: ${python(one, inner)}`)
  return items.length ? `${open}\n${items.map((item) => `${inner}${item},\n`).join('')}${indent}${close}` : open + close
}

/** The conversation for people to read. `names` are the headings of the roles. */
export function toMarkdown(title: string, settings: ChatSettings, messages: ChatMessage[], names: Record<ChatMessage['role'], string>): string {
  const parts = [`# ${title}`]
  if (settings.system) parts.push(`> ${settings.system.replaceAll('\n', '\n> ')}`)
  for (const message of messages) {
    parts.push(`## ${names[message.role]}${message.model ? ` · ${message.model}` : ''}`)
    if (message.content) parts.push(message.content)
    parts.push(...(message.images ?? []).map((url) => `![](${url})`))
    parts.push(...(message.tool_calls ?? []).map((tool) => `\`\`\`json\n${tool.name} ${tool.arguments}\n\`\`\``))
    if (message.failure) parts.push(`**${message.failure.message}**`)
  }
  return `${parts.join('\n\n')}\n`
}

/** A title for a conversation that has none: how it begins. */
export function titleOf(text: string): string {
  const line = [...text.trim().replace(/\s+/g, ' ')]
  return line.length > 60 ? `${line.slice(0, 59).join('')}…` : line.join('')
}
