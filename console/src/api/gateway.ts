/**
 * Calls of the gateway itself, with a token that control signs for some minutes. The token lives in this module only.
 */
import { GatewayError } from './chatStream'
import { type ChatToken, createChatToken } from './generated'
import { call } from './problem'

/** Milliseconds that the key of a new token may take to reach the gateways. */
const PATIENCE = 3000
/** A token that ends within so many milliseconds is not used any more. */
const MARGIN = 60_000

let held: (ChatToken & { until: number }) | undefined
let asking: Promise<ChatToken> | undefined

/** A token that is good now. Rejects with an ApiError, such as when the person's console key was revoked. */
export function gatewayToken(): Promise<ChatToken> {
  if (held && held.until - Date.now() > MARGIN) return Promise.resolve(held)
  asking ??= call(createChatToken())
    .then((fresh) => (held = { ...fresh, until: Date.now() + fresh.expires_in * 1000 }))
    .finally(() => (asking = undefined))
  return asking
}

/** Forget the token: the login is over. */
export function forgetToken(): void {
  held = undefined
}

/** Send a request to the gateway at `url` as the holder of `key`. Rejects with a GatewayError if no answer came. */
export async function send(url: string, key: string, init: RequestInit): Promise<Response> {
  try {
    return await fetch(url, { ...init, headers: { ...init.headers, authorization: `Bearer ${key}` }, credentials: 'omit' })
  } catch (cause) {
    if ((cause as Error).name === 'AbortError') throw cause
    throw new GatewayError(0, 'network', (cause as Error).message) // a browser tells no page why
  }
}

/** Call `path` of the gateway. Rejects with a GatewayError if no answer came, with an ApiError if there is no token. */
export async function gateway(path: string, init: RequestInit = {}): Promise<Response> {
  const until = Date.now() + PATIENCE
  for (;;) {
    const { token, gateway_url } = await gatewayToken()
    const response = await send(gateway_url.replace(/\/$/, '') + path, token, init)
    if (response.status !== 401 || Date.now() > until) return response
    forgetToken() // its key may be on its way, or was given another secret meanwhile
    await new Promise((resolve) => setTimeout(resolve, 300))
    init.signal?.throwIfAborted()
  }
}

/** Names of the models that the person may use. */
export async function models(): Promise<string[]> {
  const response = await gateway('/v1/models')
  if (!response.ok) throw await GatewayError.of(response)
  const { data } = (await response.json()) as { data: { id: string }[] }
  return data.map((model) => model.id)
}
